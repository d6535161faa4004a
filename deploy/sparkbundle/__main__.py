"""The command `sparkbundle`, from its first moment on: Ctrl-C in it shows no traceback."""

import sys
from typing import NoReturn

from sparkbundle.errors import INTERRUPTED


def main() -> NoReturn:
    """Load the command line and run it."""
    try:
        from sparkbundle.cli import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    command()


if __name__ == "__main__":
    main()
