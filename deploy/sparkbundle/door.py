"""Who may use the proxy: the browser that came with the key, once; then its cookie."""

import hmac
import os
import secrets
import threading
from http.cookies import CookieError, SimpleCookie
from pathlib import Path

_BYTES = 32
_LOOPBACK = "0100007F"
_LOCAL, _REMOTE, _UID = 1, 2, 7


class Door:
    """A key that opens once, and the cookie that it gives. Neither is ever sent on."""

    def __init__(self, port: int) -> None:
        """For the proxy at this port: browsers send cookies to all ports of a host."""
        self.key = secrets.token_urlsafe(_BYTES)
        self._name = f"sparkbundle-{port}"
        self._value = secrets.token_urlsafe(_BYTES)
        self._port = port
        self._open = True
        self._lock = threading.Lock()

    @property
    def cookie(self) -> str:
        """The header that gives the cookie: no script reads it, no other site sends it."""
        return f"{self._name}={self._value}; Path=/; HttpOnly; SameSite=Strict"

    def redeem(self, key: str, *, caller_port: int) -> bool:
        """Whether this is the key, for the first time, and the caller is of our user.

        The key is in the command line of the browser, which others on this machine can see.
        """
        with self._lock:
            right = hmac.compare_digest(key.encode(), self.key.encode())
            if not (right and self._open and _owner(caller_port, self._port) in _welcome()):
                return False
            self._open = False
            return True

    def knows(self, cookies: str) -> bool:
        """Whether the cookie is among those of a request."""
        try:
            given = SimpleCookie(cookies).get(self._name)
        except CookieError:
            return False
        return given is not None and hmac.compare_digest(given.value.encode(), self._value.encode())


def _welcome() -> set[int | None]:
    # Root may do everything anyway, and is who forwards ports to a virtual machine.
    return {None, 0, os.getuid()}


def _owner(port: int, to: int) -> int | None:
    """The user at the other end of a loopback connection; None where Linux does not tell."""
    local, remote = f"{_LOOPBACK}:{port:04X}", f"{_LOOPBACK}:{to:04X}"
    try:
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    for fields in map(str.split, lines):
        if (fields[_LOCAL], fields[_REMOTE]) == (local, remote):
            return int(fields[_UID])
    return None
