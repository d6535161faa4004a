"""The web pages of a cluster: asked with a fresh token, their links turned to a proxy's paths.

Spark's pages link to each other by absolute addresses, which a browser elsewhere cannot
reach. Here the page of 10.0.3.12:8081 is below the path `/at/10.0.3.12:8081/`.
"""

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

from sparkbundle.errors import SparkbundleError
from sparkbundle.page_token import token
from sparkbundle.wire import Dial, Wire

PREFIX = "/at/"
_NETLOC = rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}"
_ADDRESS = re.compile(rb"http://(" + _NETLOC + rb")(?![0-9A-Za-z.:@-])")
_LINK = re.compile(rb"""href=["']http://(""" + _NETLOC + rb""")(?=[/"'?#])""")
_MOST_NAMES = 1000
# So old may be what the master has said of its cluster, and so long it is not asked again.
_OLD_SECONDS, _PAUSE_SECONDS = 30.0, 1.0

# The address of a host by its name, None where nobody knows it.
Resolve = Callable[[str], str | None]


class Pages:
    """The pages of the master and of what it names: its workers and applications.

    Nobody else is asked, so that no token goes to a stranger and no page can use the proxy to
    look around: only `fixed` addresses, and those that the master's own page links to and
    that are hosts of the cluster (`addresses`). Spark writes names in place of some
    addresses; `resolve` turns one into an address as the cluster sees it.
    """

    def __init__(
        self,
        *,
        dial: Dial,
        ui_key: str,
        master: str,
        addresses: Iterable[str],
        fixed: Iterable[str] = (),
        resolve: Resolve = lambda _name: None,
        base: str = "",
    ) -> None:
        """`master` and `fixed` are such as 10.0.3.11:8080, `addresses` have no port.

        `base` is the path of the proxy itself, as the browser sees it: "" or such as "/spark".
        """
        self.master = master
        self.base = base
        self.prefix = f"{base}{PREFIX}"
        self._dial = dial
        self._ui_key = ui_key
        self._addresses = frozenset(address.lower() for address in addresses)
        self._fixed = frozenset({master, *fixed})
        self._linked: list[str] = []
        self._resolve = resolve
        self._names: dict[str, str | None] = {}
        self._learned = -_OLD_SECONDS
        self._lock = threading.Lock()

    def ask(
        self,
        netloc: str,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Ask for a page of the cluster; close what is returned.

        Raises:
            SparkbundleError: nobody answers, or what answers is no web page.
        """
        address, port = split(netloc)
        connection = _Connection(self._dial(address, port), netloc)
        try:
            connection.request(
                method,
                path,
                headers={
                    **(headers or {}),
                    "Host": netloc,
                    "Connection": "close",
                    "Accept-Encoding": "identity",
                    "Authorization": f"Bearer {token(self._ui_key)}",
                    # Spark puts it before its own links.
                    "X-Forwarded-Context": f"{self.prefix}{netloc}",
                },
            )
            return connection.getresponse()
        except (OSError, EOFError, http.client.HTTPException) as error:
            connection.close()
            raise SparkbundleError(
                f"does not answer as a web page: {error or type(error).__name__}", where=netloc
            ) from error

    def require(self, netloc: str) -> None:
        """Check that a page of the cluster answers and takes our token.

        Raises:
            SparkbundleError: it does not.
        """
        with self.ask(netloc, "/") as answer:
            if answer.status == http.client.FORBIDDEN:
                raise SparkbundleError(
                    "the page refuses our token",
                    where=netloc,
                    todo="a token is good for a minute: compare the clocks here and there (date)",
                )
            if answer.status >= http.client.BAD_REQUEST:
                raise SparkbundleError(f"the page answers {answer.status}", where=netloc)

    def admits(self, netloc: str) -> bool:
        """Whether this is a page of the cluster; asks the master anew where it is not known.

        Raises:
            SparkbundleError: the master does not answer.
        """
        if netloc in self._fixed:
            return True
        if not self._is_ours(netloc):
            return False
        with self._lock:
            age = time.monotonic() - self._learned
            if age > _OLD_SECONDS or (netloc not in self._linked and age > _PAUSE_SECONDS):
                self._learned = time.monotonic()  # also where it fails: links come in dozens
                with self.ask(self.master, "/") as answer:
                    self._learn(answer.read())
            return netloc in self._linked

    def linked(self) -> list[str]:
        """What the master's page links to now, in its order: workers, then applications.

        Raises:
            SparkbundleError: the master does not answer.
        """
        with self._lock, self.ask(self.master, "/") as answer:
            self._learn(answer.read())
            return list(self._linked)

    def turn(self, body: bytes) -> bytes:
        """The text of a page, its links to pages of the cluster turned to paths of the proxy."""

        def path(found: re.Match[bytes]) -> bytes:
            netloc = self._by_address(found[1].decode())
            try:
                known = self.admits(netloc)
            except SparkbundleError:
                known = False  # a worker's page can be read while the master is away
            return f"{self.prefix}{netloc}".encode() if known else found[0]

        return _ADDRESS.sub(path, body)

    def turn_redirect(self, location: str, *, at: str) -> str:
        """The same for the address to which a page at `at` redirects."""
        parts = urlsplit(location)
        netloc = self._by_address(parts.netloc) if parts.netloc else at
        if parts.scheme not in {"", "http"} or not self.admits(netloc):
            return location
        if not parts.netloc and not parts.path.startswith("/"):
            return location
        rest = location.partition("//")[2][len(parts.netloc) :] if parts.netloc else location
        prefix = f"{self.prefix}{netloc}"
        # Spark knows the prefix, and may have set it already.
        return rest if rest.startswith(f"{prefix}/") else prefix + (rest or "/")

    def _learn(self, body: bytes) -> None:
        found = [link.decode() for link in _LINK.findall(body)]
        linked = dict.fromkeys(self._by_address(one, any_port=True) for one in found)
        self._linked = [one for one in linked if self._is_ours(one)]
        self._learned = time.monotonic()

    def _by_address(self, netloc: str, *, any_port: bool = False) -> str:
        """The same with an address in place of a name, where a page of ours has this port."""
        if self._is_ours(netloc):
            return netloc
        try:
            name, port = split(netloc)
        except ValueError:
            return netloc
        ours = any(one.endswith(f":{port}") for one in (*self._fixed, *self._linked))
        if name not in self._names:
            # A log on a page may be full of names that are not worth a question each.
            if not (ours or any_port) or len(self._names) >= _MOST_NAMES:
                return netloc
            self._names[name] = self._resolve(name)
        address = self._names[name]
        return netloc if address is None else f"{address}:{port}"

    def _is_ours(self, netloc: str) -> bool:
        try:
            return split(netloc)[0].lower() in self._addresses
        except ValueError:
            return False


def split(netloc: str) -> tuple[str, int]:
    """Address and port of `address:port`.

    Raises:
        ValueError: it is something else.
    """
    parts = urlsplit(f"//{netloc}")
    if parts.hostname is None or parts.port is None or "@" in netloc:
        raise ValueError(netloc)
    return parts.hostname, parts.port


class _Connection(http.client.HTTPConnection):
    """HTTP over a wire that is there already."""

    def __init__(self, wire: Wire, netloc: str) -> None:
        super().__init__(netloc)
        self.sock = wire
