"""The pages of a cluster, for the notebook server that asks for its users.

`python -m sparkbundle.tile FILE SOCKET BASE`: listens on a socket in a folder of this user's own,
where nobody but the notebook server comes. `FILE` says where the pages are (`Where`); `BASE` is
the path at which the server shows them. It runs on hosts too, without the rest of sparkbundle:
roles/notebook has the list of its modules.
"""

import json
import os
import socket
import socketserver
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sparkbundle.pages import Pages
from sparkbundle.pages_handler import PagesHandler
from sparkbundle.wire import dial_here


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where the pages are.

    `master` and `fixed` are such as 10.0.3.11:8080; `addresses` those of all hosts, `own` that of
    this one; `secrets` the file with the cluster's key.
    """

    master: str
    addresses: Sequence[str]
    own: str
    secrets: str
    fixed: Sequence[str] = ()

    def pages(self, *, base: str) -> Pages:
        """The pages, shown below the path `base`."""
        return Pages(
            dial=dial_here,
            ui_key=json.loads(Path(self.secrets).read_text(encoding="utf-8"))["ui_key"],
            master=self.master,
            addresses=self.addresses,
            fixed=self.fixed,
            resolve=self._resolve,
            base=base,
        )

    def _resolve(self, name: str) -> str | None:
        try:
            found = socket.gethostbyname(name)
        except (OSError, UnicodeError):
            return None
        # Debian gives the name of a host itself an address of its loopback network.
        return self.own if found.startswith("127.") else found


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

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that has gone; anything else is for the server's log."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until the notebook server ends this process."""
    file, path, base = sys.argv[1:]
    where = Where(**json.loads(Path(file).read_text(encoding="utf-8")))
    Tile(where.pages(base=base), path=Path(path)).serve_forever()


if __name__ == "__main__":
    main()
