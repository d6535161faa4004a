"""Jobs with GPUs on a real cluster on this machine. The GPUs are SIMULATED: nothing computes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sentiment.model import save_model
from sentiment.network import SentimentNetwork
from sentiment.recipes import RECIPES
from sentiment.vocabulary import Vocabulary
from tests.deploy.conftest import CommandLine
from tests.gpu_apps import HELD, TRAINED

NO_CARD = pytest.mark.skipif(
    torch.version.cuda is not None, reason="torch is the CUDA build: it says something else"
)
REVIEWS = [{"text": f"a film of {word} number {n}"} for n in range(20) for word in ("a", "film")]


@pytest.fixture(scope="module")
def prepared(gpus: CommandLine) -> CommandLine:
    """The cluster with GPUs, beside a model and reviews to score."""
    save_model(
        gpus.home / "model",
        network=SentimentNetwork(RECIPES["quick"]().model, vectors=torch.zeros(6, 8)),
        vocabulary=Vocabulary(("a", "film", "of", "number")),
        max_tokens=20,
        about={},
    )
    rows = "".join(json.dumps(row) + "\n" for row in REVIEWS)
    (gpus.home / "reviews.jsonl").write_text(rows)
    return gpus


def score(line: CommandLine, device: str, out: str, *, code: int = 0) -> str:
    words = ("sentiment", "score", "@reviews.jsonl", out, "--model", "@model")
    given = ("submit", "--wait", "--gpus-per-task", "1", *words, "--device", device)
    return line(*given, code=code).stdout


def test_cpu_stages_run_while_gpus_are_held(gpus: CommandLine, tmp_path: Path):
    (gpus.home / "held.py").write_text(HELD)
    said = gpus("submit", "--wait", "--gpus-per-task", "1", "held.py", tmp_path / "flag").stdout
    (line,) = [line for line in said.splitlines() if line.startswith("TOLD ")]
    held, counted = json.loads(line.removeprefix("TOLD "))
    # An executor a worker, each with one of its worker's GPUs.
    assert sorted(addresses for addresses, _, _ in held) in ([["0"], ["1"]], [["1"], ["2"]])
    assert sum(part for part, _, _ in counted) == 4950
    assert not any(has_gpu for _, has_gpu, _ in counted)
    first_to_let_go = min(ended for _, _, ended in held)
    assert max(at for _, _, at in counted) < first_to_let_go


@NO_CARD
def test_a_job_that_wants_a_gpu_never_runs_on_the_cpu(prepared: CommandLine):
    said = score(prepared, "cuda", "never.jsonl", code=1)
    assert "--device cuda: " in said
    assert "is the build for the CPU" in said
    assert any(f"GPU {address}" in said for address in "012")


@NO_CARD
def test_auto_comes_down_to_the_cpu_and_says_so(prepared: CommandLine):
    said = score(prepared, "auto", "scores.jsonl")
    assert "the job computes on the CPU, and holds GPUs that it does not use" in said
    (job,) = [job for job in prepared.json("jobs")["jobs"] if "scores.jsonl" in job["command"]]
    assert len((Path(job["work"]) / "scores.jsonl").read_text().splitlines()) == len(REVIEWS)


def train(line: CommandLine, folder: Path, *strategies: str) -> dict[str, Any]:
    """What TRAINED tells: all but CUDA itself; the tasks get their GPUs, and compute on the CPU."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, str(folder), *strategies],
        env=line.env, cwd=folder, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (shown,) = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    told: dict[str, Any] = json.loads(shown.removeprefix("TOLD "))
    assert told["slots"] == told["workers"] == 2, "a task a GPU; there are four cores"
    assert told["gpus"] == told["cpus"]
    assert told["rows"] == 400
    assert told["scored gpus"] == told["scored cpus"]
    return told


def test_rounds_and_scores_that_ask_for_gpus_come_to_the_same(gpus: CommandLine, tmp_path: Path):
    train(gpus, tmp_path)


@pytest.mark.long
def test_allreduce_on_gpus_is_not_averaging(gpus: CommandLine, tmp_path: Path):
    told = train(gpus, tmp_path, "allreduce")
    assert told["allreduce"] != told["cpus"]


def test_more_than_there_are_is_refused_at_once(gpus: CommandLine):
    (gpus.home / "app.py").write_text("print(1)\n")
    refused = gpus("submit", "--gpus-per-task", "3", "app.py", code=3)
    assert "a task asks for 3 GPUs, and the most that a worker has is 2" in refused.stderr
    refused = gpus("submit", "--gpus-per-task", "1.5", "app.py", code=2)
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
    one_executor = ("--conf", "spark.cores.max=1")
    done = shared("submit", "--name", "one", "--wait", *one_executor, str(tmp_path / "app.py"))
    assert "AUTO Gpus(device=DeviceConfig(kind='cpu'" in done.stdout
    assert "names=()) []" in done.stdout
    assert "CUDA --device cuda: the job has no GPUs" in done.stdout
    refused = shared(
        "submit", "--name", "one", "--gpus-per-task", "1", str(tmp_path / "app.py"), code=3
    )
    assert "no worker offers a GPU" in refused.stderr
