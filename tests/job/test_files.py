import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from sentiment import files
from sentiment.errors import LOCKED, SentimentError
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


WRITER = """
import sys
from pathlib import Path
from sentiment.files import new_directory

with new_directory(Path(sys.argv[1]), replace=True) as aside:
    (aside / "theirs").mkdir()
    (aside / "theirs" / "x").write_text("theirs")
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process that is in the middle of writing `out`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("replace", [False, True])
def test_a_second_writer_is_refused_at_once(tmp_path, other_run, replace):
    with (
        pytest.raises(SentimentError, match="out: is being written by another run") as refused,
        new_directory(tmp_path / "out", replace=replace),
    ):
        pytest.fail("the block must not run")
    assert refused.value.code == LOCKED
    other_run.communicate("\n", timeout=60)
    assert other_run.returncode == 0
    assert (tmp_path / "out" / "theirs" / "x").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_writer_left_is_cleared_away(tmp_path, other_run):
    other_run.send_signal(signal.SIGKILL)
    other_run.wait(timeout=60)
    assert [p.name for p in tmp_path.iterdir()] == [".out.part"]
    with new_directory(tmp_path / "out") as aside:
        assert list(aside.iterdir()) == []
        (aside / "x").write_text("mine")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_writers_of_two_targets_do_not_meet(tmp_path, other_run):
    with new_directory(tmp_path / "another") as aside:
        (aside / "x").write_text("1")
    assert (tmp_path / "another" / "x").exists()


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    with new_directory(tmp_path / "out") as aside:
        (aside / "x").write_text("1")
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
    try:
        with new_directory(tmp_path / "out", replace=True) as aside:
            (aside / "y").write_text("2")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["y"]


def test_a_directory_that_was_renamed_before_it_was_locked_is_let_go(tmp_path, monkeypatch):
    """The run before finishes between our opening its directory and our locking it."""
    lock, calls = files.fcntl.flock, []

    def late(handle, operation):
        if not calls:
            (tmp_path / ".out.part").rename(tmp_path / "out")
        calls.append(operation)
        return lock(handle, operation)

    monkeypatch.setattr(files.fcntl, "flock", late)
    with pytest.raises(SentimentError, match="exists already"), new_directory(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_where_directories_cannot_be_locked_it_is_written_all_the_same(tmp_path, monkeypatch):
    def refused(handle, operation):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(files.fcntl, "flock", refused)
    with new_directory(tmp_path / "out") as aside:
        (aside / "x").write_text("1")
    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / "other"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "x").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("new_one_is_there", [False, True])
def test_a_swap_that_was_killed_in_the_middle_is_undone_or_finished(tmp_path, new_one_is_there):
    old = tmp_path / ".out.old"
    old.mkdir()
    (old / "x").write_text("old")
    if new_one_is_there:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").write_text("new")
    with pytest.raises(ZeroDivisionError), new_directory(tmp_path / "out", replace=True):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "x").read_text() == ("new" if new_one_is_there else "old")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_swap_that_fails_puts_the_old_one_back(tmp_path, monkeypatch):
    with new_directory(tmp_path / "out") as aside:
        (aside / "x").write_text("old")
    rename = files.Path.rename

    def failing(self, target):
        if self.name == ".out.part":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(files.Path, "rename", failing)
    with (
        pytest.raises(SentimentError, match="Input/output error"),
        new_directory(tmp_path / "out", replace=True) as aside,
    ):
        (aside / "x").write_text("new")
    assert (tmp_path / "out" / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


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
