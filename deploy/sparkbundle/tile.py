"""The pages of the cluster on this machine, for the notebook server that asks for its users.

`python -m sparkbundle.tile NAME SOCKET BASE`: listens on a socket in a folder of this user's own,
where nobody but the notebook server comes; `BASE` is the path at which that shows it.
"""

import os
import socketserver
import sys
from functools import partial
from pathlib import Path

from sparkbundle.opening import pages_here
from sparkbundle.pages import Pages
from sparkbundle.proxy import PagesHandler


class Tile(socketserver.ThreadingUnixStreamServer):
    """Shows pages to who may open the socket: this user."""

    daemon_threads = True

    def __init__(self, pages: Pages, *, path: Path) -> None:
        """Listen at `path`, which is made anew."""
        path.unlink(missing_ok=True)
        before = os.umask(0o077)
        try:
            start = f"{pages.prefix}{pages.master}/"
            super().__init__(str(path), partial(PagesHandler, pages=pages, start=start))
        finally:
            os.umask(before)


def main() -> None:
    """Serve until the notebook server ends this process."""
    name, path, base = sys.argv[1:]
    Tile(pages_here(name, base=base), path=Path(path)).serve_forever()


if __name__ == "__main__":
    main()
