"""A web server on the loopback address that shows the pages of a cluster to one browser."""

import http.client
import socketserver
import sys
import threading
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sparkbundle import ports
from sparkbundle.door import Door
from sparkbundle.output import warn
from sparkbundle.pages import Pages
from sparkbundle.pages_handler import PagesHandler


class Proxy(ThreadingHTTPServer):
    """Serves on 127.0.0.1; `url` lets one browser in, which begins at the page `start`."""

    daemon_threads = True

    def __init__(self, pages: Pages, *, start: str, port: int = 0) -> None:
        """Listen; nothing is answered before `run`.

        Raises:
            PreflightError: the port is taken.
        """
        try:
            handler = partial(_Handler, pages=pages, start=f"{pages.prefix}{start}/")
            super().__init__((ports.HOST, port), handler)
        except OSError as error:
            raise ports.taken(port) from error
        self.netloc = f"{ports.HOST}:{self.server_port}"
        self.door = Door(self.server_port)

    @property
    def url(self) -> str:
        """The address that lets one browser in, once."""
        return f"http://{self.netloc}/?key={self.door.key}"

    def run(self) -> None:
        """Serve in threads of its own until `close`."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ports.HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Pass over a browser that has gone; say anything else in one line."""
        error = sys.exception()
        if not isinstance(error, OSError | EOFError | http.client.HTTPException):
            warn(f"a page was not shown: {type(error).__name__}: {error}")


class _Handler(PagesHandler):
    """The same for one browser only."""

    server: Proxy

    def parse_request(self) -> bool:
        """Let nobody get further than this who has no business here, whatever the method."""
        if not super().parse_request():
            return False
        if self.headers.get("Host", "") != self.server.netloc or not self.path.startswith("/"):
            # A page of another name that leads to 127.0.0.1: DNS rebinding.
            self._say(HTTPStatus.FORBIDDEN, "This is not the address of this server.")
            return False
        known = self.server.door.knows(self.headers.get("Cookie", ""))
        parts = urlsplit(self.path)
        key = parse_qs(parts.query).get("key") if parts.path == "/" else None
        if key and self.command == "GET":
            if known or self.server.door.redeem(key[0], caller_port=self.client_address[1]):
                self._welcome(new=not known)
            else:
                self._say(
                    HTTPStatus.FORBIDDEN,
                    "This address was used already, or was never right. "
                    "Run `sparkbundle open` again for a new one.",
                )
            return False
        if not known:
            self._say(
                HTTPStatus.FORBIDDEN,
                "Come with the address that `sparkbundle open` has printed: it has a key.",
            )
            return False
        if self.command not in {"GET", "HEAD"}:
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, "Pages can be read here, nothing else.")
            return False
        return True

    def _welcome(self, *, new: bool) -> None:
        """Give the cookie and lead on.

        By a page, not by a redirect: where a link in another page led here, a browser keeps a
        strict cookie back until a page of ours asks.
        """
        page = b'<!doctype html><meta http-equiv="refresh" content="0;url=/"><a href="/">go on</a>'
        self.send_response_only(HTTPStatus.OK)
        if new:
            self.send_header("Set-Cookie", self.server.door.cookie)
        self._send(page)
