"""The life of a cluster: what `up`, `status` and `down` make of everything that can happen."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from sparkbundle import daemons, launch, ports
from sparkbundle.daemons import CLUSTER_VARIABLE
from tests.deploy.conftest import TICK_APP, CommandLine, wait_until
from tests.deploy.test_cluster_access import SLEEP

pytestmark = pytest.mark.usefixtures("intruders")


def test_up_again_changes_nothing(shared: CommandLine):
    daemons_before = {d["pid"] for d in shared.json("status", "--name", "one")["daemons"]}
    before = {process.pid for process in shared.processes("one")}
    record = (shared.directory("one") / "cluster.json").read_bytes()
    began = time.monotonic()
    done = shared("up", "--name", "one")
    assert time.monotonic() - began < 20
    assert "nothing to do" in done.stdout
    # Executors of the first `up` may have been about to end.
    assert daemons_before <= {process.pid for process in shared.processes("one")} <= before
    assert (shared.directory("one") / "cluster.json").read_bytes() == record
    steps = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert [line[:5] for line in steps] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "\x1b" not in done.stdout + done.stderr


def test_its_daemons_start_from_the_archive_of_classes(shared: CommandLine):
    """Java leaves it aside, in silence, where the class path is another than the archive's."""
    archive = Path(sys.prefix) / "share/sentiment" / f"spark-{version('pyspark')}.jsa"
    assert archive.is_file(), "make setup makes it"
    for name in ("master", "worker-1"):
        maps = Path(f"/proc/{shared.daemon('one', name).pid}/maps").read_text()
        assert str(archive) in maps, name


def test_other_settings_for_a_running_cluster_are_refused(shared: CommandLine):
    shown = shared("up", "--name", "one", "--workers", "3", "--memory-per-worker", "1g", code=3)
    assert "--workers is 2, asked for 3" in shown.stderr
    assert "--memory-per-worker is 512, asked for 1024" in shown.stderr
    assert "sparkbundle down --name one" in shown.stderr
    assert shared.json("status", "--name", "one")["healthy"]


def test_a_killed_worker_and_master_are_told_and_started_again_where_they_were(shared: CommandLine):
    """One worker lives on, and finds the new master."""
    before = shared.json("status", "--name", "one")
    shared.daemon("one", "worker-2").kill()
    status = wait_until(lambda: _unhealthy(shared))
    assert {d["name"]: d["state"] for d in status["daemons"]} == {
        "master": "ALIVE",
        "worker-1": "ALIVE",
        "worker-2": "not running",
    }
    shown = shared("status", "--name", "one", code=1)
    assert "NOT well" in shown.stdout
    assert "sparkbundle up --name one" in shown.stderr
    worker, master = (shared.daemon("one", name) for name in ("worker-1", "master"))
    master.kill()
    master.wait(timeout=30)
    after = shared.json("up", "--name", "one")
    assert after["changed"] == ["master", "worker-2"]
    assert (after["master"], after["ui"]) == (before["master"], before["ui"])
    assert shared.json("status", "--name", "one")["healthy"]
    assert shared.daemon("one", "worker-1") == worker


def _unhealthy(cli: CommandLine) -> dict:
    status = json.loads(cli.popen("status", "--name", "one", "--json").communicate()[0])
    return {} if status["healthy"] else status


def test_two_clusters_live_side_by_side_and_a_crash_leaves_nothing_for_long(shared: CommandLine):
    """Cluster "two": up beside "one", killed with an application on it, and down."""
    second = shared.popen("up", "--name", "two", "--workers", "1", "--memory-per-worker", "512m")
    wait_until(lambda: shared.processes("two"))
    locked = shared("up", "--name", "two", code=5)
    assert f"`sparkbundle up` (pid {second.pid}) since 2" in locked.stderr
    assert shared("down", "--name", "two", code=5)
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    one, two = shared.json("status", "--name", "one"), shared.json("status", "--name", "two")
    assert one["healthy"]
    assert two["healthy"]
    assert not {one["master_port"], one["ui_port"]} & {two["master_port"], two["ui_port"]}
    secret = "spark.authenticate.secret"
    assert shared.properties("one")[secret] != shared.properties("two")[secret]

    driver = shared.application(SLEEP, shared.directory("two") / "conf/client.properties")
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env=shared.env | {CLUSTER_VARIABLE: str(shared.directory("two-and-a-half"))},
    )
    try:
        # The JVM of the executor, and the Python processes that it started.
        wait_until(lambda: len(shared.processes("two", "worker-1")) >= 3)
        daemons_now = {shared.daemon("two", name) for name in ("master", "worker-1")}
        children = [p for p in shared.processes("two") if p not in daemons_now]
        # An executor that cannot notice that its worker is gone is an orphan.
        for process in children:
            process.suspend()
        for daemon in daemons_now:
            daemon.kill()
        psutil.wait_procs(daemons_now, timeout=30)
        assert shared.processes("two")
        done = shared("down", "--name", "two", "--purge")
        assert "processes ended" in done.stdout
        assert shared.processes("two") == []
        assert not shared.directory("two").exists()
        assert driver.poll() is None  # the user's own process
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
            process.kill()
        driver.communicate()
    assert shared.json("status", "--name", "one")["healthy"]
    assert shared.json("down", "--name", "two")["clusters"][0]["was_up"] is False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing_running(cli: CommandLine, number: signal.Signals):
    process = cli.popen("up", "--workers", "1")
    wait_until(lambda: cli.processes("default", "worker-1"))
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted; nothing was left running" in err
    assert "interrupted after" in err
    assert "failed after" not in err
    assert cli.processes("default") == []
    assert not (cli.directory("default") / "cluster.json").exists()


def test_nohup_keeps_an_up_and_down_ends_jobs_and_names_applications(cli: CommandLine):
    """The life of one cluster, from a terminal that closes to its last file."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup does no more
    try:
        process = cli.popen("up", "--workers", "1", "--memory-per-worker", "512m")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: cli.processes("default", "worker-1"))
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert cli.json("status")["healthy"]

    driver = cli.application(SLEEP, cli.directory("default") / "conf/client.properties")
    try:
        (cli.home / "tick.py").write_text(TICK_APP)
        job = json.loads(cli("submit", "--json", "tick.py", "3000").stdout)["id"]
        wait_until(lambda: "tick 3" in cli("logs", job).stdout)
        wait_until(lambda: cli.json("status")["applications"])
        done = cli("down")
        assert "1 applications have lost cluster 'default': sleeper (app-" in done.stderr
        assert driver.poll() is None  # the user's own process
    finally:
        for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
            process.kill()
        driver.communicate()
    assert cli.processes("default") == []
    assert (cli.directory("default") / "logs/master.log").exists()
    assert not (cli.directory("default") / "conf").exists()

    assert cli.json("jobs", job)["state"] == "CANCELLED"
    assert "is not up" in cli("submit", "tick.py", "1", code=3).stderr
    assert "tick 3" in cli("logs", job).stdout

    assert "nothing to do" in cli("down", "--purge").stdout
    assert not cli.directory("default").exists()


def test_down_after_a_killed_up(cli: CommandLine):
    process = cli.popen("up", "--workers", "1")
    wait_until(lambda: cli.processes("default", "worker-1"))
    process.kill()
    process.communicate()
    found = cli.json("status", code=1)
    assert found["up"] is False
    assert found["leftovers"] > 0
    (cli.directory("default") / "cluster.json").write_text("{half")
    assert "cannot be read" in cli("status", code=1).stderr
    assert "processes ended" in cli("down").stdout
    assert cli.processes("default") == []


def test_a_worker_that_does_not_start_is_explained(cli: CommandLine):
    """A Java that runs the master and fails for workers."""
    real = shutil.which("java")
    java = cli.home / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        "#!/bin/sh\n"
        'case "$*" in *launcher.Main*) ;; *deploy.worker.Worker*)\n'
        '  echo "Error: no luck today" >&2; exit 3;; esac\n'
        f'exec {real} "$@"\n'
    )
    java.chmod(0o755)
    done = cli("up", "--workers", "1", code=1, JAVA_HOME=str(cli.home / "jdk"))
    assert "worker-1" in done.stderr
    assert "no luck today" in done.stderr
    assert str(cli.directory("default") / "logs/worker-1.log") in done.stderr
    assert "nothing was left running" in done.stderr
    assert cli.processes("default") == []
    assert done.stdout == ""


def test_a_port_that_is_snatched_away_is_chosen_again(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    """Between choosing and listening: a race, so the first choice is forced to lose it."""
    from sparkbundle import embedded
    from sparkbundle.output import Steps
    from sparkbundle.plan import ClusterOptions

    monkeypatch.setenv("SPARKBUNDLE_STATE", str(cli.state))
    choose, is_free = ports.choose_free, ports.is_free
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken = server.getsockname()[1]
        choices = [taken]
        monkeypatch.setattr(
            ports, "choose_free", lambda **k: choices.pop() if choices else choose(**k)
        )
        monkeypatch.setattr(ports, "is_free", lambda port: port == taken or is_free(port))
        monkeypatch.setattr(launch, "_start_worker", lambda *_: None)
        monkeypatch.setattr(
            embedded, "wait_ready", lambda launcher, **_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        seen = []
        monkeypatch.setattr(
            embedded, "_smoke_job", lambda launcher: seen.append(launcher.record.master_port)
        )
        with pytest.raises(embedded.InterruptedRunError):
            embedded.start(ClusterOptions(), steps=Steps(total=4))
    assert seen
    assert seen != [taken]
    assert "BindException" in (cli.directory("default") / "logs/master.log.1").read_text()


def test_only_marked_processes_are_found(cli: CommandLine, monkeypatch: pytest.MonkeyPatch):
    from sparkbundle.state import cluster_place

    monkeypatch.setenv("SPARKBUNDLE_STATE", str(cli.state))
    place = cluster_place("default")
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    marked = subprocess.Popen(sleeper, env=cli.env | {CLUSTER_VARIABLE: str(place.directory)})
    plain = subprocess.Popen(sleeper, env=cli.env, cwd=cli.home)
    try:
        assert [one.process.pid for one in daemons.find_processes(place)] == [marked.pid]
        assert daemons.stop_processes(place) == 1
        assert marked.poll() is not None
        assert plain.poll() is None
    finally:
        for process in (marked, plain):
            process.kill()
            process.wait()
