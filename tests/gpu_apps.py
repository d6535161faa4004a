"""Applications that use GPUs as far as Spark's scheduling goes, and what must be true of their use.

The GPUs are SIMULATED (tests/cluster/simulated_nvidia_smi.sh): nothing computes on them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

RANDOM = '''
"""SEED JOBS AMOUNTS: so many Spark jobs of random size, three at a time, and their GPUs."""
import json, os, random, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
from pyspark import TaskContext
from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

seed, jobs = int(sys.argv[1]), int(sys.argv[2])
amounts = [float(amount) for amount in sys.argv[3].split(",")]
context = SparkSession.builder.getOrCreate().sparkContext
chance = random.Random(seed)

def profile(amount):
    requests = TaskResourceRequests().cpus(1)
    if amount:
        requests = requests.resource("gpu", amount)
    return ResourceProfileBuilder().require(requests).build

profiles = {amount: profile(amount) for amount in amounts}
name = context.applicationId

def run(job):
    amount, tasks, seconds = job
    def use(_):
        began = time.time()
        given = TaskContext.get().resources().get("gpu")
        time.sleep(seconds)
        addresses = list(given.addresses) if given else []
        yield [name, socket.gethostname(), addresses, amount, began, time.time()]
    rows = context.parallelize(range(tasks), tasks).withResources(profiles[amount])
    return rows.mapPartitions(use).collect()

wanted = [
    (chance.choice(amounts), chance.randint(1, 4), chance.uniform(0.02, 0.2)) for _ in range(jobs)
]
with ThreadPoolExecutor(3) as pool:
    for uses in pool.map(run, wanted):
        print("JOB", json.dumps(uses), flush=True)
'''

HELD = '''
"""FLAG: a stage of CPUs runs to its end while all tasks of another one hold their GPUs."""
import json, os, sys, threading, time
from pyspark import TaskContext
from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

flag = sys.argv[1]
context = SparkSession.builder.getOrCreate().sparkContext
cpus = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1)).build
number = int(context.getConf().get("spark.cores.max")) // int(
    context.getConf().get("spark.executor.cores"))

def hold(_):
    addresses = list(TaskContext.get().resources()["gpu"].addresses)
    began = time.time()
    while not os.path.exists(flag) and time.time() < began + 60:
        time.sleep(0.05)
    yield addresses, began, time.time()

def count(numbers):
    yield sum(numbers), "gpu" in TaskContext.get().resources(), time.time()

held = []
holding = threading.Thread(
    target=lambda: held.extend(context.parallelize(range(number), number).barrier()
        .mapPartitions(hold).collect()))
holding.start()
tracker = context.statusTracker()
while not any(tracker.getStageInfo(stage).numActiveTasks == number
              for stage in tracker.getActiveStageIds()):
    time.sleep(0.05)
counted = context.parallelize(range(100), 4).withResources(cpus).mapPartitions(count).collect()
open(flag, "w").close()
holding.join()
print("TOLD", json.dumps([held, counted]))
'''

VANISHING = '''
"""Rounds of tasks that fail as CUDA does where their GPU is not there; ends when it is told to."""
import json, os, socket, subprocess, time
from pyspark import TaskContext
from pyspark.sql import SparkSession

context = SparkSession.builder.getOrCreate().sparkContext

def compute(numbers):
    (address,) = TaskContext.get().resources()["gpu"].addresses
    there = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    if f"GPU {address}:" not in there:
        raise RuntimeError("CUDA error: no CUDA-capable device is detected (SIMULATED)")
    time.sleep(0.3)
    yield socket.gethostname(), sum(numbers)

turn = 0
while not os.path.exists("enough"):
    done = context.parallelize(range(100), 6).mapPartitions(compute).collect()
    assert sum(part for _, part in done) == 4950
    print("ROUND", json.dumps(sorted({host for host, _ in done})), flush=True)
    turn += 1
'''

TRAINED = '''
"""FOLDER STRATEGIES: the packaged job, whose rounds and scores ask for GPUs, on the CPU.

Averaging without and with GPUs; with GPUs also the other strategies that are named.
"""
import json, sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
import numpy as np
from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from sentiment.corpus import open_corpus
from sentiment.events import EventLog
from sentiment.gpus import NO_GPUS, Gpus, gpus_for
from sentiment.ingest import IngestOptions, ingest
from sentiment.model import read_model_files
from sentiment.recipes import RECIPES, with_changes
from sentiment.scoring import Scoring
from sentiment.session import find_place, spark_session
from sentiment.sources import SourceOptions, find_source
from sentiment.strategies import settings_for
from sentiment.train import Options, train
from sentiment.vectors import Chunk, write_table

folder = Path(sys.argv[1])
words = [f"word{n}" for n in range(60)]
chance = np.random.default_rng(1)
rows = []
for n in range(400):
    label = n % 2
    text = " ".join(words[i + 30 * label] for i in chance.integers(0, 30, chance.integers(5, 20)))
    rows.append(json.dumps({"text": f"{text} {n}", "label": label}))
(folder / "reviews.jsonl").write_text("".join(row + chr(10) for row in rows))
vectors = chance.normal(size=(60, 8)).astype(np.float32)
table = write_table(folder / "table", [Chunk(words, vectors)], source={"name": "made up"})
recipe = with_changes(
    RECIPES["quick"](), hidden=8, epochs=1, batch_size=16, min_count=1, rounds_per_epoch=2)
place = find_place()
settings = settings_for(place) | {
    "spark.executor.resource.gpu.amount": "1", "spark.executor.cores": "2",
    "spark.executor.memory": "600m", "spark.cores.max": "4"}
with spark_session(place, name="trained", settings=settings) as spark:
    source = find_source(str(folder / "reviews.jsonl"), SourceOptions())
    ingest(spark, source, folder / "corpus", IngestOptions(), step=lambda _: nullcontext())
    profile = ResourceProfileBuilder().require(TaskResourceRequests().cpus(1).resource("gpu", 1))
    given = Gpus(profile=profile.build)
    told = {"slots": given.slots(spark.sparkContext), "workers": given.workers(spark)}
    others = [(strategy, given, strategy) for strategy in sys.argv[2:]]
    for name, gpus, strategy in (
        ("cpus", NO_GPUS, "averaging"), ("gpus", given, "averaging"), *others):
        done = train(
            spark, corpus=open_corpus(folder / "corpus"), table=table,
            recipe=with_changes(recipe, strategy=strategy), target=folder / name, workers=2,
            log=EventLog(folder / f"{name}.jsonl"), options=Options(plan=False, gpus=gpus))
        told[name] = done.digest
    files = read_model_files(folder / "gpus")
    for name, gpus in (("cpus", NO_GPUS), ("gpus", given)):
        scored = Scoring(spark, files, gpus=gpus).collect_source(source)
        told[f"scored {name}"] = float(scored.column("probability").sum())
        told["rows"] = scored.accepted.num_rows
print("TOLD", json.dumps(told))
'''


@dataclass(frozen=True)
class Use:
    """A task: its application, its GPUs (none: it had only a core), the part of each, when."""

    app: str
    host: str
    gpus: tuple[str, ...]
    amount: float
    began: float
    ended: float


def uses(output: str) -> list[list[Use]]:
    """What RANDOM has printed: the tasks of each of its jobs."""
    lines = [line for line in output.splitlines() if line.startswith("JOB ")]
    return [
        [Use(app, host, tuple(gpus), *rest) for app, host, gpus, *rest in json.loads(line[4:])]
        for line in lines
    ]


def most_at_once(tasks: list[Use]) -> dict[tuple[str, str], float]:
    """Of each GPU, the most that was in use at the same time: 1 is all of it."""
    moments: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for one in tasks:
        for gpu in one.gpus:
            part = min(one.amount, 1.0)
            moments[one.host, gpu] += [(one.began, part), (one.ended, -part)]
    return {gpu: _highest(changes) for gpu, changes in moments.items()}


def apps_at_once(tasks: list[Use]) -> dict[tuple[str, str], int]:
    """Of each GPU, how many applications had it between their first and last use of it, at most."""
    spans: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(dict)
    for one in tasks:
        for gpu in one.gpus:
            span = spans[one.host, gpu].setdefault(one.app, [one.began, one.ended])
            span[:] = [min(span[0], one.began), max(span[1], one.ended)]
    moments = {
        gpu: [(at, one) for span in apps.values() for at, one in zip(span, (1, -1), strict=True)]
        for gpu, apps in spans.items()
    }
    return {gpu: round(_highest(changes)) for gpu, changes in moments.items()}


def _highest(changes: Iterable[tuple[float, float]]) -> float:
    """The most that changes, each at its moment, come to together."""
    return max(accumulate(change for _, change in sorted(changes)))
