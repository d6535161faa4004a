"""TensorBoard's pages over a log directory, on a port of this machine or a Unix socket."""

import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tensorboard import program
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from sentiment.board.guard import Guarded
from sentiment.errors import LOCKED, InvalidInputError, SentimentError

ADDRESS: Final = "127.0.0.1"
_RELOAD_SECONDS: Final = 1.0
_SAMPLES: Final = {"scalars": 5000, "histograms": 200}
"""Steps of a tag that are shown; of more, as many by chance."""
_WAITING: Final = 128


@contextmanager
def listening_on_port(port: int) -> Iterator[socket.socket]:
    """A socket on this machine's own address; port 0: one that is free.

    Raises:
        InvalidInputError: the port is taken, or not this user's to take.
    """
    try:
        made = socket.create_server((ADDRESS, port))
    except OSError as error:
        raise InvalidInputError(
            f"cannot be listened on: {error.strerror}",
            where=f"{ADDRESS}:{port}",
            todo="name another --port, or none for one that is free",
        ) from error
    with made:
        yield made


@contextmanager
def listening_on_socket(path: Path) -> Iterator[socket.socket]:
    """A Unix socket that this user alone can connect to; it is gone when the block ends.

    Its folder is made, for this user alone, where there is none. What a killed process has left
    gives way.

    Raises:
        InvalidInputError: another thing is there, or the path is too long for a socket.
        SentimentError: a process listens there, or the folder cannot be written.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear(path)
        made = _bound(path)
    except OSError as error:
        raise InvalidInputError(
            f"cannot be listened on: {error.strerror or error}",
            where=str(path),
            todo="name a short path in a folder of yours",
        ) from error
    with made:
        try:
            yield made
        finally:
            path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        made.bind(str(path))
        made.listen(_WAITING)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def _clear(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise InvalidInputError(
                "is there and no socket", where=str(path), todo="name another place"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise SentimentError(
                "another process listens there",
                where=str(path),
                todo="end that, or name another place",
                code=LOCKED,
            )
    path.unlink()


@contextmanager
def serving(logs: Path, listener: socket.socket, *, prefix: str = "") -> Iterator[str]:
    """TensorBoard in a thread, until the block ends; what it is reached at.

    `prefix`: the path that it has behind a proxy.
    """
    for name in ("tensorboard", "werkzeug"):
        logging.getLogger(name).setLevel(logging.ERROR)
    servers: list[_Server] = []

    def made(app: Any, flags: Any) -> _Server:
        servers.append(_Server(app, flags, listener))
        return servers[0]

    board = program.TensorBoard(server_class=made)
    board.configure(
        logdir=str(logs),
        path_prefix=prefix,
        reload_interval=_RELOAD_SECONDS,
        samples_per_plugin=_SAMPLES,
        # In this process, of which nothing is left when it ends.
        load_fast="false",
        window_title="sentiment",
    )
    url: str = board.launch()
    try:
        yield url
    finally:
        servers[0].shutdown()


class _Quiet(WSGIRequestHandler):
    """Says nothing of requests that were answered."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


class _Server:
    """A server of TensorBoard's (program.TensorBoardServer) on a socket that listens already.

    On a port it asks for a token; of a Unix socket the file's mode says who may use it.
    """

    def __init__(self, app: Any, flags: Any, listener: socket.socket) -> None:
        address = listener.getsockname()
        if listener.family == socket.AF_UNIX:
            host = self._url = f"unix://{address}"
        else:
            host, port, root = ADDRESS, address[1], f"{flags.path_prefix}/"
            app = Guarded(app, port=port, root=root)
            self._url = f"http://{host}:{port}{root}?token={app.token}"
        self._server: BaseWSGIServer = make_server(
            host, 0, app, threaded=True, request_handler=_Quiet, fd=listener.fileno()
        )

    def serve_forever(self) -> None:
        self._server.serve_forever()

    def shutdown(self) -> None:
        self._server.shutdown()

    def get_url(self) -> str:
        return self._url
