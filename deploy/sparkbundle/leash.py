"""Run a program that ends when its parent does: python leash.py PROGRAM [ARGUMENTS…].

A deploy that is killed must not go on: its lock is free at once, and the next one may begin.
The parent holds the other end of this process' standard input and never writes to it; when the
parent dies in whatever way, the kernel closes it, and the program and all its children are ended.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Start the program in a group of its own, and end the group with the parent."""
    os.setpgid(0, 0)
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    return program.wait()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
