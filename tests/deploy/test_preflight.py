"""What must be right before anything starts: each thing wrong is one message and exit code 3."""

import os
import socket
from pathlib import Path

import psutil
import pytest

from tests.deploy.conftest import CommandLine


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def assert_nothing_there(cli: CommandLine) -> None:
    assert cli.processes("default") == []
    assert not (cli.directory("default") / "cluster.json").exists()
    assert not (cli.directory("default") / "conf").exists()


def test_java_too_old(cli: CommandLine):
    java = program(cli.home / "bin/java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2")
    path = f"{java.parent}{os.pathsep}{cli.env['PATH']}"
    cli.env.pop("JAVA_HOME", None)
    shown = cli("up", code=3, PATH=path).stderr
    assert "Java 11 is too old" in shown
    assert str(java) in shown
    assert "17" in shown
    assert_nothing_there(cli)


def test_java_8_of_java_home(cli: CommandLine):
    program(cli.home / "jdk/bin/java", "echo 'java version \"1.8.0_392\"' >&2")
    shown = cli("up", code=3, JAVA_HOME=str(cli.home / "jdk")).stderr
    assert "Java 8 is too old" in shown
    assert "JAVA_HOME" in shown


def test_a_trimmed_java(cli: CommandLine):
    program(
        cli.home / "jdk/bin/java",
        'case "$*" in *incubator*) exit 1;; esac; echo \'openjdk version "21.0.1"\' >&2',
    )
    shown = cli("up", code=3, JAVA_HOME=str(cli.home / "jdk")).stderr
    assert "jdk.incubator.vector" in shown


def test_java_home_without_java(cli: CommandLine):
    shown = cli("up", code=3, JAVA_HOME=str(cli.home)).stderr
    assert "JAVA_HOME holds no Java" in shown


def test_no_java(cli: CommandLine):
    (cli.home / "bin").mkdir()
    cli.env.pop("JAVA_HOME", None)
    shown = cli("up", code=3, PATH=str(cli.home / "bin")).stderr
    assert "there is no Java" in shown
    assert_nothing_there(cli)


def test_pyspark_is_not_installed(cli: CommandLine):
    """The same Python with everything that is installed, but pyspark."""
    packages = Path(psutil.__file__).parents[1]
    less = cli.home / "packages"
    less.mkdir()
    for entry in packages.iterdir():
        if not entry.name.startswith(("pyspark", "__editable__")):
            (less / entry.name).symlink_to(entry)
    deploy = Path(__file__).parents[2] / "deploy"
    code = "from sparkbundle.cli import main; main()"
    shown = cli.run_python("-S", "-c", code, "up", code=3, PYTHONPATH=f"{less}:{deploy}")
    assert "pyspark is not installed" in shown
    assert "pip install" in shown
    assert_nothing_there(cli)


@pytest.mark.parametrize("option", ["--master-port", "--ui-port"])
def test_a_port_that_is_taken(cli: CommandLine, option: str):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        shown = cli("up", option, str(port), code=3).stderr
    assert f"port {port} is taken by process {os.getpid()}" in shown
    assert option in shown
    assert_nothing_there(cli)


def test_too_much_memory(cli: CommandLine):
    shown = cli("up", "--memory-per-worker", "900g", code=3).stderr
    assert "2 workers × 921600 MiB = 1843200 MiB do not fit" in shown
    assert_nothing_there(cli)


def test_no_disk_space(cli: CommandLine):
    shown = cli("up", "--min-free-disk", "900000t", code=3).stderr
    assert "MiB free" in shown
    assert str(cli.home) in shown
    assert_nothing_there(cli)


def test_a_disk_that_refuses_to_write(cli: CommandLine):
    """A file-size limit of zero is what a full disk looks like to a writer."""
    shown = cli.run_python(
        "-c",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
        "from sparkbundle.cli import main; main()",
        "up",
        code=3,
    )
    assert "cannot be written" in shown
    assert "SPARKBUNDLE_STATE" in shown
    assert_nothing_there(cli)


def test_a_state_directory_that_cannot_be(cli: CommandLine):
    (cli.home / "file").write_text("")
    shown = cli("up", code=3, SPARKBUNDLE_STATE=str(cli.home / "file" / "state")).stderr
    assert "cannot be written" in shown
    assert "SPARKBUNDLE_STATE" in shown
