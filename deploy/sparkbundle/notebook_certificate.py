"""Whether a certificate is fit for publishing the notebook server."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509


def fault(certificate: Path, key: Path) -> str:
    """Why the files are of no use as they are; empty where they are.

    They are read as the server reads them: PEM, the server's own certificate first, a key without
    a password. One that has run out is of no use either.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        for path in (certificate, key):
            path.open("rb").close()  # what is raised below names no file
        context.load_cert_chain(certificate, key, password=lambda: b"")
        end = _own(certificate).not_valid_after_utc
    except ssl.SSLError as error:
        why = "are not a pair" if error.reason == "KEY_VALUES_MISMATCH" else "cannot be read"
        more = "" if why == "are not a pair" else ": PEM files, and a key without a password"
        return f"{certificate} and {key} {why}{more}"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except ValueError as error:
        return f"{certificate} cannot be read: {error}"
    if end < datetime.now(UTC):
        return f"{certificate} has run out: {end:%Y-%m-%d}"
    return ""


def misnamed(certificate: Path, name: str) -> str:
    """Why browsers would refuse the certificate for this name; empty where they would not."""
    names = _names(certificate)
    parent = name.partition(".")[2]
    if {name, f"*.{parent}"} & set(names):
        return ""
    return f"the certificate is for {', '.join(names) or 'no name'}, not for {name}"


def _own(certificate: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates(certificate.read_bytes())[0]


def _names(certificate: Path) -> list[str]:
    try:
        found = _own(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [one.lower() for one in found.value.get_values_for_type(x509.DNSName)]
