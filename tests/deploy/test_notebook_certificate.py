"""Which certificates are taken for the published notebook server, read as the server reads them."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from sparkbundle.notebook_certificate import fault, misnamed
from tests.certificates import Pair, write_certificate

NAME = "notebook.example.org"


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return write_certificate(tmp_path, NAME)


def test_a_certificate_with_its_key_is_taken(pair: Pair):
    assert fault(pair.certificate, pair.key) == ""


def test_others_may_follow_the_servers_own_certificate(pair: Pair, tmp_path: Path):
    authority = write_certificate(tmp_path / "authority", "authority.example.org")
    own, above = pair.certificate.read_bytes(), authority.certificate.read_bytes()
    pair.certificate.write_bytes(b"# Zertifikat f\xc3\xbcr uns\n" + own + above)
    assert fault(pair.certificate, pair.key) == ""
    assert misnamed(pair.certificate, NAME) == ""
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
        assert "cannot be read: PEM files, and a key without" in fault(pair.certificate, pair.key)
        pair.certificate.write_bytes(whole)


def test_a_key_in_the_certificates_place_is_told(pair: Pair):
    assert "cannot be read" in fault(pair.key, pair.key)


def test_the_file_that_cannot_be_opened_is_the_one_that_is_named(pair: Pair, tmp_path: Path):
    absent = tmp_path / "absent.pem"
    assert fault(absent, pair.key) == f"{absent}: No such file or directory"
    assert fault(pair.certificate, absent) == f"{absent}: No such file or directory"
    assert fault(pair.certificate, tmp_path) == f"{tmp_path}: Is a directory"


def test_one_that_has_run_out_is_told_with_its_end(tmp_path: Path):
    old = write_certificate(tmp_path, NAME, days=-1)
    assert f"{old.certificate} has run out: 20" in fault(old.certificate, old.key)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path):
    """On a terminal of its own, on which OpenSSL would ask."""
    locked = write_certificate(tmp_path, NAME, password="secret")
    code = """
import os, sys
from pathlib import Path
os.login_tty(0)
from sparkbundle.notebook_certificate import fault
print(fault(*map(Path, sys.argv[1:])))
"""
    ours, theirs = pty.openpty()
    words = [sys.executable, "-c", code, locked.certificate, locked.key]
    try:
        subprocess.run(words, stdin=theirs, start_new_session=True, check=True, timeout=60)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "cannot be read: PEM files, and a key without a password" in shown
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
    said = misnamed(write_certificate(tmp_path, *names).certificate, NAME)
    shown = ", ".join(name.lower() for name in names)
    assert said == ("" if fits else f"the certificate is for {shown}, not for {NAME}")


def test_a_name_outside_of_the_alternative_names_does_not_count(tmp_path: Path):
    """No browser has looked at the common name for years."""
    said = misnamed(write_certificate(tmp_path).certificate, NAME)
    assert said == f"the certificate is for no name, not for {NAME}"
