"""Ctrl-C that Python drops, as it does in a finalizer, ends the command all the same."""

import subprocess
import sys

import pytest

DROPPED = """
import sys, time
from {package} import cli
sys.unraisablehook = cli._interrupt_again
class Late:
    def __del__(self):
        raise KeyboardInterrupt
one = Late()
try:
    del one
    time.sleep(10)
    print("lost")
except KeyboardInterrupt:
    print("came")
"""


@pytest.mark.parametrize("package", ["sparkbundle", "sentiment"])
def test_a_dropped_interrupt_comes_again(package: str):
    done = subprocess.run(
        [sys.executable, "-c", DROPPED.format(package=package)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("came\n", "")
