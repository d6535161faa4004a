"""Answers a browser's requests with the pages of a cluster, whoever may ask."""

import html
import shutil
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from sparkbundle.errors import SparkbundleError
from sparkbundle.pages import PREFIX, Pages

_IDLE_SECONDS = 60
_BLOCK = 1 << 16
# Only these go on to Spark: no cookie, no key, no address that the browser came from.
_SENT = ("Accept", "Accept-Language", "If-Modified-Since", "If-None-Match", "User-Agent")
# And these do not come back: they are about one connection, or would be about this machine.
_KEPT_BACK = frozenset(
    """
    connection content-length date keep-alive location proxy-authenticate server set-cookie te
    trailer transfer-encoding upgrade strict-transport-security clear-site-data alt-svc
    """.split()
)
_TURNED = frozenset({"text/html", "application/json"})


class PagesHandler(BaseHTTPRequestHandler):
    """Shows `pages` to whoever asks, who begins at the path `start`."""

    timeout = _IDLE_SECONDS
    # The browser is spared a wait for what comes after: each answer ends its connection.
    protocol_version = "HTTP/1.0"

    def __init__(self, *request: Any, pages: Pages, start: str) -> None:
        """Answer a request, as the server gives it."""
        self._pages = pages
        self._start = start
        super().__init__(*request)

    def do_GET(self) -> None:
        """Show a page of the cluster."""
        path = urlsplit(self.path).path
        if path == "/":
            self._redirect(self._start)
            return
        if not self.path.startswith(PREFIX):
            self._lost()
            return
        netloc, slash, rest = self.path.removeprefix(PREFIX).partition("/")
        try:
            if not self._pages.admits(netloc):
                self._say(HTTPStatus.FORBIDDEN, "This is no page of the cluster.")
            elif not slash:
                self._redirect(f"{self._pages.prefix}{netloc}/")
            else:
                self._forward(netloc, f"/{rest}")
        except SparkbundleError as error:
            where = f"{error.where}: " if error.where else ""
            self._say(HTTPStatus.BAD_GATEWAY, f"{where}{error.what}. {error.todo}")

    do_HEAD = do_GET  # noqa: N815

    def _lost(self) -> None:
        """A link that begins at the root is meant at the page it was found on."""
        ours, came = self._pages.prefix, urlsplit(self.headers.get("Referer", ""))
        if came.netloc == self.headers.get("Host", "") and came.path.startswith(ours):
            netloc = came.path.removeprefix(ours).partition("/")[0]
            self._redirect(f"{ours}{netloc}{self.path}")
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _forward(self, netloc: str, path: str) -> None:
        sent = {name: self.headers[name] for name in _SENT if name in self.headers}
        pages = self._pages
        with pages.ask(netloc, path, method=self.command, headers=sent) as answer:
            kind = answer.headers.get_content_type()
            turned = None
            if kind in _TURNED and self.command == "GET":
                turned = pages.turn(answer.read())
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _KEPT_BACK:
                    self.send_header(name, value)
            if location := answer.headers.get("Location"):
                self._send_location(pages.turn_redirect(location, at=netloc))
            length = answer.length if turned is None else len(turned)
            if length is not None and self.command == "GET":
                self.send_header("Content-Length", str(length))
            self._end_headers()
            if turned is not None:
                self.wfile.write(turned)
            elif self.command == "GET":
                shutil.copyfileobj(answer, self.wfile, _BLOCK)

    def _redirect(self, path: str) -> None:
        self.send_response_only(HTTPStatus.FOUND)
        self._send_location(path)
        self._send(b"")

    def _send_location(self, location: str) -> None:
        # A proxy before this one puts its own path before that of a location.
        self.send_header("Location", location.removeprefix(self._pages.base))

    def _say(self, status: HTTPStatus, text: str) -> None:
        self.send_response_only(status)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self._send(
            b"<!doctype html><title>sparkbundle</title><p>" + html.escape(text).encode() + b"\n"
        )

    def _send(self, page: bytes) -> None:
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self._end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def _end_headers(self) -> None:
        self.send_header("Referrer-Policy", "same-origin")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing: a request may have the key in it."""
