"""Jobs on the cluster of this machine, through the real command line."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sentiment.model import save_model
from sentiment.recipes import RECIPES
from sentiment.vocabulary import Vocabulary
from tests.deploy.conftest import TICK_APP, CommandLine, told_first, wait_until
from tests.job.conftest import WORDS, small_network

ON = ("--name", "one")

SPARK_APP = """
import pathlib, sys
from pyspark.sql import SparkSession
import helper
spark = SparkSession.builder.getOrCreate()
total = spark.sparkContext.parallelize(range(100), 2).map(helper.twice).sum()
print("total", total, spark.conf.get("spark.try.it"))
print("data", pathlib.Path(sys.argv[2]).read_text(), sys.argv[3:])
print("to stderr", file=sys.stderr)
pathlib.Path("made.txt").write_text("kept")
spark.stop()
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def one(shared: CommandLine) -> CommandLine:
    return shared


@dataclass(frozen=True)
class Waited:
    """A job that runs for minutes, has printed something, and the `submit --wait` that shows it."""

    process: "subprocess.Popen[str]"
    id: str


@pytest.fixture(scope="module")
def waited(shared: CommandLine) -> Iterator[dict[signal.Signals, Waited]]:
    """A job for each signal that its `submit --wait` gets; other tests go on with them."""
    (shared.home / "tick.py").write_text(TICK_APP)
    jobs: dict[signal.Signals, Waited] = {}
    try:
        for number in (signal.SIGKILL, signal.SIGHUP, signal.SIGINT):
            process = shared.popen("submit", *ON, "--wait", "tick.py", "3000")
            assert process.stdout is not None
            wait_until(lambda out=process.stdout: out.readline() == "tick 2\n")
            jobs[number] = Waited(process, _find(shared, "last")["id"])
        yield jobs
    finally:
        for job in jobs.values():
            job.process.kill()
            job.process.communicate()
            shared.popen("cancel", *ON, job.id).communicate()  # most have ended, or are removed


def _find(cli: CommandLine, name: str) -> dict[str, Any]:
    job: dict[str, Any] = cli.json("jobs", *ON, name)
    return job


def test_a_job_of_the_users_own(one: CommandLine):
    """Settings, libraries, shipped files, exit code, output, and what it leaves behind."""
    (one.home / "helper.py").write_text("def twice(number):\n    return 2 * number\n")
    (one.home / "spark_app.py").write_text(SPARK_APP)
    (one.home / "data.txt").write_text("content")
    given = ["--py-files", "helper.py", "--conf", "spark.try.it=a b=c"]
    words = ["7", "@data.txt", "--x=@@y", "--", "--wait"]
    done = one("submit", *ON, "--wait", *given, "spark_app.py", *words, code=7)
    assert "total 9900 a b=c" in done.stdout
    assert "data content ['--x=@y', '--', '--wait']" in done.stdout
    assert "to stderr" in done.stdout
    assert "FAILED (exit code 7)" in done.stderr
    job = _find(one, "spark-app")
    assert (job["state"], job["exit"]) == ("FAILED", 7)
    assert (Path(job["work"]) / "made.txt").read_text() == "kept"
    assert "a b=c" not in " ".join(job["command"])
    secret = one.properties("one")["spark.authenticate.secret"]
    assert secret not in json.dumps(job) + Path(job["directory"], "job.json").read_text()


def test_the_packaged_job(one: CommandLine):
    done = one("submit", *ON, "--wait", "sentiment", "--help")
    assert "Tell whether a film review praises or pans" in done.stdout
    job = _find(one, "last")
    assert (job["app"], job["state"], job["exit"]) == ("sentiment", "SUCCEEDED", 0)
    assert job["id"].startswith("sentiment-")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGINT])
def test_the_job_goes_on_when_its_terminal_is_gone(
    one: CommandLine, waited: dict[signal.Signals, Waited], number: signal.Signals
):
    process, job_id = waited[number].process, waited[number].id
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert _find(one, job_id)["state"] == "RUNNING"
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert f"{job_id} goes on" in err
        assert f"sparkbundle logs -f --name one {job_id}" in err


def test_a_killed_driver(one: CommandLine, waited: dict[signal.Signals, Waited]):
    job_id = waited[signal.SIGKILL].id
    java = next(p for p in one.processes("one", f"job-{job_id}") if p.name() == "java")
    java.kill()
    job = wait_until(lambda: _ended(one, job_id))
    assert (job["state"], job["exit"]) == ("FAILED", 137)
    assert "FAILED (killed by SIGKILL)" in one("jobs", *ON).stdout
    wait_until(lambda: not one.processes("one", f"job-{job_id}"))


def test_a_killed_watcher_does_not_leave_the_driver(
    one: CommandLine, waited: dict[signal.Signals, Waited]
):
    job_id = waited[signal.SIGHUP].id
    watchers = [p for p in one.processes("one", f"job-{job_id}") if "supervise" in p.cmdline()]
    watchers[0].kill()
    job = wait_until(lambda: _ended(one, job_id))
    assert (job["state"], job["exit"]) == ("LOST", None)
    role = f"job-{job_id}"
    wait_until(lambda: "java" not in [process.name() for process in one.processes("one", role)])


def test_a_job_that_runs_is_not_resumed(one: CommandLine, waited: dict[signal.Signals, Waited]):
    job_id = waited[signal.SIGINT].id
    assert "still runs" in one("resume", *ON, job_id, code=3).stderr
    assert _find(one, job_id)["state"] == "RUNNING"
    assert "there is no job" in one("resume", *ON, "none-such", code=3).stderr


def test_a_job_that_runs_is_followed_and_cancelled(
    one: CommandLine, waited: dict[signal.Signals, Waited]
):
    job = _find(one, waited[signal.SIGINT].id)
    assert job["state"] == "RUNNING"
    reader = one.popen("logs", *ON, "-f", job["id"])
    assert reader.stdout is not None
    wait_until(lambda: reader.stdout.readline() == "tick 3\n")
    assert job["id"] in one("jobs", *ON).stdout
    assert "still runs" in one("jobs", *ON, "--remove", job["id"], code=3).stderr
    done = one.json("cancel", *ON, job["id"])
    assert (done["state"], done["changed"]) == ("CANCELLED", True)
    assert one.processes("one", f"job-{job['id']}") == []
    _, err = reader.communicate(timeout=30)
    assert reader.returncode == 0
    assert "CANCELLED" in err
    again = one.json("cancel", *ON, job["id"])
    assert (again["state"], again["changed"]) == ("CANCELLED", False)
    assert len(one("logs", *ON, "--tail", "2", job["id"]).stdout.splitlines()) == 2


def test_names_of_jobs(one: CommandLine, waited: dict[signal.Signals, Waited]):
    """Those of the three jobs before, which have ended by now."""
    first, _, last = (job.id for job in waited.values())
    assert _find(one, "last")["id"] == last
    assert _find(one, first)["id"] == first
    assert "jobs: " in one("jobs", *ON, "tick-", code=3).stderr
    wrong = one("logs", *ON, f"{first}x", code=3).stderr
    assert f"there is no job '{first}x'" in wrong
    assert f"did you mean {first}?" in wrong
    assert "sparkbundle jobs --name one" in one("cancel", *ON, "zzz", code=3).stderr
    assert one.json("jobs", *ON, "--remove", first) == {"removed": [first]}
    assert one("jobs", *ON, first, code=3)
    assert last in one.json("jobs", *ON, "--prune", "0")["removed"]
    assert [job for job in one.json("jobs", *ON)["jobs"] if job["state"] != "RUNNING"] == []


def test_a_cancelled_stream_ends_in_good_order(one: CommandLine):
    """Its first process alone is asked: the JVM is there until the stream has stopped."""
    save_model(
        one.home / "model",
        network=small_network(RECIPES["quick"]()),
        vocabulary=Vocabulary(WORDS),
        max_tokens=60,
        about={},
    )
    (one.home / "inbox").mkdir()
    words = ("stream", str(one.home / "inbox"), "scores", "--model", "@model")
    job: dict[str, Any] = json.loads(one("submit", *ON, "--json", "sentiment", *words).stdout)
    assert job["state"] == "RUNNING"
    (one.home / "inbox/.a.txt").write_text("".join(f"{word}\n" for word in WORDS[:7]))
    watching = one.popen("watch", *ON, job["id"])
    assert watching.stdout is not None
    (one.home / "inbox/.a.txt").rename(one.home / "inbox/a.txt")
    assert re.match(r"batch [01]  7 scored", watching.stdout.readline())
    done = one.json("cancel", *ON, job["id"])
    assert (done["state"], done["exit"]) == ("CANCELLED", 130)
    said = one("logs", *ON, job["id"]).stdout
    assert "ended; the same command goes on" in said
    assert "interrupted" not in said
    _, told = watching.communicate(timeout=30)
    assert watching.returncode == 0
    assert "CANCELLED" in told
    events = one("watch", *ON, job["id"], "--json").stdout.splitlines()
    assert [json.loads(line)["event"] for line in events] == ["batch"]
    assert one.processes("one", f"job-{job['id']}") == []
    look_at_its_board(one, job["id"])


def look_at_its_board(one: CommandLine, job: str) -> None:
    """`open board` shows what the job has measured; without its key nobody sees it."""
    process = one.popen("open", "board", *ON, job, "--no-browser", "--json")
    told = told_first(process)
    assert told["page"] == "board"
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(told["url"], timeout=30).close()
    runs = f"http://127.0.0.1:{told['port']}/data/runs"
    taken = one("open", "board", *ON, job, "--port", str(told["port"]), code=3)
    assert "cannot be listened on" in taken.stderr and "Traceback" not in taken.stderr
    wait_until(lambda: json.load(opener.open(runs, timeout=30)) == [job])
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(runs, timeout=30)
    assert refused.value.code == 403
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "closed: " in err
    assert "JOB is for board" in one("open", "spark", *ON, job, code=2).stderr
    assert "no job" in one("open", "board", *ON, "nonsense", code=3).stderr


# Its child hears no SIGTERM: it is there for a while after the job's result.
COUNT_APP = """
import pathlib, subprocess, sys
subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 30"])
made = pathlib.Path("made.txt")
with made.open("a") as file:
    file.write("run\\n")
print("words", sys.argv[1:], flush=True)
sys.exit(0 if len(made.read_text().splitlines()) > 1 else 7)
"""


def test_a_job_that_failed_is_resumed_in_its_folder(one: CommandLine):
    (one.home / "count.py").write_text(COUNT_APP)
    job = json.loads(one("submit", *ON, "--wait", "--json", "count.py", "a", code=7).stdout)
    assert f"sparkbundle resume --name one {job['id']}" in one("jobs", *ON, job["id"]).stderr
    done = one("resume", *ON, "--wait", job["id"], "--more", "b", "--and", "a")
    assert "--- resumed at" in done.stdout
    assert "words ['a', '--more', 'b', '--and', 'a']" in done.stdout
    again = _find(one, "last")
    assert (again["id"], again["state"], again["exit"]) == (job["id"], "SUCCEEDED", 0)
    assert again["started"] > job["started"]
    assert Path(job["work"], "made.txt").read_text() == "run\nrun\n"
    assert "has succeeded" in one("resume", *ON, job["id"], code=3).stderr


def _ended(cli: CommandLine, name: str) -> dict[str, Any]:
    job = _find(cli, name)
    return {} if job["state"] == "RUNNING" else job


def test_help_and_usage(cli: CommandLine):
    for command in ("submit", "jobs", "logs", "cancel"):
        shown = cli(command, "--help").stdout
        assert "Examples:" in shown
        assert "--json" in shown
    assert "--wiat" in cli("submit", "--wiat", "app.py", code=2).stderr
    assert "-i names" in cli("jobs", "-i", "hosts.yml", "--name", "x", code=2).stderr
    assert "do not go together" in cli("jobs", "last", "--prune", "3", code=2).stderr
    assert "no jobs on cluster 'default'" in cli("jobs").stdout
    assert cli.json("jobs") == {"jobs": []}
    assert "there is no job 'last'" in cli("logs", "last", code=3).stderr
    assert not cli.state.exists()


def test_what_cannot_be_sent_is_told_before_anything_is_done(cli: CommandLine):
    told = cli("submit", "sentiment", "train", "@nothing", "model", code=3).stderr
    assert "there is no file or folder 'nothing'" in told
    assert "for the text itself: @@nothing" in told
    assert "neither 'sentiment' nor" in cli("submit", "train", code=3).stderr
    assert "a library" in cli("submit", "x.whl", code=3).stderr
    assert "options of its own" in cli("submit", "--conf", "spark.a=1", "sentiment", code=3).stderr
    (cli.home / "app.py").touch()
    assert "is not up" in cli("submit", "app.py", code=3).stderr
    assert not cli.state.exists()


def test_the_agent_needs_the_standard_library_only():
    """It runs on hosts with nothing else, of Python 3.11.2, as the role copies it."""
    import yaml

    import sparkbundle.job_agent

    folder = Path(sparkbundle.job_agent.__file__).parent
    role = Path(__file__).parents[2] / "roles" / "jobs"
    modules = yaml.safe_load((role / "vars/main.yml").read_text())["jobs_modules"]
    assert sorted(modules) == sorted(p.name for p in folder.glob("*.py") if p.stem != "__main__")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import job_agent.main; "
        "print({n.split('.')[0] for n in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", code, str(folder.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert eval(done.stdout) <= {"job_agent", "__main__"}
