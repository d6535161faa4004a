"""The tokens that open a cluster's web pages (Spark: JWSFilter)."""

import base64
import time

import jwt

_SECONDS = 60


def token(ui_key: str) -> str:
    """A token that opens the pages for one minute; `ui_key` is the cluster's key, Base64URL."""
    return jwt.encode(
        {"exp": int(time.time()) + _SECONDS},
        base64.urlsafe_b64decode(ui_key),
        algorithm="HS256",
    )
