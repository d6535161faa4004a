"""Commands on many hosts at once that Ctrl-C ends everywhere."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import paramiko

from sparkbundle.errors import InterruptedRunError, SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host

T = TypeVar("T")
BLOCK = 1 << 18


class Sessions:
    """The sessions that one command has open on its hosts."""

    def __init__(self, hosts: Hosts) -> None:
        """None is open yet."""
        self._hosts = hosts
        self._open: set[paramiko.Channel] = set()
        self._lock = threading.Lock()
        self._ended = False

    @contextmanager
    def session(self, host: Host, command: str) -> Iterator[paramiko.Channel]:
        """As `Hosts.session`.

        Raises:
            InterruptedRunError: the sessions have been ended.
        """
        if self._ended:
            raise InterruptedRunError("interrupted")
        with self._hosts.session(host, command) as channel:
            with self._lock:
                self._open.add(channel)
            try:
                if self._ended:
                    raise InterruptedRunError("interrupted")
                yield channel
            finally:
                with self._lock:
                    self._open.discard(channel)

    def each(
        self, work: Callable[[Host], T], hosts: Iterable[Host], *, grace: float
    ) -> dict[str, T | SparkbundleError]:
        """Do `work` for all hosts at once; what it returned or failed with, by host.

        Ctrl-C ends the input of every session, and closes those that are still open after
        `grace` seconds.

        Raises:
            KeyboardInterrupt: after that.
        """
        # Not in this thread: a pool waits for its threads before Ctrl-C comes through.
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(self._hosts.each, work, list(hosts))
            try:
                return future.result()
            except KeyboardInterrupt:
                self._end(future, grace)
                raise

    def _end(self, future: Future[Any], grace: float) -> None:
        self._ended = True
        try:
            for channel in self._copy():
                with suppress(OSError, EOFError):
                    channel.shutdown_write()
            wait([future], timeout=grace)
        finally:
            for channel in self._copy():
                channel.close()

    def _copy(self) -> list[paramiko.Channel]:
        with self._lock:
            return list(self._open)


@contextmanager
def draining(channel: paramiko.Channel, take: Callable[[bytes], None]) -> Iterator[None]:
    """Read the standard error of a session beside the block, until it ends."""

    def read() -> None:
        with suppress(OSError):  # the reader of the other stream says what went wrong
            while block := channel.recv_stderr(BLOCK):
                take(block)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        channel.close()
        raise
    finally:
        thread.join()


def exit_status(channel: paramiko.Channel) -> int:
    """The exit code of a session whose output has ended; -1 when a signal ended it.

    Raises:
        paramiko.SSHException: the connection is lost.
    """
    code = channel.recv_exit_status()
    if code == -1 and not channel.get_transport().is_active():
        raise paramiko.SSHException("the connection was lost while the command ran")
    return code
