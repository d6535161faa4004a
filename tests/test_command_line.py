"""Both command lines: `--help` imports no command, and its lines are the commands' own."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import sentiment.cli
import sentiment.commands
import sparkbundle.cli
import sparkbundle.commands
from tests import processes

GROUPS = {
    "sparkbundle": (sparkbundle.cli.cli, sparkbundle.commands.ENTRIES),
    "sentiment": (sentiment.cli.cli, sentiment.commands.ENTRIES),
}


@pytest.mark.parametrize(
    ("program", "name"), [(program, name) for program in GROUPS for name in GROUPS[program][1]]
)
def test_the_line_of_a_command_is_the_first_sentence_of_its_own_help(program: str, name: str):
    group, entries = GROUPS[program]
    command = group.get_command(click.Context(group), name)
    assert command is not None and command.help is not None
    assert command.name == name
    sentence = re.match(r".*?\.(?=\s|$)", command.help, re.DOTALL)
    assert sentence is not None
    assert entries[name].help == " ".join(sentence[0].split())


@pytest.mark.parametrize("program", GROUPS)
def test_help_imports_no_command_and_nothing_large(program: str):
    """Users wait for it: a JVM's, torch's and Fabric's packages take up to a second."""
    code = (
        f"import sys; sys.argv = ['{program}', '--help']\n"
        f"from {program}.__main__ import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Commands:" in done.stdout
    modules = set(done.stderr.split())
    assert {name for name in modules if name.startswith(f"{program}.commands.")} == set()
    assert modules & {"torch", "numpy", "pyarrow", "pyspark", "fabric", "paramiko", "yaml"} == set()


@pytest.mark.parametrize(
    "words", [["--help"], ["nonsense"], ["score", "--model", "none", "--text", "good"], []]
)
def test_a_warm_process_ends_as_a_cold_one_does(tmp_path: Path, words: list[str]):
    """Its exit code, its streams and its name: the other tests rely on them."""

    def outcome(start: type[subprocess.Popen]) -> tuple[str, str, int]:
        process = start(
            [str(Path(sys.executable).with_name("sentiment")), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            text=True,
        )
        return *process.communicate(timeout=60), process.returncode

    assert outcome(processes.WarmProcess) == outcome(subprocess.Popen)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_a_warm_process_hears_signals(tmp_path: Path, number: signal.Signals, code: int):
    process = processes.WarmProcess(
        [str(Path(sys.executable).with_name("sentiment")), "board", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and process.stderr.readline()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
