"""The parts of jobs without a cluster: requests, folders, states, output on its way."""

import fcntl
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sparkbundle import jobs, jobs_view
from sparkbundle.errors import UNREACHABLE, PreflightError, SparkbundleError
from sparkbundle.job_agent import frames, records, request, settings, store
from sparkbundle.job_agent.records import AgentError, JobFolder
from sparkbundle.jobs_request import JobOptions, read_request
from sparkbundle.jobs_watch import Watched, output


def test_words_with_an_at_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "corpus" / "deep"
    corpus.mkdir(parents=True)
    (corpus / "a.txt").write_text("abc")
    (tmp_path / "empty").mkdir()
    (tmp_path / "t").write_bytes(b"12345")
    (corpus.parent / "link").symlink_to("../t")
    words = (
        "train",
        "@corpus",
        "--x=@t",
        "-v=@@t",
        "@@t",
        "@t",
        "a@b",
        "--m=a@b",
        "@empty/",
        "",
    )
    found = read_request(JobOptions(app="sentiment", words=words))
    assert found.value["arguments"] == [
        "train",
        {"before": "", "file": "0/corpus"},
        {"before": "--x=", "file": "1/t"},
        "-v=@t",
        "@t",
        {"before": "", "file": "1/t"},
        "a@b",
        "--m=a@b",
        {"before": "", "file": "2/empty"},
        "",
    ]
    assert (found.value["label"], found.value["members"], found.value["bytes"]) == ("train", 6, 13)
    stream = io.BytesIO(b"".join(found.stream()))
    assert json.loads(stream.readline())["kind"] == "sentiment"
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        content = {m.name: m.isfile() and archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    assert content == {
        "0/corpus": False,
        "0/corpus/link": b"12345",
        "0/corpus/deep": False,
        "0/corpus/deep/a.txt": b"abc",
        "1/t": b"12345",
        "2/empty": False,
    }


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"app": "sentiment", "words": ("@nothing",)}, "no file or folder 'nothing'"),
        ({"app": "sentiment", "words": ("--x=@nothing",)}, "no file or folder"),
        ({"app": "sentiment", "words": ("@",)}, "names no file"),
        ({"app": "sentiment", "words": ("@folder",)}, "link to a folder"),
        ({"app": "sentiment", "words": ("@pipe",)}, "no file and no folder"),
        ({"app": "sentiment", "files": (Path("a.py"),)}, "options of its own"),
        ({"app": "missing.py"}, "no such file"),
        ({"app": "a.py", "conf": ("spark.x",)}, "not spark.NAME=VALUE"),
        ({"app": "a.py", "conf": ("x=1",)}, "not spark.NAME=VALUE"),
        ({"app": "a.py", "py_files": (Path("a.txt"),)}, "takes .zip"),
        ({"app": "a.py", "files": (Path("a,b"),)}, "misreads a name"),
    ],
)
def test_what_cannot_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], part: str
):
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "a.txt", "a,b"):
        (tmp_path / name).touch()
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "link").symlink_to("in")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PreflightError, match=part):
        read_request(JobOptions(**options))


def test_a_file_that_shrinks_while_it_is_sent(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)
    found = read_request(JobOptions(app="sentiment", words=(f"@{tmp_path}/a",)))
    with pytest.raises(PreflightError, match="shorter"):
        for number, _ in enumerate(found.stream()):
            if number == 2:  # the request, the head of the file, a first block
                os.truncate(tmp_path / "a", 10)


def test_a_wheel_arrives_as_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("My App.py", "lib-1.whl", "app.py"):
        (tmp_path / name).touch()
    found = read_request(
        JobOptions(app="app.py", py_files=(Path("lib-1.whl"),), conf=("spark.a=b=c",))
    ).value
    assert (found["main"], found["py_files"]) == ("0/app.py", ["1/lib-1.zip"])
    assert found["conf"] == {"spark.a": "b=c"}


def test_ids_are_short_typable_and_sorted_by_time():
    now = datetime(2026, 11, 25, 3, 14, tzinfo=UTC)
    names = {records.new_id("train", now) for _ in range(20)}
    assert len(names) > 15
    assert all(re.fullmatch(r"train-1125-0314-[a-z2-9]{3}", name) for name in names)
    assert records.new_id("My App (2)!", now).startswith("my-app-2-1125-")
    assert records.new_id("日本", now).startswith("job-1125-")
    assert all(records.is_id(name) for name in names)
    assert not any(map(records.is_id, ["last", ".new-a", "../x", "", "A"]))


def make(root: Path, name: str, **record: Any) -> JobFolder:
    folder = JobFolder(root / name)
    folder.work.mkdir(parents=True)
    folder.log.touch()
    folder.lock.touch()
    records.blank_result(folder)
    told = {"app": "a.py", "started": records.now_text(), "command": ["a"], "memory_mib": 100}
    folder.record.write_text(json.dumps(told | record))
    return folder


@pytest.mark.parametrize(
    ("result", "cancelled", "state", "code", "reason"),
    [
        ({"code": "exited", "status": "0"}, False, "SUCCEEDED", 0, ""),
        ({"code": "exited", "status": "0"}, True, "SUCCEEDED", 0, ""),
        ({"code": "exited", "status": "7"}, False, "FAILED", 7, "exit code 7"),
        ({"code": "exited", "status": "143"}, False, "FAILED", 143, "as after SIGTERM"),
        ({"code": "killed", "status": "KILL"}, False, "FAILED", 137, "killed by SIGKILL"),
        ({"code": "dumped", "status": "SEGV"}, False, "FAILED", 139, "killed by SIGSEGV"),
        ({"code": "killed", "status": "TERM"}, True, "CANCELLED", 143, "SIGTERM"),
        ({"code": "killed", "status": "TERM", "stopping": True}, False, "LOST", 143, "shut down"),
        ({"code": "killed", "status": "KILL", "result": "oom-kill"}, False, "FAILED", 137, "100 M"),
        ({"code": "exited", "status": "0", "result": "oom-kill"}, False, "FAILED", 137, "100 MiB"),
    ],
)
def test_states(
    tmp_path: Path, *, result: dict[str, Any], cancelled: bool, state: str, code: int, reason: str
):
    folder = make(tmp_path, "a")
    assert records.describe(folder, running=True)["state"] == "RUNNING"
    assert records.describe(folder, running=False)["state"] == "LOST"
    if cancelled:
        folder.cancelled.touch()
    size = folder.result.stat().st_size
    records.write_result(folder, result)
    assert folder.result.stat().st_size == size  # no room is needed on a full disk
    told = records.describe(folder, running=False)
    assert (told["state"], told["exit"]) == (state, code)
    assert reason in told["reason"]
    job = jobs.parse_job({**told, "news": 1})
    assert job.exit_code == code
    assert jobs_view.state(job).startswith(state)


def test_a_lock_says_that_a_job_runs(tmp_path: Path):
    folder = make(tmp_path, "a")
    assert not records.is_locked(folder.lock)
    with folder.lock.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert records.is_locked(folder.lock)
    assert not records.is_locked(folder.lock)
    assert not records.is_locked(tmp_path / "nothing")


def test_finding_a_job(tmp_path: Path):
    jobs_here = store.Store(tmp_path / "jobs")
    with pytest.raises(AgentError, match="no job 'last'"):
        jobs_here.find("last")
    for second, name in enumerate(["train-1", "train-12", "score-1"]):
        make(jobs_here.root, name, started=f"2026-01-01T00:00:0{second}+00:00")
    (jobs_here.root / ".new-x").mkdir()
    assert [one.id for one in jobs_here.folders()] == ["train-1", "train-12", "score-1"]
    assert jobs_here.find("last").id == "score-1"
    assert jobs_here.find("train-1").id == "train-1"  # whole names come first
    assert jobs_here.find("s").id == "score-1"
    for wrong in ("train", "", "../jobs/train-1", "train-1/"):
        with pytest.raises(AgentError):
            jobs_here.find(wrong)
    with pytest.raises(AgentError) as error:
        jobs_here.find("trian-1")
    assert error.value.told["near"] == ["train-1"]


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return io.BytesIO(stream.getvalue())


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("stream", "members", "part"),
    [
        (tar((member("/x"), b"1")), 1, "leads out"),
        (tar((member("a/../../../x"), b"1")), 1, "leads out"),
        (tar((member("a", tarfile.SYMTYPE), b"")), 1, "no file and no folder"),
        (tar((member("a", tarfile.LNKTYPE), b"")), 1, "no file and no folder"),
        (tar((member("a", tarfile.CHRTYPE), b"")), 1, "no file and no folder"),
        (tar((member("a"), b"1"), (member("a"), b"2")), 2, "cannot be written"),
        (tar((member("a"), b"1")), 2, "1 of 2 files arrived"),
        (io.BytesIO(tar((member("a"), b"1" * 90_000)).getvalue()[:50_000]), 1, "not arrive whole"),
        (io.BytesIO(b"nonsense" * 100), 1, "not arrive whole|0 of 1"),
    ],
)
def test_what_should_not_arrive(tmp_path: Path, stream: io.BytesIO, members: int, part: str):
    jobs_here = store.Store(tmp_path / "jobs")
    with pytest.raises(AgentError, match=part), jobs_here.new("a") as job:
        jobs_here.extract(job, stream, members=members, alive=lambda: None)
        jobs_here.finish(job, {})
    assert list(jobs_here.root.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["jobs"]


def test_a_killed_start_leaves_nothing_for_long(tmp_path: Path):
    jobs_here = store.Store(tmp_path / "jobs")
    with jobs_here.new("a") as job:
        left = jobs_here.root / ".new-left"
        (left / "work").mkdir(parents=True)
        (left / "lock").touch()
        old = datetime.now(UTC).timestamp() - 3600
        for path in (left, job.folder.directory):
            os.utime(path, (old, old))
        (jobs_here.root / ".gone-b").mkdir()
        jobs_here.sweep()
        # What is being made is locked, however old it is.
        assert [path.name for path in jobs_here.root.iterdir()] == [f".new-{job.final.id}"]
        jobs_here.finish(job, {"started": "2026-01-01T00:00:00+00:00"})
    assert [one.id for one in jobs_here.folders()] == [job.final.id]
    assert job.final.record.stat().st_mode & 0o777 == 0o600
    jobs_here.remove(job.final)
    jobs_here.remove(job.final)
    assert list(jobs_here.root.iterdir()) == []


def test_no_room(tmp_path: Path):
    with pytest.raises(AgentError, match=r"no room: \d+ MiB free"):
        store.Store(tmp_path).check_room(1 << 60)


def test_the_settings_of_a_host(tmp_path: Path):
    with pytest.raises(AgentError, match="no master of a sparkbundle cluster"):
        settings.host_settings(configuration=tmp_path)
    told = {"master": "spark://10.0.0.1:7077", "address": "10.0.0.1"}
    (tmp_path / "cluster.json").write_text(json.dumps(told))
    with pytest.raises(AgentError, match="no release"):
        settings.host_settings(current=tmp_path / "current", configuration=tmp_path)
    (tmp_path / "abc" / "bin").mkdir(parents=True)
    (tmp_path / "abc" / "bin" / "sentiment").touch()
    (tmp_path / "current").symlink_to("abc")
    found = settings.host_settings(current=tmp_path / "current", configuration=tmp_path)
    folder = JobFolder(tmp_path / "jobs" / "a")
    asked = {"app": "sentiment", "kind": "sentiment", "arguments": ["x", {"file": "0/c"}]}
    record = request.make_record(asked, folder=folder, settings=found)
    assert record["command"] == [
        str(tmp_path / "abc/bin/sentiment"),
        "x",
        str(folder.directory / "files/0/c"),
    ]
    assert record["environment"]["SPARK_LOCAL_IP"] == "10.0.0.1"
    assert record["environment"]["SPARK_CONF_DIR"] == str(tmp_path)
    assert record["environment"]["HOME"] == str(folder.work)
    assert "current" not in json.dumps(record)
    assert (record["memory_mib"], record["release"]) == (4096, "abc")
    with pytest.raises(AgentError, match="is not installed"):
        request.make_record(
            asked | {"kind": "python", "main": "0/a.py"}, folder=folder, settings=found
        )


@pytest.mark.parametrize(
    ("text", "lines", "rest"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\n", 0, b""),
        (b"", 3, b""),
        (b"\n\n\n", 1, b"\n"),
        (b"x" * 70_000 + b"\n" + b"y" * 70_000 + b"\n", 1, b"y" * 70_000 + b"\n"),
    ],
)
def test_the_last_lines(text: bytes, lines: int, rest: bytes):
    assert text[frames.tail_start(io.BytesIO(text), lines) :] == rest


@dataclass
class Line:
    """A target whose connection is lost after so many bytes, several times."""

    folder: JobFolder
    cuts: list[int]
    asked: list[tuple[str, ...]] = field(default_factory=list)
    label = "here"
    options = ""
    limits_memory = False

    def ask(self, *words: str, given: object = (), silence: float | None = None) -> Iterator[bytes]:
        self.asked.append(words)
        out = io.BytesIO()
        at = int(words[words.index("--at") + 1]) if "--at" in words else None
        frames.send(
            self.folder,
            out,
            find=frames.events if "--events" in words else frames.output,
            at=at,
            tail=None,
            follow=True,
            running=lambda: False,
            describe=lambda: records.describe(self.folder, running=False),
        )
        data = out.getvalue()
        cut = self.cuts.pop(0) if self.cuts else len(data)
        for start in range(0, min(cut, len(data)), 7):
            yield data[start : min(start + 7, cut)]
        if cut < len(data):
            raise SparkbundleError("lost", code=UNREACHABLE)

    def ended(self, job: jobs.Job) -> None: ...


def test_output_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sparkbundle.jobs_watch._PAUSE_SECONDS", 0)
    folder = make(tmp_path, "a")
    text = b"".join(b"line %d\n" % number for number in range(1000))
    folder.log.write_bytes(text)
    records.write_result(folder, {"code": "exited", "status": "3"})
    line = Line(folder, cuts=[10, 500, 3000, 0])
    lost: list[SparkbundleError] = []
    watched = Watched("a", lost=lost.append)
    assert b"".join(output(line, watched, follow=True)) == text
    assert watched.job is not None
    assert watched.job.exit == 3
    assert len(line.asked) == 5
    assert lost
    with pytest.raises(SparkbundleError, match="lost"):
        list(output(Line(folder, cuts=[10] * 99), Watched("a"), follow=True, patience=0))
    with pytest.raises(SparkbundleError, match="lost"):
        list(output(Line(folder, cuts=[10]), Watched("a")))


def test_durations_and_sizes():
    seconds = [None, 0.4, 59, 61, 3600, 90_000]
    assert [jobs_view.duration(one) for one in seconds] == [
        "?", "0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h",
    ]  # fmt: skip
    assert [jobs_view.size(one) for one in (0, 1023, 2048, 3 << 30)] == [
        "0 bytes", "1,023 bytes", "2.0 KiB", "3.0 GiB",
    ]  # fmt: skip
