"""Which folders the hosts of a place are held to share."""

import pytest

from sentiment.errors import SentimentError
from sentiment.folders import VARIABLE, shared


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        ("local[*]", True),
        ("local", True),
        ("spark://127.0.0.1:7077", True),
        ("spark://localhost:7077", True),
        ("spark://[::1]:7077", True),
        ("spark://10.0.3.11:7077", False),
        ("spark://10.0.3.11:7077,10.0.3.12:7077", False),
        ("spark://no-such-host.invalid:7077", False),
        ("yarn", False),
        ("spark://", False),
    ],
)
def test_of_several_hosts_nothing_is_assumed(master, expected):
    assert shared(master, "/data/corpus") is expected


@pytest.mark.parametrize(
    ("declared", "path", "expected"),
    [
        ("/mnt/data", "/mnt/data/corpus", True),
        ("/mnt/data", "/mnt/data", True),
        ("/srv:/mnt/data/", "/mnt/data/corpus", True),
        ("/mnt/data", "/mnt/database", False),
        ("/mnt/data", "/mnt/data/../home", False),
        ("", "/mnt/data", False),
    ],
)
@pytest.mark.parametrize("master", ["spark://10.0.3.11:7077", "spark://127.0.0.1:7077"])
def test_what_is_declared_holds_both_ways(monkeypatch, master, declared, path, expected):
    monkeypatch.setenv(VARIABLE, declared)
    assert shared(master, path) is expected
    assert shared(master, path, "/elsewhere") is False
    assert shared("local[2]", path) is True


def test_a_link_is_what_it_is_called(monkeypatch, tmp_path):
    """Executors get the path as it was given: what it points to here is no matter."""
    (tmp_path / "link").symlink_to("/mnt/data")
    monkeypatch.setenv(VARIABLE, "/mnt/data")
    assert not shared("spark://10.0.3.11:7077", tmp_path / "link" / "corpus")


def test_a_relative_folder_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "data")
    with pytest.raises(SentimentError, match="'data' is no absolute path"):
        shared("spark://10.0.3.11:7077", "/data")
