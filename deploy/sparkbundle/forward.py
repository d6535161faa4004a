"""A port of this machine that leads to one on a host: bytes both ways, websockets among them."""

import socket
import socketserver
import threading
from contextlib import suppress
from typing import Any

import paramiko

from sparkbundle import ports
from sparkbundle.errors import SparkbundleError
from sparkbundle.output import warn
from sparkbundle.tunnel import Tunnel

_BLOCK = 1 << 16
_Side = socket.socket | paramiko.Channel


class Forward(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1; each connection goes on through the tunnel, where one is opened."""

    # Opened again at once, the port is still in use for connections that have just ended.
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, tunnel: Tunnel, *, to: int, port: int = 0) -> None:
        """Listen; `to` is a port of the host's 127.0.0.1. Nothing is answered before `run`.

        Raises:
            PreflightError: the port is taken.
        """
        try:
            super().__init__((ports.HOST, port), _Connection)
        except OSError as error:
            raise ports.taken(port) from error
        self._tunnel = tunnel
        self._to = to
        self._said = ""
        self.port = int(self.server_address[1])

    def run(self) -> None:
        """Serve in threads of its own until `close`."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()

    def channel(self) -> paramiko.Channel | None:
        """A connection to the port on the host; None where there is none, which is said once."""
        try:
            channel = self._tunnel.channel(ports.HOST, self._to)
        except SparkbundleError as error:
            if error.what != self._said:
                self._said = error.what
                warn(f"{error.where}: {error.what}; the page goes on when it is back")
            return None
        self._said = ""
        return channel

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that has gone, and a connection that was lost."""


class _Connection(socketserver.BaseRequestHandler):
    server: Forward
    request: socket.socket

    def handle(self) -> None:
        channel = self.server.channel()
        if channel is None:
            return
        with channel:
            back = threading.Thread(target=_copy, args=(channel, self.request), daemon=True)
            back.start()
            _copy(self.request, channel)
            back.join()


def _copy(source: _Side, to: _Side) -> None:
    """Copy until either side ends; then the other ends as well."""
    with suppress(OSError, EOFError, paramiko.SSHException):
        while block := source.recv(_BLOCK):
            to.sendall(block)
    for side in (source, to):
        with suppress(OSError, EOFError, paramiko.SSHException):
            side.shutdown(socket.SHUT_RDWR)
