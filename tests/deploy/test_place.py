"""The roles' own Ansible module `place`: directories and files, as `file` and `copy` make them."""

import grp
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparkbundle.resources import roles

MODULE = roles() / "base/library/place.py"
MINE = {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


def place(*, code: int = 0, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """What the module tells that Ansible starts with these arguments."""
    given = {"ANSIBLE_MODULE_ARGS": {"_ansible_check_mode": check, **arguments}}
    done = subprocess.run(
        [sys.executable, MODULE],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


def test_directories_are_made_once_and_their_modes_mended(tmp_path: Path):
    names = {"directories": [{"path": str(tmp_path / name), **MINE} for name in ("a", "a/b")]}
    for entry, wanted in zip(names["directories"], ("0750", "0700"), strict=True):
        entry["mode"] = wanted
    assert place(**names, check=True)["changed"]
    assert not (tmp_path / "a").exists()
    assert [diff["after"]["state"] for diff in place(**names)["diff"]] == ["directory"] * 2
    assert (mode(tmp_path / "a"), mode(tmp_path / "a/b")) == ("0750", "0700")
    assert not place(**names)["changed"]
    (tmp_path / "a/b").chmod(0o777)
    assert place(**names, check=True)["diff"] == [
        {"before": {"mode": "0777"}, "after": {"mode": "0700"}}
    ]
    assert mode(tmp_path / "a/b") == "0777"
    assert place(**names)["changed"]
    assert mode(tmp_path / "a/b") == "0700"


def test_a_file_in_a_directorys_place_is_an_error(tmp_path: Path):
    (tmp_path / "a").touch()
    entry = {"path": str(tmp_path / "a"), "mode": "0755", **MINE}
    assert "is no directory" in place(directories=[entry], code=1)["msg"]


def test_files_are_written_where_they_differ(tmp_path: Path):
    files = {"one": "1\n", "two": "{{ two }}"}
    wanted = {"into": str(tmp_path), "files": files, "mode": "0640", **MINE}
    assert place(**wanted, check=True)["changed"]
    assert list(tmp_path.iterdir()) == []
    assert place(**wanted)["changed"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
    assert {mode(path) for path in tmp_path.iterdir()} == {"0640"}
    assert not place(**wanted)["changed"]
    (tmp_path / "one").write_text("changed\n")
    (tmp_path / "two").chmod(0o600)
    (of_content, of_mode) = place(**wanted, check=True)["diff"]
    assert (of_content["before"], of_content["after"]) == ("changed\n", "1\n")
    assert of_content["before_header"] == str(tmp_path / "one")
    assert of_mode == {"before": {"mode": "0600"}, "after": {"mode": "0640"}}
    assert place(**wanted)["changed"]
    assert (tmp_path / "one").read_text() == "1\n"
    assert mode(tmp_path / "two") == "0640"


def test_a_file_that_is_there_may_stay(tmp_path: Path):
    (tmp_path / "own").write_text("mine")
    files = {"own": "ours", "new": "ours"}
    wanted = {"into": str(tmp_path), "files": files, "mode": "0600", "force": False, **MINE}
    assert [diff["after_header"] for diff in place(**wanted)["diff"]] == [str(tmp_path / "new")]
    assert (tmp_path / "own").read_text() == "mine"
    assert not place(**wanted)["changed"]


@pytest.mark.parametrize("missing", ["into", "mode"])
def test_files_need_a_place_and_a_mode(tmp_path: Path, missing: str):
    arguments = {"into": str(tmp_path), "mode": "0600"}
    del arguments[missing]
    assert missing in place(files={"a": ""}, **arguments, code=1)["msg"]
