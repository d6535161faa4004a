"""Whether a certificate is fit for publishing the notebook server."""

import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from sparkbundle.inventory import Publication

SOON: Final = timedelta(days=14)
# Of this machine's clock.
_SKEW: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a certificate, and what to do; `warning`: it will do for now."""

    what: str
    todo: str
    warning: bool = False


def faults(publication: Publication) -> list[Fault]:
    """Why the files are of no use as they are, or soon will be of none; empty where all is well.

    They are read as the server reads them: PEM, the server's own certificate first, a key without
    a password.
    """
    certificate, key = publication.certificate, publication.key
    named = {"notebook_certificate": certificate, "notebook_key": key}
    absent = [
        Fault(f"{name}: {why} {path}", f"{name}: the path of a file that you can read")
        for name, path in named.items()
        if (why := _unreadable(path))
    ]
    if absent:
        return absent
    # The password is none, lest OpenSSL asks for one.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
        own = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        names = _names(own)
    except ValueError as error:
        return [Fault(f"{certificate} cannot be read: {error}", "have another one issued")]
    except OSError as error:  # ssl.SSLError is one
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            what = "are not a pair"
            todo = "give the key of the first certificate there: the server's own comes first"
        else:
            what = "cannot be read"
            todo = "give PEM files, and a key without a password"
        return [Fault(f"{certificate} and {key} {what}", todo)]
    return [*_wrong_time(own, certificate), *_wrong_name(names, publication)]


def _unreadable(path: Path) -> str:
    """What keeps a path from being a file that can be read; empty where nothing does."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return "there is no file"
        path.open("rb").close()
    except FileNotFoundError:
        return "there is no file"
    except OSError as error:  # in a folder of another user's, such as Let's Encrypt's
        return f"{error.strerror}:"
    except ValueError as error:  # a null byte
        return f"{error}:"
    return ""


def _wrong_time(own: x509.Certificate, certificate: Path) -> Iterator[Fault]:
    now = datetime.now(UTC)
    begin, end = own.not_valid_before_utc, own.not_valid_after_utc
    if end < now:
        yield Fault(f"{certificate} has run out: {_shown(end)}", "renew it")
    elif begin > now + _SKEW:
        yield Fault(
            f"{certificate} is not valid before {_shown(begin)}",
            "wait until then, or set this machine's clock",
        )
    elif end < now + SOON:
        yield Fault(
            f"{certificate} runs out soon: {_shown(end)}",
            "renew it, then run up again",
            warning=True,
        )


def _wrong_name(names: list[str], publication: Publication) -> Iterator[Fault]:
    """Why browsers would refuse the certificate for the name."""
    name = publication.name
    parent = name.partition(".")[2]
    if not {name, f"*.{parent}"} & set(names):
        yield Fault(
            f"the certificate is for {', '.join(names) or 'no name'}, not for {name}",
            "have one issued for it, or correct notebook_name",
        )


def _names(own: x509.Certificate) -> list[str]:
    try:
        found = own.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [one.lower() for one in found.value.get_values_for_type(x509.DNSName)]


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
