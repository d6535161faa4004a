"""Who may see the pages on a port: who came with the token of the address, then with its cookie."""

import hmac
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_BYTES = 32


class Guarded:
    """A WSGI application behind a token: the port is open to all users of this machine."""

    def __init__(self, app: "WSGIApplication", *, port: int, root: str) -> None:
        """`port`: browsers send cookies to all ports of a host. `root`: the path of the pages."""
        self.token = secrets.token_urlsafe(_BYTES)
        self._app = app
        self._cookie = f"sentiment-board-{port}"
        self._root = root

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request; one with the token gets the cookie, and an address without it."""
        request = Request(environ)
        if self._right(request.cookies.get(self._cookie)):
            return self._app(environ, start_response)
        answer: Any
        if self._right(request.args.get("token")):
            answer = redirect(self._root)
            answer.set_cookie(self._cookie, self.token, httponly=True, samesite="Strict")
        else:
            answer = Response("open the address that `sentiment board` has printed\n", status=403)
        response: Iterable[bytes] = answer(environ, start_response)
        return response

    def _right(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())
