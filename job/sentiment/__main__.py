"""The command `sentiment`, from its first moment on: Ctrl-C in it shows no traceback."""

import sys

from sentiment.errors import INTERRUPTED


def main() -> None:
    """Load the command line and run it."""
    try:
        from sentiment.cli import main as command  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    command()


if __name__ == "__main__":
    main()
