"""The command line as users run it, and real clusters in a state directory of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sparkbundle import ports
from sparkbundle.daemons import CLUSTER_VARIABLE, ROLE_VARIABLE
from tests import processes
from tests.deploy.notebook_server import Kernel, Server
from tests.quick_java import quick_java

COMMAND = str(Path(sys.executable).with_name("sparkbundle"))
LIMIT = 240.0


def wait_until(condition: Callable[[], Any], *, seconds: float = 90.0) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.05
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(pause)
        pause = min(1.2 * pause, 0.5)  # many a condition starts a process
    raise AssertionError(f"not within {seconds} s: {condition}")


class CommandLine:
    """`sparkbundle` with one state directory, quick JVMs and none of the tester's own settings."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK", "XDG_"))}
        self.env = kept | {"SPARKBUNDLE_STATE": str(self.state), "HOME": str(home)}
        self.env["JAVA_HOME"] = quick_java()

    def popen(self, *words: str, **env: str) -> "subprocess.Popen[str]":
        return processes.popen(
            [COMMAND, *words],
            env=self.env | env,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(
        self, *words: str, code: int = 0, **env: str
    ) -> "subprocess.CompletedProcess[str]":
        process = self.popen(*words, **env)
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def run_python(self, *words: str, code: int, **env: str) -> str:
        """Run this Python with the environment of the command line; what it shows on stderr."""
        done = subprocess.run(
            [sys.executable, *words],
            env=self.env | env,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr

    def json(self, *words: str, code: int = 0, **env: str) -> Any:
        return json.loads(self(*words, "--json", code=code, **env).stdout)

    def directory(self, name: str) -> Path:
        return self.state / "clusters" / name

    def processes(self, name: str, role: str | None = None) -> list[psutil.Process]:
        """All live processes that carry the mark of a cluster, found without sparkbundle."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                zombie = process.status() == psutil.STATUS_ZOMBIE
            except (psutil.Error, OSError):
                continue
            ours = environment.get(CLUSTER_VARIABLE) == str(self.directory(name)) and not zombie
            if ours and role in (None, environment.get(ROLE_VARIABLE)):
                found.append(process)
        return found

    def daemon(self, name: str, daemon: str) -> psutil.Process:
        """A daemon's process, by the pid that `status` shows."""
        status = json.loads(self.popen("status", "--name", name, "--json").communicate()[0])
        return psutil.Process(next(d["pid"] for d in status["daemons"] if d["name"] == daemon))

    def properties(self, name: str) -> dict[str, str]:
        lines = (self.directory(name) / "conf" / "client.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def application(self, code: str, properties: Path, *arguments: str) -> "subprocess.Popen[str]":
        """A user's driver: plain PySpark with a properties file."""
        env = self.env | {
            "PYSPARK_SUBMIT_ARGS": f"--properties-file {properties} pyspark-shell",
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
        }
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def told_first(process: "subprocess.Popen[str]") -> Any:
    """The JSON object with which a command begins that goes on."""
    assert process.stdout is not None and process.stderr is not None
    said = ""
    for line in process.stdout:
        said += line
        if line == "}\n":
            return json.loads(said)
    raise AssertionError(process.stderr.read())


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """A command line whose clusters, whatever a test made of them, are gone afterwards."""
    line = CommandLine(tmp_path)
    yield line
    _remove_all(line)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line with one running cluster, named "one", for all tests."""
    line = CommandLine(tmp_path_factory.mktemp("shared"))
    master, page = ports.choose_free(), ports.choose_free()
    given = ["--master-port", str(master), "--ui-port", str(page)]
    try:
        record = line.json("up", "--name", "one", "--memory-per-worker", "512m", *given)
        assert record["master"] == f"spark://127.0.0.1:{master}"
        assert record["ui"] == f"http://127.0.0.1:{page}"
        yield line
    finally:
        _remove_all(line)


SIMULATED = Path(__file__).parents[1] / "cluster/simulated_nvidia_smi.sh"


@pytest.fixture(scope="session")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line on a machine with three SIMULATED GPUs, and its cluster, "default".

    Two workers of two cores: worker-1 offers GPU 0 and 2, worker-2 offers GPU 1. How many GPUs the
    machine has is in the file "gpus" of its home.
    """
    line = CommandLine(tmp_path_factory.mktemp("gpus"))
    program = line.home / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(SIMULATED.read_text())
    program.chmod(0o755)
    (line.home / "gpus").write_text("3\n")
    line.env["PATH"] = f"{program.parent}{os.pathsep}{line.env['PATH']}"
    line.env["SIMULATED_GPUS"] = str(line.home / "gpus")
    try:
        started = line(
            "up", "--workers", "2", "--cores-per-worker", "2", "--memory-per-worker", "600m"
        )
        (line.home / "up.txt").write_text(started.stdout + started.stderr)
        yield line
    finally:
        _remove_all(line)


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line with a cluster, "default", for notebooks; no server of them is begun yet."""
    line = CommandLine(tmp_path_factory.mktemp("notebooks"))
    try:
        line("up", "--workers", "2", "--cores-per-worker", "1", "--memory-per-worker", "1g")
        yield line
    finally:
        _remove_all(line)


@pytest.fixture(scope="session")
def server(notebooks: CommandLine) -> Iterator[Server]:
    """The notebook server of that cluster."""
    yield Server.begin(notebooks)
    log = notebooks.directory("default") / "logs/notebook.log"
    print(log.read_text()[-5000:] if log.exists() else "")


@pytest.fixture(scope="session")
def kernel(server: Server) -> Iterator[Kernel]:
    """A kernel of that server."""
    made = Kernel(server)
    yield made
    made.end()


def _remove_all(line: CommandLine) -> None:
    names = [p.name for p in line.directory("").iterdir()] if line.directory("").is_dir() else []
    if not names:
        return
    line.popen("down", "--all", "--purge").communicate()
    left = [process for name in names for process in line.processes(name)]
    for process in left:
        process.kill()
    assert not left, f"down left processes: {left}"


TICK_APP = """
import sys, time
for number in range(int(sys.argv[1])):
    print("tick", number, flush=True)
    time.sleep(0.2)
"""

# It hands in a job only when it has an executor: Spark, which gives up at some moment, never
# answers one that comes in at that very moment.
INTRUDER = """
import os, sys, time
from pyspark import SparkConf, SparkContext
def place(numbers):
    yield os.getcwd(), sys.executable, sum(numbers)
context = SparkContext(conf=SparkConf().setAppName(sys.argv[1]))
inside = context._jsc.sc()
while not inside.isStopped() and inside.getExecutorMemoryStatus().size() < 2:
    time.sleep(0.2)
if inside.isStopped():
    sys.exit("kept out")
print("LET IN", context.parallelize(range(1000), 8).mapPartitions(place).collect())
context.stop()
"""


@pytest.fixture(scope="session")
def intruders(shared: CommandLine) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """Drivers with no and with a wrong secret. Spark tries for a minute: they start early."""
    right = shared.properties("one")
    wrong = right | {"spark.authenticate.secret": "0" * 64}
    none = {k: v for k, v in right.items() if not k.startswith(("spark.auth", "spark.network"))}
    drivers = {}
    for name, settings in {"wrong-secret": wrong, "no-secret": none}.items():
        path = shared.home / f"{name}.properties"
        path.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        drivers[name] = shared.application(INTRUDER, path, name)
    yield drivers
    for driver in drivers.values():
        for process in (
            [*psutil.Process(driver.pid).children(recursive=True), driver]
            if (driver.poll() is None)
            else []
        ):
            process.kill()
        driver.communicate()
