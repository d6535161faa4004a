import errno

import pytest

from sentiment.errors import SentimentError
from sentiment.files import new_directory, sha256_of, write_file, write_json


def test_a_directory_appears_whole(tmp_path):
    with new_directory(tmp_path / "a" / "out") as aside:
        (aside / "x").write_text("1")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "x").read_text() == "1"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out"]


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "out"
    with new_directory(target) as aside:
        (aside / "x").write_text("old")
    with pytest.raises(ZeroDivisionError), new_directory(target, replace=True) as aside:
        (aside / "x").write_text("new")
        raise ZeroDivisionError
    assert (target / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_replacing_takes_the_old_away(tmp_path):
    for text in ("old", "new"):
        with new_directory(tmp_path / "out", replace=True) as aside:
            (aside / text).write_text(text)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_existing_target_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SentimentError, match="exists already"), new_directory(tmp_path / "out"):
        pytest.fail("the block must not run")


def test_a_full_disk_names_the_path(tmp_path):
    with pytest.raises(SentimentError, match="No space left"), new_directory(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    write_file(tmp_path / "y", b"123")
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 1\n}\n'
    assert (
        sha256_of(tmp_path / "y")
        == "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.json", "y"]
