"""A notebook server as this machine asks it, at a port of 127.0.0.1."""

import http.client
from typing import Final

from sparkbundle.ports import HOST

_SECONDS: Final = 5.0


def ask_status(port: int, *, token: str) -> int | None:
    """The HTTP status of the server's answer, 200 where it takes the token; None: no answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=_SECONDS)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"token {token}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def sign_in_url(address: str, *, token: str) -> str:
    """The address that signs a browser in at the server at `address`."""
    return f"{address}/lab?token={token}"
