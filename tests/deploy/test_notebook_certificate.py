"""Which certificates are taken for the published notebook server, read as the server reads them."""

import errno
import os
import pty
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sparkbundle.inventory import Publication
from sparkbundle.notebook_certificate import faults
from tests.certificates import Pair, write_certificate

NAME = "notebook.example.org"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_certificate(tmp_path, NAME)


def published(pair: Pair) -> Publication:
    return Publication(name=NAME, certificate=pair.certificate, key=pair.key)


def found(certificate: Path, key: Path) -> list[str]:
    """What is wrong with these files, each with what to do."""
    wrong = faults(published(Pair(certificate, key)))
    assert all(fault.todo and not fault.warning for fault in wrong)
    return [fault.what for fault in wrong]


def fault(certificate: Path, key: Path) -> str:
    """The only thing that is wrong with these files."""
    (what,) = found(certificate, key)
    return what


def test_a_certificate_with_its_key_is_taken(pair: Pair):
    assert found(pair.certificate, pair.key) == []


def test_others_may_follow_the_servers_own_certificate(pair: Pair, tmp_path: Path):
    authority = write_certificate(tmp_path / "authority", "authority.example.org")
    own, above = pair.certificate.read_bytes(), authority.certificate.read_bytes()
    pair.certificate.write_bytes(b"# Zertifikat f\xc3\xbcr uns\n" + own + above)
    assert found(pair.certificate, pair.key) == []
    pair.certificate.write_bytes(above + own)
    assert "are not a pair" in fault(pair.certificate, pair.key)


def test_another_ones_key_is_no_pair(pair: Pair, tmp_path: Path):
    other = write_certificate(tmp_path / "other", NAME)
    assert (
        fault(pair.certificate, other.key) == f"{pair.certificate} and {other.key} are not a pair"
    )


@pytest.mark.parametrize("content", [b"", b"words\n", b"\x30\x82\x01\x0a\x02\x82\xff\x00"])
def test_files_that_are_no_pem_are_told(pair: Pair, content: bytes):
    whole = pair.certificate.read_bytes()
    for path in (pair.certificate, pair.key):
        path.write_bytes(content)
        assert fault(*pair) == f"{pair.certificate} and {pair.key} cannot be read"
        (told,) = faults(published(pair))
        assert told.todo == "give PEM files, and a key without a password"
        pair.certificate.write_bytes(whole)


def test_a_key_in_the_certificates_place_is_told(pair: Pair):
    assert "cannot be read" in fault(pair.key, pair.key)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent.pem", "there is no file"),
        (".", "there is no file"),
        ("pipe", "there is no file"),
        ("notebook.key/x", "Not a directory:"),
        ("x" * 300, "File name too long:"),
        ("a\0b", "embedded null byte:"),
    ],
)
def test_what_is_no_file_is_told_with_its_key(pair: Pair, tmp_path: Path, name: str, why: str):
    os.mkfifo(tmp_path / "pipe")
    wrong = tmp_path / name
    told = {
        "notebook_certificate": f"notebook_certificate: {why} {wrong}",
        "notebook_key": f"notebook_key: {why} {wrong}",
    }
    assert fault(wrong, pair.key) == told["notebook_certificate"]
    assert fault(pair.certificate, wrong) == told["notebook_key"]
    assert found(wrong, wrong) == list(told.values())


@pytest.mark.parametrize("refused", ["stat", "open"])
def test_a_file_of_another_users_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch, refused: str):
    """The folder cannot be entered, or the file not be read; the tests may run as root."""
    usual = getattr(Path, refused)

    def refuse(path: Path, *given, **named):
        if path == pair.key:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return usual(path, *given, **named)

    monkeypatch.setattr(Path, refused, refuse)
    assert fault(*pair) == f"notebook_key: Permission denied: {pair.key}"


def shown(days: float) -> str:
    """The date in so many days, as it is told."""
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d }"


def test_one_that_has_run_out_is_told_with_its_end(tmp_path: Path):
    old = write_certificate(tmp_path, NAME, days=-1)
    assert f"{old.certificate} has run out: {shown(-1)}" in fault(*old)


def test_one_that_is_not_valid_yet_is_told_with_its_beginning(tmp_path: Path):
    early = write_certificate(tmp_path, NAME, since=-2)
    assert f"{early.certificate} is not valid before {shown(2)}" in fault(*early)
    minute = 1 / 24 / 60
    assert found(*write_certificate(tmp_path, NAME, since=-0.5 * minute)) == []
    assert len(found(*write_certificate(tmp_path, NAME, since=-2 * minute))) == 1


def test_one_that_runs_out_within_two_weeks_is_a_warning(tmp_path: Path):
    late = write_certificate(tmp_path, NAME, days=13.9)
    (told,) = faults(published(late))
    assert told.warning
    assert f"{late.certificate} runs out soon: {shown(13.9)}" in told.what
    assert "renew it" in told.todo
    assert found(*write_certificate(tmp_path, NAME, days=14.1)) == []


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path):
    both = write_certificate(tmp_path, "other.example.org", days=-1)
    first, second = found(*both)
    assert "has run out" in first
    assert second == f"the certificate is for other.example.org, not for {NAME}"


def test_a_name_that_is_no_ascii_is_told(pair: Pair):
    """OpenSSL takes it."""
    own = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    odd = own.replace(NAME.encode(), NAME.encode().replace(b"k", b"\xff"))
    pair.certificate.write_text(ssl.DER_cert_to_PEM_cert(odd))
    assert f"{pair.certificate} cannot be read: " in fault(*pair)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path):
    """On a terminal of its own, on which OpenSSL would ask."""
    locked = write_certificate(tmp_path, NAME, password="secret")
    code = """
import os, sys
from pathlib import Path
os.login_tty(0)
from sparkbundle.inventory import Publication
from sparkbundle.notebook_certificate import faults
certificate, key = map(Path, sys.argv[1:])
(fault,) = faults(Publication(name="a.b", certificate=certificate, key=key))
print(fault.todo)
"""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", code, locked.certificate, locked.key]
    try:
        subprocess.run(words, stdin=theirs, start_new_session=True, check=True, timeout=60)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "give PEM files, and a key without a password" in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        ([NAME], True),
        (["example.org", NAME], True),
        (["Notebook.Example.ORG"], True),
        (["*.example.org"], True),
        (["*.org"], False),
        (["*.notebook.example.org"], False),
        (["example.org"], False),
        (["other.example.org"], False),
        (["xnotebook.example.org"], False),
    ],
)
def test_a_certificate_is_for_its_names_and_a_wildcards(
    tmp_path: Path, names: list[str], fits: bool
):
    shown = ", ".join(name.lower() for name in names)
    told = [] if fits else [f"the certificate is for {shown}, not for {NAME}"]
    assert found(*write_certificate(tmp_path, *names)) == told


def test_a_name_outside_of_the_alternative_names_does_not_count(tmp_path: Path):
    """No browser has looked at the common name for years."""
    assert fault(*write_certificate(tmp_path)) == (
        f"the certificate is for no name, not for {NAME}"
    )
