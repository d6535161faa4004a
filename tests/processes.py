"""Processes of the command line that start warm: forked by a server that has imported the packages.

Python spends a third of a second on the imports of `sparkbundle` and a whole one on those of
`sentiment score`; the tests start some 500 such processes. A `WarmProcess` is a process like any
other, with its own pid, signals, streams and exit code, but it begins as a copy of the server,
which has imported everything and run nothing. What a process reads at its own start (its name in
/proc, PYTHONHASHSEED, OMP_NUM_THREADS, the locale) is the server's: where the environment asks
for something else, and where a test is about the start itself, use `subprocess.Popen`.
"""

import atexit
import contextlib
import inspect
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
PROGRAMS = {"sentiment": "sentiment.__main__", "sparkbundle": "sparkbundle.__main__"}
READ_AT_START = (
    "PYTHON",
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS",
    "LC_",
    "LANG",
    "LD_",
    "GLIBC",
    "MALLOC",
)
"""Beginnings of the variables that take effect when Python or a library is loaded."""
IMPORTED = (
    *("sparkbundle.cli", "sparkbundle.embedded", "sparkbundle.remote", "sparkbundle.jobs_watch"),
    *("sentiment.cli", "sentiment.session", "sentiment.network", "sentiment.scoring"),
    *("pyspark.sql", "pyspark.sql.pandas.types", "pandas", "pyarrow.parquet", "gensim.models"),
    "torch._dynamo",  # the first optimiser of a training imports it
)
_REQUEST = 1 << 20
"""The most bytes that the words and the environment of a process take."""


class WarmProcess(subprocess.Popen):
    """`subprocess.Popen` for one of PROGRAMS (a path whose last part names it).

    Raises:
        ValueError: no such program, or an option that only a real start can honour.
    """

    def _execute_child(self, *positional: Any, **named: Any) -> None:
        start = inspect.signature(subprocess.Popen._execute_child)
        given = start.bind(self, *positional, **named).arguments
        if given["preexec_fn"] is not None or given["pass_fds"] or given["shell"]:
            raise ValueError("preexec_fn, pass_fds and shell need subprocess.Popen")
        program = Path(given["args"][0]).name
        if program not in PROGRAMS:
            raise ValueError(f"{program} is none of {', '.join(PROGRAMS)}")
        request = {
            "module": PROGRAMS[program],
            "argv": [str(word) for word in given["args"]],
            "env": dict(given["env"] if given["env"] is not None else os.environ),
            "cwd": str(given["cwd"] or Path.cwd()),
            "session": bool(given["start_new_session"]),
            # Like exec, which hands on what is ignored and nothing else.
            "ignored": [int(n) for n in _SIGNALS if signal.getsignal(n) == signal.SIG_IGN],
        }
        pipes = (given["p2cread"], given["c2pwrite"], given["errwrite"])
        streams = [pipe if pipe != -1 else number for number, pipe in enumerate(pipes)]
        self._link, self.pid = _server().start(request, streams)
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in _PIPES))

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """As waitpid, which only the parent may ask: the server is it."""
        timeout = 0 if wait_flags & os.WNOHANG else None
        if not select.select([self._link], [], [], timeout)[0]:
            return 0, 0
        status = self._link.recv(16)
        self._link.close()
        # A server that was killed takes the knowledge with it.
        return self.pid, int(status) if status else signal.SIGKILL

    def _internal_poll(self, *_unused: Any, **_none: Any) -> int | None:
        with self._waitpid_lock:
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)
        return self.returncode


_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def popen(command: list[str], *, env: Mapping[str, str], **options: Any) -> "subprocess.Popen[str]":
    """Start `command` warm, or by a real start where its environment changes how Python starts."""

    def at_start(environment: Mapping[str, str]) -> dict[str, str]:
        return {k: v for k, v in environment.items() if k.startswith(READ_AT_START)}

    warm = at_start(env) == at_start(os.environ)
    kind = WarmProcess if warm else subprocess.Popen
    return kind(command, env=dict(env), text=True, **options)


# ---------------------------------------------------------------- the server, seen from the tests


class _Server:
    """The process that forks; it ends when this one does."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.processes", str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is for the tests
            )
        atexit.register(self.stop)

    def start(self, request: dict[str, Any], streams: list[int]) -> tuple[socket.socket, int]:
        """The pid of a new process, and the socket on which its exit status will come."""
        link, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST)
        with end:
            message = json.dumps(request).encode(errors="surrogateescape")
            socket.send_fds(self._socket, [message], [end.fileno(), *streams])
        answer = link.recv(16)
        if not answer:
            raise RuntimeError(f"the server of warm processes has ended: {self._process.poll()}")
        return link, int(answer)

    def stop(self) -> None:
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)


_servers: dict[int, _Server] = {}


def _server() -> _Server:
    """The server of this process: one that was forked has none yet."""
    if os.getpid() not in _servers:
        _servers[os.getpid()] = _Server()
    return _servers[os.getpid()]


# ---------------------------------------------------------------- the server itself


def serve(control: socket.socket) -> None:
    """Fork a process for each request that comes, and report how each ends, until nobody asks."""
    for name in IMPORTED:
        import_module(name)
    assert threading.active_count() == 1, "a fork copies one thread only"
    woken, waker = socket.socketpair()
    for end in (woken, waker):
        end.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    links: dict[int, socket.socket] = {}
    while True:
        ready = select.select([control, woken], [], [])[0]
        if control in ready:
            message, descriptors, _, _ = socket.recv_fds(control, _REQUEST, 4)
            if not message:
                return
            link = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                _close(control, woken, waker, link, *links.values())
                _run(json.loads(message), descriptors[1:])
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            link.send(str(pid).encode())
            links[pid] = link
        if woken in ready:
            woken.recv(4096)
            for pid, status in _ended(links):
                link = links.pop(pid)
                with contextlib.suppress(OSError):  # the test has gone
                    link.send(str(status).encode())
                link.close()


def _ended(pids: Mapping[int, socket.socket]) -> list[tuple[int, int]]:
    reports = [os.waitpid(pid, os.WNOHANG) for pid in pids]
    return [(pid, status) for pid, status in reports if pid]


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        each.close()


def _run(request: dict[str, Any], streams: list[int]) -> None:
    """Become the process that was asked for; does not return."""
    code = 1
    try:
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in request["ignored"]:
            signal.signal(number, signal.SIG_IGN)
        if request["session"]:
            os.setsid()
        else:
            os.setpgid(0, 0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        # As Python makes them: a terminal is written to by lines, a pipe by blocks.
        lines = 1 if os.isatty(1) else -1
        sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", lines, closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, None, "backslashreplace", closefd=False)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = request["argv"]
        sys.modules["__main__"] = ModuleType("__main__")  # click calls a program by its name
        code = _main(request["module"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                file.flush()
        os._exit(code)


def _main(module: str) -> int:
    """Run a program's `main`; the exit code, as Python makes it of SystemExit."""
    try:
        import_module(module).main()
    except SystemExit as exit_:
        if exit_.code is None or isinstance(exit_.code, int):
            return (exit_.code or 0) & 0xFF
        print(exit_.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return 130
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
