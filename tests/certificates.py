"""Certificates that the tests make themselves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair(NamedTuple):
    certificate: Path
    key: Path


def write_certificate(
    folder: Path,
    *names: str,
    days: float = 30,
    since: float = 60,
    stem: str = "notebook",
    password: str = "",
) -> Pair:
    """A self-signed certificate for these names, and its key.

    `days` < 0: it has run out; `since` < 0: it is valid in so many days only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sparkbundle's tests")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=since))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names:
        own = x509.SubjectAlternativeName(map(x509.DNSName, names))
        builder = builder.add_extension(own, critical=False)
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        locked = serialization.BestAvailableEncryption(password.encode())
    pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    pair = Pair(folder / f"{stem}.crt", folder / f"{stem}.key")
    pair.certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    pair.key.write_bytes(key.private_bytes(pem, kind, locked))
    return pair
