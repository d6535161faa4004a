"""Certificates of a minute's work, signed by themselves, with their keys as PEM files."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


def make_pair(
    folder: Path, *names: str, days: int = 30, begun: int = 100, password: str = ""
) -> Pair:
    """A certificate for these DNS names that ends in `days` from now, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=begun))
        .not_valid_after(now + timedelta(days=days))
    )
    if names:
        own = x509.SubjectAlternativeName(map(x509.DNSName, names))
        made = made.add_extension(own, critical=False)
    pair = Pair(folder / "certificate.pem", folder / "key.pem")
    pem = serialization.Encoding.PEM
    pair.certificate.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    locked = (
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption()
    )
    kind = serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(pem, kind, locked))
    return pair
