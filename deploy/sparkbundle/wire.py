"""What a connection to a page or server is, however it comes about."""

import socket
from collections.abc import Callable
from typing import BinaryIO, Protocol

from sparkbundle.errors import UNREACHABLE, SparkbundleError

# A server tries an address for as long before it says that nobody answers.
OPEN_SECONDS = 10.0
READ_SECONDS = 60.0


class Wire(Protocol):
    """What http.client needs of a connection."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def makefile(self, mode: str, /) -> BinaryIO:
        """A file to read from."""

    def close(self) -> None:
        """Close it, as soon as its file is closed as well."""


# Connects to a port of an address.
Dial = Callable[[str, int], Wire]


def dial_here(address: str, port: int) -> Wire:
    """Connect from this machine.

    Raises:
        SparkbundleError: nobody answers.
    """
    try:
        wire = socket.create_connection((address, port), timeout=OPEN_SECONDS)
    except OSError as error:
        raise nobody(address, port) from error
    wire.settimeout(READ_SECONDS)
    return wire  # type: ignore[return-value]


def nobody(address: str, port: int) -> SparkbundleError:
    """What is said where nobody answers at an address."""
    return SparkbundleError(
        "does not answer",
        where=f"{address}:{port}",
        todo="see what runs: sparkbundle status",
        code=UNREACHABLE,
    )
