"""G1: an operator on Debian 12, whose own Python, 3.11.2, runs `sparkbundle`.

The tests' Python is often a later patch release, which has what 3.11.2 lacks: 3.11.4 brought the
filters of `tarfile`. The packages are those of the tests; a 3.11 loads what another 3.11 has
installed.

No machine can be asked to install an old patch release: where /usr/bin/python3 is none, or where
the tests run under another minor version, whose packages it does not load, these tests are skipped,
also with CI set. Hosts are Debian 12 in tests/cluster, whatever this machine is.
"""

import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import CommandLine
from tests.deploy.test_push import sample
from tests.deploy.test_ssh import Lab, lab_of

PYTHON = "/usr/bin/python3"
PROGRAMS = ("sparkbundle", "ansible-inventory", "ansible-playbook")


def reason_to_skip() -> str:
    """Why these tests cannot run here; empty where they can."""
    try:
        version = ask_python("'.'.join(map(str, sys.version_info[:3]))")
    except OSError as error:
        return str(error)
    if not (3, 11) <= tuple(map(int, version.split("."))) < (3, 11, 4):
        return f"{PYTHON} is {version}, not Debian 12's 3.11.2"
    if sys.version_info[:2] != (3, 11):
        return f"Python 3.11 does not load the packages of {platform.python_version()}"
    return ""


def ask_python(expression: str) -> str:
    """What the system's Python says that an expression is."""
    code = f"import sys, tarfile; print({expression})"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


REASON = reason_to_skip()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


class OldTarfileError(Exception):
    """The system's tarfile lacks what `push` and `pull` use."""


# A distribution may bring them to its older Python.
fails_with_old_tarfile = pytest.mark.xfail(
    not REASON and ask_python("hasattr(tarfile, 'data_filter')") == "False",
    strict=True,
    raises=OldTarfileError,
    reason="G1: push and pull use TarInfo.replace and filters, which tarfile has since 3.11.4",
)


class SystemPython(CommandLine):
    """`sparkbundle` in an environment of the system's Python that has the tests' packages."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.bin = home / "venv/bin"
        # Without pip, which Debian keeps in a package of its own.
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", home / "venv"], check=True)
        (packages,) = home.glob("venv/lib/python3*/site-packages")
        theirs = sysconfig.get_path("purelib")
        (packages / "tests.pth").write_text(f"import site; site.addsitedir({theirs!r})\n")
        for name in PROGRAMS:
            _, code = Path(sys.executable).with_name(name).read_text().split("\n", 1)
            (self.bin / name).write_text(f"#!{self.bin}/python\n{code}")
            (self.bin / name).chmod(0o755)

    def popen(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.bin / "sparkbundle", *words],
            env=self.env | env,
            cwd=self.home,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def copy(self, *words: str) -> None:
        """Run `push` or `pull`.

        Raises:
            OldTarfileError: it fails for want of something that tarfile has since 3.11.4.
        """
        try:
            self(*words)
        except AssertionError as error:
            if re.search(r"AttributeError: .*'(?:replace|FilterError)'", str(error)):
                raise OldTarfileError from error
            raise


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemPython]:
    command = SystemPython(tmp_path_factory.mktemp("debian-12"))
    yield command
    command("down", "--all", "--purge")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_of(tmp_path_factory.mktemp("lab"), "boss", "w1") as hosts:
        yield hosts


def test_help_and_settings(line: SystemPython):
    assert "One command to a secured Spark cluster" in line("--help").stdout
    settings = line.json("config", "show", SPARKBUNDLE_UP_WORKERS="3")["settings"]
    assert settings["up.workers"]["value"] == "3"


def test_a_broken_inventory_is_named(line: SystemPython):
    (line.home / "hosts.yml").write_text("all: [\n")
    assert "hosts.yml" in line("check", "-i", "hosts.yml", code=3).stderr


def test_a_command_runs_on_all_hosts(line: SystemPython, lab: Lab):
    assert line("run", "-i", str(lab.path), "--", "echo $((6*7))").stdout.count("42") == 2


@fails_with_old_tarfile
def test_a_folder_goes_to_all_hosts(line: SystemPython, lab: Lab):
    sample(line.home / "folder")
    line.copy("push", "-i", str(lab.path), "folder", "copy")
    for server in lab.servers.values():
        assert (server.home / "copy/run.sh").stat().st_mode & 0o7777 == 0o750
        assert (server.home / "copy/-n").read_text() == "a name like an option"


# A single file comes as a tar stream, too.
@fails_with_old_tarfile
@pytest.mark.parametrize("name", ["folder", "file"])
def test_files_and_folders_come_from_hosts(line: SystemPython, lab: Lab, name: str):
    home = lab.servers["w1"].home
    (home / "folder").mkdir(exist_ok=True)
    (home / "folder/file").write_text("w1")
    (home / "file").write_text("w1")
    line.copy("pull", "-i", str(lab.path), f"w1:{name}", f"{name}-here")
    copy = line.home / f"{name}-here"
    assert (copy / "file" if name == "folder" else copy).read_text() == "w1"


# Daemons, jobs and the agent that keeps them run under 3.11.2 on the hosts of tests/cluster.
@pytest.mark.cluster
@pytest.mark.long
def test_a_cluster_on_this_machine_and_a_job_on_it(line: SystemPython):
    app = line.home / "app.py"
    app.write_text("import sys\nprint('PYTHON', sys.version_info[:2], sys.prefix)\n")
    assert not line.json("status", code=1)["up"]
    line("up", "--workers", "1", "--cores-per-worker", "1", "--memory-per-worker", "512m")
    assert line.json("status")["healthy"]
    said = line("submit", "--wait", str(app)).stdout
    assert f"PYTHON (3, 11) {line.home}/venv" in said
    assert line("logs", "last").stdout in said
    assert [job["state"] for job in line.json("jobs")["jobs"]] == ["SUCCEEDED"]
    line("down", "--purge")
    assert line.processes("default") == []
