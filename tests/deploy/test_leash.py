"""The leash: whatever a program has started ends with the leash's parent."""

import subprocess
import sys
from pathlib import Path

import psutil

from sparkbundle import leash
from tests.deploy.conftest import wait_until

# As Ansible does: a child in a session of its own, and one whose parent has gone.
PROGRAM = """
setsid sleep 4711 &
(setsid sleep 4712 &)
echo begun > "$0/begun"
wait
"""


def held(scratch: Path, program: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, leash.__file__, scratch, "sh", "-c", program, scratch]
    return subprocess.Popen(words, stdin=subprocess.PIPE)


def sleepers() -> list[int]:
    return [
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if one.info["cmdline"] and one.info["cmdline"][-1] in ("4711", "4712")
    ]


def test_everything_ends_with_the_parent_and_the_scratch_is_gone(tmp_path: Path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = held(scratch, PROGRAM)
    wait_until((scratch / "begun").exists, seconds=20)
    wait_until(lambda: len(sleepers()) == 2, seconds=20)
    assert process.stdin is not None
    process.stdin.close()  # what the kernel does when the parent dies
    process.wait(timeout=20)
    assert sleepers() == []
    assert not scratch.exists()


def test_the_exit_code_is_the_programs_and_the_scratch_its_parents(tmp_path: Path):
    process = held(tmp_path, "(setsid sleep 4711 &); exit 3")
    assert process.wait(timeout=20) == 3
    assert sleepers() == []
    assert tmp_path.exists()
