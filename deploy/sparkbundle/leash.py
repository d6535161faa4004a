"""Run a program that ends when its parent does: python leash.py SCRATCH PROGRAM [ARGUMENTS…].

A deploy that is killed must not go on: its lock is free at once, and the next one may begin.
The parent holds the other end of this process' standard input and never writes to it; when the
parent dies in whatever way, the kernel closes it. Then the program and all that it started are
ended, and the folder SCRATCH, which may hold secrets, is removed.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Start the program in a group of its own, and end it with the parent."""
    scratch, *command = sys.argv[1:]
    os.setpgid(0, 0)  # the terminal's Ctrl-C is for the parent
    _adopt_orphans()
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    orphaned = threading.Event()
    threading.Thread(target=_end_with_parent, args=(orphaned,), daemon=True).start()
    code = program.wait()
    _end_children()  # the connections that ssh keeps for the next task
    if orphaned.is_set():
        shutil.rmtree(scratch, ignore_errors=True)
    return code


def _adopt_orphans() -> None:
    """Ansible's workers and ssh leave its session; so they stay below this process all the same."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_parent(orphaned: threading.Event) -> None:
    while os.read(0, 1):
        pass
    orphaned.set()
    _end_children()


def _end_children() -> None:
    """Kill all below this process, again until none is left: they may start others meanwhile."""
    while alive := [one for one in psutil.Process().children(recursive=True) if _lives(one)]:
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        time.sleep(0.05)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    sys.exit(main())
