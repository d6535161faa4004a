"""Jobs with GPUs on a real cluster on this machine. The GPUs are SIMULATED: nothing computes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sentiment.model import save_model
from sentiment.network import SentimentNetwork
from sentiment.recipes import RECIPES
from sentiment.vocabulary import Vocabulary
from tests.deploy.conftest import CommandLine
from tests.deploy.test_cluster_gpus import simulate
from tests.gpu_apps import HELD, TRAINED

NO_CARD = pytest.mark.skipif(
    torch.version.cuda is not None, reason="torch is the CUDA build: it says something else"
)
REVIEWS = [{"text": f"a film of {word} number {n}"} for n in range(20) for word in ("a", "film")]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line, and a cluster of two workers, each with two cores and a simulated GPU."""
    line = simulate(CommandLine(tmp_path_factory.mktemp("gpus")), gpus=2)
    try:
        line("up", "--workers", "2", "--cores-per-worker", "2", "--memory-per-worker", "600m")
        save_model(
            line.home / "model",
            network=SentimentNetwork(RECIPES["quick"]().model, vectors=torch.zeros(6, 8)),
            vocabulary=Vocabulary(("a", "film", "of", "number")),
            max_tokens=20,
            about={},
        )
        rows = "".join(json.dumps(row) + "\n" for row in REVIEWS)
        (line.home / "reviews.jsonl").write_text(rows)
        yield line
    finally:
        line("down", "--purge")


def score(line: CommandLine, device: str, out: str, *, code: int = 0) -> str:
    words = ("sentiment", "score", "@reviews.jsonl", out, "--model", "@model")
    given = ("submit", "--wait", "--gpus-per-task", "1", *words, "--device", device)
    return line(*given, code=code).stdout


def test_cpu_stages_run_while_gpus_are_held(two: CommandLine, tmp_path: Path):
    (two.home / "held.py").write_text(HELD)
    said = two("submit", "--wait", "--gpus-per-task", "1", "held.py", tmp_path / "flag").stdout
    (line,) = [line for line in said.splitlines() if line.startswith("TOLD ")]
    held, counted = json.loads(line.removeprefix("TOLD "))
    assert sorted(addresses for addresses, _, _ in held) == [["0"], ["1"]]
    assert sum(part for part, _, _ in counted) == 4950
    assert not any(has_gpu for _, has_gpu, _ in counted)
    first_to_let_go = min(ended for _, _, ended in held)
    assert max(at for _, _, at in counted) < first_to_let_go


@NO_CARD
def test_a_job_that_wants_a_gpu_never_runs_on_the_cpu(two: CommandLine):
    said = score(two, "cuda", "never.jsonl", code=1)
    assert "--device cuda: " in said
    assert "is the build for the CPU" in said
    assert "GPU 0" in said or "GPU 1" in said


@NO_CARD
def test_auto_comes_down_to_the_cpu_and_says_so(two: CommandLine):
    said = score(two, "auto", "scores.jsonl")
    assert "the job computes on the CPU, and holds GPUs that it does not use" in said
    (job,) = [job for job in two.json("jobs")["jobs"] if "scores.jsonl" in job["command"]]
    assert len((Path(job["work"]) / "scores.jsonl").read_text().splitlines()) == len(REVIEWS)


def test_rounds_and_scores_that_ask_for_gpus_come_to_the_same(two: CommandLine, tmp_path: Path):
    """All but CUDA itself: the tasks get their GPUs, and compute on the CPU."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, str(tmp_path)],
        env=two.env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    told = json.loads(line.removeprefix("TOLD "))
    assert told["slots"] == told["workers"] == 2, "a task a GPU; there are four cores"
    assert told["gpus"] == told["cpus"]
    assert told["sums"] != told["cpus"]
    assert told["rows"] == 400
    assert told["scored gpus"] == told["scored cpus"]


def test_more_than_there_are_is_refused_at_once(two: CommandLine):
    (two.home / "app.py").write_text("print(1)\n")
    refused = two("submit", "--gpus-per-task", "2", "app.py", code=3)
    assert "a task asks for 2 GPUs, and the most that a worker has is 1" in refused.stderr
    refused = two("submit", "--gpus-per-task", "1.5", "app.py", code=2)
    assert "1.5 is neither a whole number of GPUs nor a part of one" in refused.stderr


def test_without_gpus_nothing_is_said_and_cuda_is_refused(shared: CommandLine, tmp_path: Path):
    (tmp_path / "app.py").write_text(
        "from pyspark.sql import SparkSession\n"
        "from sentiment.device import CPU\n"
        "from sentiment.errors import SentimentError\n"
        "from sentiment.gpus import gpus_for\n"
        "context = SparkSession.builder.getOrCreate().sparkContext\n"
        "said = []\n"
        "print('AUTO', gpus_for(context, CPU, 'auto', warn=said.append), said)\n"
        "try:\n"
        "    gpus_for(context, CPU, 'cuda', warn=said.append)\n"
        "except SentimentError as error:\n"
        "    print('CUDA', error)\n"
    )
    done = shared("submit", "--name", "one", "--wait", str(tmp_path / "app.py"))
    assert "AUTO Gpus(device=DeviceConfig(kind='cpu'" in done.stdout
    assert "names=()) []" in done.stdout
    assert "CUDA --device cuda: the job has no GPUs" in done.stdout
    refused = shared(
        "submit", "--name", "one", "--gpus-per-task", "1", str(tmp_path / "app.py"), code=3
    )
    assert "no worker offers a GPU" in refused.stderr
