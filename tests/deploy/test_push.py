"""`sparkbundle push`: whole or not at all, on all hosts, against real SSH servers."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparkbundle import sending
from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.reach import choose
from sparkbundle.sending import load, push
from sparkbundle.transfer import Moved, Target, remote_target, size, target
from tests.conftest import small_disk
from tests.deploy.conftest import CommandLine, wait_until
from tests.deploy.test_ssh import Lab, lab_of

LONG_AGO = 1_000_000_000


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    with lab_of(tmp_path, "boss", "w1") as made:
        yield made


def sample(folder: Path) -> Path:
    """A folder with what a copy may get wrong."""
    (folder / "deep/er").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "deep/er/a file").write_bytes(os.urandom(300_000))
    (folder / "-n").write_text("a name like an option")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o4750)
    (folder / "link").symlink_to("deep/er/a file")
    (folder / "é$(touch x)").write_text("ü")
    for path in [folder / "run.sh", folder / "deep"]:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return folder


def send(lab: Lab, *paths: Path, to: str, force: bool = False, on: str = "all"):
    inventory = lab.inventory()
    place = remote_target(to, several=len(paths) > 1)
    with Hosts(inventory) as hosts:
        return push(
            hosts,
            load(paths, place),
            chosen=choose(inventory, [on]),
            sudo=False,
            force=force,
            tell=lambda _host, _count: None,
        )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("path", "several", "expected"),
    [
        ("/data/x", False, Target(folder="/data", name="x")),
        ("/data/x", True, Target(folder="/data/x", name=None)),
        ("/data/", False, Target(folder="/data", name=None)),
        ("x", False, Target(folder=".", name="x")),
        (".", False, Target(folder=".", name=None)),
        ("../", False, Target(folder="..", name=None)),
        ("/", False, Target(folder="/", name=None)),
        ("", False, Target(folder=".", name=None)),
    ],
)
def test_what_a_path_means_does_not_depend_on_what_is_there(path, several, expected):
    assert target(path, several=several) == expected


def test_a_home_on_a_host_is_where_its_session_begins():
    assert remote_target("~/x") == Target(folder=".", name="x")
    assert remote_target("~") == Target(folder=".", name=None)
    assert remote_target("/a~/x") == Target(folder="/a~", name="x")


def test_sizes_in_words():
    assert [size(n) for n in (0, 1023, 1024, 3 << 29)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.5 GiB",
    ]


def test_a_folder_arrives_as_it_is(lab: Lab, tmp_path: Path):
    here = sample(tmp_path / "sample")
    results = send(lab, here, to="new/folder/copy")
    for name, server in lab.servers.items():
        copy = server.home / "new/folder/copy"
        moved = results[name]
        assert isinstance(moved, Moved), moved
        assert moved.paths == (str(copy),)
        assert moved.files == 4
        assert {str(p.relative_to(copy)) for p in copy.rglob("*")} == {
            str(p.relative_to(here)) for p in here.rglob("*")
        }
        assert (copy / "deep/er/a file").read_bytes() == (here / "deep/er/a file").read_bytes()
        assert (copy / "link").readlink() == Path("deep/er/a file")
        # Permissions and times are kept, but nobody gets a set-user-id program.
        assert (copy / "run.sh").stat().st_mode & 0o7777 == 0o750
        assert (copy / "run.sh").stat().st_mtime == LONG_AGO
        assert (copy / "deep").stat().st_mtime == LONG_AGO
        assert names(server.home / "new/folder") == {"copy"}


def test_several_things_go_into_a_folder(lab: Lab, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "-two"
    one.write_text("1")
    two.write_text("2")
    results = send(lab, one, two, to="inbox")
    for name, server in lab.servers.items():
        assert results[name].paths == tuple(str(server.home / "inbox" / n) for n in ("one", "-two"))
        assert names(server.home / "inbox") == {"one", "-two"}


def test_what_is_there_stays_unless_forced(lab: Lab, tmp_path: Path):
    here = sample(tmp_path / "sample")
    home = lab.servers["w1"].home
    (home / "copy").mkdir()
    (home / "copy/mine").write_text("mine")
    results = send(lab, here, to="copy")
    assert isinstance(results["boss"], Moved)
    refused = results["w1"]
    assert isinstance(refused, SparkbundleError)
    assert refused.what == f"{home}/copy exists there"
    assert (refused.code, names(home / "copy")) == (3, {"mine"})
    results = send(lab, here, to="copy", force=True)
    assert all(isinstance(one, Moved) for one in results.values())
    assert "mine" not in names(home / "copy")
    assert names(home) == {"copy"}


def test_a_folder_below_the_root_is_not_replaced():
    for path in ("/etc", "//etc", "/./etc"):
        with pytest.raises(SparkbundleError, match="directly under /"):
            sending.require_replaceable(remote_target(path))
    sending.require_replaceable(remote_target("/etc/"))
    sending.require_replaceable(remote_target("/etc/app"))


def test_what_cannot_be_sent_is_said_before_anything_is_sent(tmp_path: Path):
    to = remote_target("x/")
    with pytest.raises(SparkbundleError, match="No such file") as error:
        load([tmp_path / "absent"], to)
    assert (error.value.code, error.value.where) == (3, str(tmp_path / "absent"))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder/pipe")
    with pytest.raises(SparkbundleError, match="no file, folder or link"):
        load([tmp_path / "folder"], to)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/same").touch()
    (tmp_path / "same").touch()
    with pytest.raises(SparkbundleError, match="'same'"):
        load([tmp_path / "a/same", tmp_path / "same"], to)


def test_a_folder_that_cannot_be_made_is_named(lab: Lab, tmp_path: Path):
    (tmp_path / "f").touch()
    for server in lab.servers.values():
        (server.home / "file").touch()
    failed = send(lab, tmp_path / "f", to="file/below/")["w1"]
    assert isinstance(failed, SparkbundleError)
    assert "file" in failed.what
    assert failed.where == "w1"


def test_a_stream_that_is_cut_off_leaves_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also where tar itself takes it for whole: it ends between two members."""
    here = sample(tmp_path / "sample")

    pack = sending._pack
    monkeypatch.setattr(sending, "_pack", lambda sink, what, last: pack(sink, what, "another-name"))
    failed = send(lab, here, to="copy")["boss"]
    assert isinstance(failed, SparkbundleError)
    assert "cut off" in failed.what
    assert names(lab.servers["boss"].home) == set()


def test_ctrl_c_leaves_nothing_on_the_hosts(lab: Lab, tmp_path: Path):
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(4 << 30)  # no byte of it is on the disk
    homes = [server.home for server in lab.servers.values()]

    def interrupt() -> None:
        wait_until(lambda: all(list(home.rglob("big")) for home in homes))
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(SparkbundleError, match="interrupted") as error:
        send(lab, big, to="big")
    assert error.value.code == 130
    wait_until(lambda: not any(names(home) for home in homes), seconds=10)


def test_a_file_that_shrinks_meanwhile_is_an_error(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "file"
    file.write_bytes(bytes(100_000))
    plain = sending._plain

    def shrink(member):
        os.truncate(file, 10)
        return plain(member)

    monkeypatch.setattr(sending, "_plain", shrink)
    failed = send(lab, file, to="copy", on="boss")["boss"]
    assert isinstance(failed, SparkbundleError)
    assert failed.where == str(file)
    wait_until(lambda: not names(lab.servers["boss"].home), seconds=10)


def test_a_full_disk_there_is_said(lab: Lab, tmp_path: Path):
    small = tmp_path / "small"
    with small_disk(small, mebibytes=1):
        file = tmp_path / "file"
        file.write_bytes(bytes(3 << 20))
        failed = send(lab, file, to=f"{small}/copy")["boss"]
        assert isinstance(failed, SparkbundleError)
        assert failed.what == "the disk is full there"
        assert names(small) == set()


def test_the_command_line(lab: Lab, tmp_path: Path, cli: CommandLine):
    file = tmp_path / "file"
    file.write_text("text")
    given = ["-i", str(lab.path)]
    done = cli("push", *given, str(file), "in/")
    for server in lab.servers.values():
        assert f"{server.home}/in/file  (1 file, 4 bytes" in done.stdout
    done = cli("push", *given, str(file), "in/", "--on", "w1", code=3)
    assert "exists there" in done.stderr
    assert "--force" in done.stderr
    told = json.loads(
        cli("push", *given, str(file), "in/", "--on", "w1", "--force", "--json").stdout
    )
    assert told["hosts"]["w1"]["paths"] == [f"{lab.servers['w1'].home}/in/file"]
    (lab.servers["w1"].home / "in/file").unlink()
    done = cli("push", *given, str(file), "in/", code=7)
    assert "failed on 1 of 2 hosts" in done.stderr
    assert "w1" in done.stdout
    assert "No such file" in cli("push", *given, str(tmp_path / "absent"), "x", code=3).stderr
    assert "under /" in cli("push", *given, "--force", str(file), "/etc", code=3).stderr
