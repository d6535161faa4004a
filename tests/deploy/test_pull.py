"""`sparkbundle pull`: from hosts and jobs, against real SSH servers; nothing unsafe is kept."""

import io
import json
import os
import shlex
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkbundle import fetching, job_files
from sparkbundle.errors import SparkbundleError
from sparkbundle.fetching import local_place, pull, source
from sparkbundle.hosts import Hosts
from sparkbundle.job_agent.store import Store
from sparkbundle.transfer import Moved, target
from tests.conftest import small_disk
from tests.deploy.conftest import CommandLine
from tests.deploy.test_push import LONG_AGO, names, sample
from tests.deploy.test_ssh import Lab, lab_of


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    with lab_of(tmp_path, "boss", "w1") as made:
        yield made


def get(lab: Lab, path: str, places: dict[str, Path], *, user: str = "", force: bool = False):
    inventory = lab.inventory()
    with Hosts(inventory) as hosts:
        return pull(
            hosts,
            source(path, user=user),
            places=places,
            chosen=[inventory.host(name) for name in places],
            force=force,
            tell=lambda _host, _count: None,
        )


def test_a_host_is_told_from_a_job(lab: Lab):
    inventory = lab.inventory()
    assert job_files.split("w1:/var/log", inventory) == ("w1", None, "/var/log")
    assert job_files.split("last:model", inventory) == (None, "last", "model")
    assert job_files.split("w1:a:b", inventory) == ("w1", None, "a:b")
    assert job_files.split("w1:model", None) == (None, "w1", "model")
    for path in ("/var/log", "./w1:x", "x", ":x", "logs/a:b"):
        assert job_files.split(path, inventory) == (None, None, path)


def test_a_jobs_path_stays_in_its_folder():
    assert [job_files.within(p) for p in ("", "model/", "a/../b", "..a")] == [
        ".",
        "model",
        "b",
        "..a",
    ]
    for path in ("/etc/passwd", "..", "a/../../b"):
        with pytest.raises(SparkbundleError, match="not in the job's"):
            job_files.within(path)


def test_a_source_has_a_name():
    assert source("~/a/b/").path == "a/b"
    assert source("/var/log/").name == "log"
    for path in ("/", ".", "..", "", "a/..", "~", "~/"):
        with pytest.raises(SparkbundleError, match="does not name"):
            source(path)
    assert local_place(target("here/"), "log") == Path("here/log")
    assert local_place(target("here/name"), "log") == Path("here/name")


def test_a_folder_comes_as_it_is(lab: Lab, tmp_path: Path):
    there = sample(lab.servers["w1"].home / "a b")
    (there.parent / "current").symlink_to("a b")
    place = tmp_path / "new/copy"
    moved = get(lab, "current", {"w1": place})["w1"]
    assert isinstance(moved, Moved), moved
    assert (moved.paths, moved.files) == ((str(place),), 4)
    assert {str(p.relative_to(place)) for p in place.rglob("*")} == {
        str(p.relative_to(there)) for p in there.rglob("*")
    }
    assert (place / "deep/er/a file").read_bytes() == (there / "deep/er/a file").read_bytes()
    assert (place / "run.sh").stat().st_mtime == LONG_AGO
    assert (place / "deep").stat().st_mtime == LONG_AGO
    assert (place / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert (place / "link").readlink() == Path("deep/er/a file")
    assert names(place.parent) == {"copy"}


def test_from_several_hosts_at_once(lab: Lab, tmp_path: Path):
    for name, server in lab.servers.items():
        (server.home / "log").write_text(name)
    places = {name: tmp_path / "logs" / name / "log" for name in lab.servers}
    results = get(lab, "log", places)
    assert all(isinstance(one, Moved) for one in results.values())
    assert {name: place.read_text() for name, place in places.items()} == {
        "boss": "boss",
        "w1": "w1",
    }


def test_what_is_not_there(lab: Lab, tmp_path: Path):
    failed = get(lab, "absent", {"w1": tmp_path / "x/copy"})["w1"]
    assert isinstance(failed, SparkbundleError)
    assert (failed.what, failed.where) == ("no such file or folder there", "w1:absent")
    assert failed.code == 3
    assert names(tmp_path / "x") == set()


def test_what_is_here_stays_unless_forced(lab: Lab, tmp_path: Path):
    (lab.servers["w1"].home / "file").write_text("new")
    place = tmp_path / "x/place"
    place.mkdir(parents=True)
    (place / "mine").touch()
    failed = get(lab, "file", {"w1": place})["w1"]
    assert isinstance(failed, SparkbundleError)
    assert failed.what == "exists already"
    assert f"{place}/ puts the copy inside" in failed.todo
    assert names(place) == {"mine"}
    # A failure with --force leaves what was there, too.
    assert isinstance(get(lab, "absent", {"w1": place}, force=True)["w1"], SparkbundleError)
    assert names(place) == {"mine"}
    assert isinstance(get(lab, "file", {"w1": place}, force=True)["w1"], Moved)
    assert place.read_text() == "new"
    assert names(place.parent) == {"place"}


def test_the_folder_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    for place in (tmp_path / "a", Path(".."), Path.home()):
        with pytest.raises(SparkbundleError, match="not replaced"):
            fetching.require_free(place, force=True)


def member(name: str, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(info, key, value)
    info.size = 4 if info.isreg() else 0
    return info, b"evil"


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("x/../../evil")],
        [member("x", type=tarfile.SYMTYPE, linkname="/etc"), member("x/evil")],
        [member("x", type=tarfile.SYMTYPE, linkname="../.."), member("x/evil")],
        [member("x", type=tarfile.LNKTYPE, linkname="../../secret")],
        [member("x", type=tarfile.CHRTYPE)],
        [member("x"), member("y")],
    ],
    ids=["up", "up-inside", "link", "link-up", "hard-link", "device", "two"],
)
def test_a_hostile_host_writes_nothing_outside(lab: Lab, tmp_path: Path, monkeypatch, members):
    """A host that sends another tar stream than the one it was asked for."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    made = tmp_path / "hostile.tar"
    made.write_bytes(stream.getvalue())
    (tmp_path / "area").mkdir()
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setattr(fetching, "_PACK", f"cat {shlex.quote(str(made))}")
    failed = get(lab, "x", {"w1": tmp_path / "area/copy"})["w1"]
    assert isinstance(failed, SparkbundleError)
    assert names(tmp_path / "area") == set()
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_stream_that_is_cut_off_leaves_nothing(lab: Lab, tmp_path: Path, monkeypatch, share):
    there = sample(lab.servers["w1"].home / "folder")
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        tar.add(there, arcname="folder")
    whole = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "part.tar").write_bytes(whole[: int(len(whole) * share)])
    monkeypatch.setattr(fetching, "_PACK", f"cat {tmp_path}/part.tar; kill -9 $$")
    failed = get(lab, "folder", {"w1": tmp_path / "area/copy"})["w1"]
    assert isinstance(failed, SparkbundleError)
    assert names(tmp_path / "area") == set()


def test_a_lost_connection_leaves_nothing(lab: Lab, tmp_path: Path):
    big = lab.servers["w1"].home / "big"
    with big.open("wb") as file:
        file.truncate(4 << 30)
    got = 0

    def tell(_host: str, count: int) -> None:
        nonlocal got
        before, got = got, got + count
        if before < 2_000_000 <= got:
            lab.servers["w1"].drop()

    inventory = lab.inventory()
    place = tmp_path / "area/copy"
    with Hosts(inventory) as hosts:
        failed = pull(
            hosts,
            source("big"),
            places={"w1": place},
            chosen=[inventory.host("w1")],
            force=False,
            tell=tell,
        )["w1"]
    assert isinstance(failed, SparkbundleError)
    assert failed.code == 4
    assert names(place.parent) == set()


def test_a_full_disk_here_is_said(lab: Lab, tmp_path: Path):
    small = tmp_path / "small"
    with small_disk(small, mebibytes=1):
        (lab.servers["w1"].home / "file").write_bytes(os.urandom(3 << 20))
        failed = get(lab, "file", {"w1": small / "copy"})["w1"]
        assert isinstance(failed, SparkbundleError)
        assert failed.what.startswith("the disk is full here")
        assert names(small) == set()


def test_a_file_that_changes_while_it_is_read_is_a_warning(lab: Lab, tmp_path: Path, monkeypatch):
    (lab.servers["w1"].home / "log").write_text("line")
    script = 'tar -c -f - -- "$1"; echo "tar: log: file changed as we read it" >&2; exit 1'
    monkeypatch.setattr(fetching, "_PACK", script)
    assert isinstance(get(lab, "log", {"w1": tmp_path / "copy"})["w1"], Moved)
    monkeypatch.setattr(fetching, "_PACK", 'tar -c -f - -- "$1"; echo "tar: broken" >&2; exit 2')
    failed = get(lab, "log", {"w1": tmp_path / "other"})["w1"]
    assert isinstance(failed, SparkbundleError)
    assert failed.what == "tar: broken"
    assert not (tmp_path / "other").exists()


def test_the_command_line(lab: Lab, tmp_path: Path, cli: CommandLine):
    for name, server in lab.servers.items():
        (server.home / "log").write_text(name)
    given = ["-i", str(lab.path)]
    done = cli("pull", *given, "log", "logs/")
    assert "logs/w1/log" in done.stdout
    assert (cli.home / "logs/boss/log").read_text() == "boss"
    cli("pull", *given, "--on", "workers", "log", "one")
    assert (cli.home / "one/w1/log").read_text() == "w1"
    told = json.loads(cli("pull", *given, "w1:log", "copy", "--json").stdout)
    assert told["hosts"]["w1"]["paths"] == ["copy"]
    assert (cli.home / "copy").read_text() == "w1"
    assert "--force" in cli("pull", *given, "w1:log", "copy", code=3).stderr
    cli("pull", *given, "w1:log", "copy", "--force")
    assert "no host 'w2'" in cli("pull", *given, "w2:/var/log", "x", code=2).stderr
    assert "leave --on out" in cli("pull", *given, "--on", "w1", "w1:log", "x", code=2).stderr
    assert "only jobs" in cli("pull", "log", "x", code=2).stderr


def test_from_a_job_of_this_machine(cli: CommandLine):
    store = Store(cli.directory("default") / "jobs")
    with store.new("train") as job:
        (job.folder.work / "model").mkdir()
        (job.folder.work / "model/weights").write_text("w")
        (job.folder.work / "events.jsonl").write_text("e")
        store.finish(job, {"format": 1, "app": "x", "command": ["x"]})
    name = job.final.id
    cli("pull", "last:model", "got/")
    assert (cli.home / "got/model/weights").read_text() == "w"
    cli("pull", f"{name[:-1]}:events.jsonl", "events")
    assert (cli.home / "events").read_text() == "e"
    cli("pull", f"{name}:", "everything")
    assert names(cli.home / "everything") == {"model", "events.jsonl"}
    assert "no such file" in cli("pull", "last:absent", "x", code=3).stderr
    assert "not in the job's" in cli("pull", "last:../conf", "x", code=2).stderr
    assert "no job" in cli("pull", "other:x", "x", code=3).stderr
