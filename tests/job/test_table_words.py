"""Models that read words outside of their vocabulary with the host's word table."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sentiment import recipes
from sentiment.errors import InvalidInputError
from sentiment.examples import FIRST_WORD, UNKNOWN, pack
from sentiment.loop import initial_state, logits_of
from sentiment.model import DESCRIPTION, load_model, save_model
from sentiment.network import SentimentNetwork
from sentiment.rounds import Job, Round, run_round
from sentiment.score import score_texts
from sentiment.table_words import TableWords, encode
from sentiment.vocabulary import Vocabulary
from tests.job.conftest import WORDS
from tests.job.vector_files import some_vectors, table_of

OTHERS = ("gripping", "tedious", "masterpiece", "wooden", "haunting")
SCALE = 0.7
TEXTS = (
    "A gripping film.",
    "tedious and wooden, a dull plot",
    "a haunting masterpiece; never boring! " * 9,
    "gripping",
    "the film",
    "wooden zzzzz",
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    words = [*OTHERS, *WORDS]
    return table_of(tmp_path_factory.mktemp("words") / "table", words, some_vectors(len(words), 12))


@pytest.fixture
def table_words(table):
    return TableWords(table.digest, len(WORDS) + FIRST_WORD, SCALE, str(table.path))


def network_with(table_words, recipe="quick"):
    torch.manual_seed(0)
    config = replace(recipes.RECIPES[recipe]().model, hidden=16)
    vectors = torch.randn(len(WORDS) + FIRST_WORD, 12)
    return SentimentNetwork(config, vectors=vectors, table_words=table_words).eval()


@pytest.fixture(params=["quick", "talk"])
def saved(request, tmp_path, table_words):
    """A model of each kind of cell that needs the table."""
    path = tmp_path / "model"
    network = network_with(table_words, request.param)
    save_model(path, network=network, vocabulary=Vocabulary(WORDS), max_tokens=60, about={})
    return path


def test_only_words_outside_of_the_vocabulary_are_the_tables(table, table_words):
    ids = encode([["the", "gripping", "qqq"], [], ["haunting"]], Vocabulary(WORDS), table_words)
    first = len(WORDS) + FIRST_WORD
    assert ids == [[FIRST_WORD, first, UNKNOWN], [], [first + 4]]
    assert encode([["gripping"]], Vocabulary(WORDS), None) == [[UNKNOWN]]
    vectors = table_words.vectors(torch.tensor([first + 4])).numpy()
    assert np.array_equal(vectors, table.vectors(table.find(["haunting"])) * np.float32(SCALE))


def test_a_score_with_the_table_is_a_function_of_the_text(saved, table):
    model = load_model(saved, table=str(table.path))
    alone = [score_texts(model, [text]).probability[0] for text in TEXTS]
    together = score_texts(model, TEXTS)
    assert np.abs(together.probability - alone).max() < 1e-6
    assert together.known.tolist()[0] == 1.0
    assert together.known.tolist()[5] == 0.5
    assert len({round(p, 9) for p in alone}) == len(TEXTS)  # each word counts
    without = [score_texts(model, [t.replace("gripping", "qqq")]).probability[0] for t in TEXTS]
    assert without[0] != alone[0]


def test_such_a_model_names_its_table_and_needs_it(saved, table, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARKBUNDLE_VECTORS", str(tmp_path / "store"))
    description = json.loads((saved / DESCRIPTION).read_text())
    assert description["format"] == 2
    assert description["table_words"] == {"digest": table.digest, "scale": SCALE}
    with pytest.raises(InvalidInputError, match="does not have the word table") as caught:
        score_texts(load_model(saved), TEXTS)
    assert "vectors ship" in caught.value.todo
    description["format"] = 1  # as a program would see it that knows no such models
    (saved / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InvalidInputError, match="the model has format 1"):
        load_model(saved)


def test_training_changes_the_vocabulary_and_never_the_table(table, table_words):
    recipe = recipes.with_changes(
        recipes.quick(), table_words=True, tune_vectors=True, hidden=16, batch_size=4
    )
    vectors = some_vectors(len(WORDS) + FIRST_WORD, 12)
    vectors[0] = 0
    job = Job(recipe, vectors, rows=(8,), threads=1, table_words=table_words)
    tokens = [["the", "gripping"], ["tedious", "film"], ["wooden"], ["was", "haunting"]] * 2
    ids = encode(tokens, Vocabulary(WORDS), table_words)
    examples = pack(ids, labels=[1, 0, 0, 1] * 2, positions=range(8))
    before = (table.path / "vectors.npy").read_bytes()
    runs = {run_round(job, [(0, examples)], Round(0, 0), state=job.first_state())[0]
            for _ in range(2)}  # fmt: skip
    assert len(runs) == 1  # a pure function, the table included
    assert initial_state(job.network(), recipe.optimizer)["model.embedding.weight"].shape == (
        len(WORDS) + FIRST_WORD,
        12,
    )
    assert (table.path / "vectors.npy").read_bytes() == before


def test_frozen_vectors_and_the_table_are_the_same_to_a_network(table):
    """All words in the vocabulary, or all in the table: the same logits."""
    words = [*OTHERS, *WORDS]
    vectors = np.vstack([np.zeros((2, 12), np.float32), table.vectors(table.find(words))])
    network = network_with(None, "talk")
    inside = SentimentNetwork(network.config, vectors=torch.from_numpy(vectors)).eval()
    inside.load_state_dict({**network.state_dict(), "embedding.weight": torch.from_numpy(vectors)})
    beyond = TableWords(table.digest, FIRST_WORD, 1.0, str(table.path))
    outside = SentimentNetwork(
        network.config, vectors=torch.zeros(FIRST_WORD, 12), table_words=beyond
    ).eval()
    state = {k: v for k, v in network.state_dict().items() if k != "embedding.weight"}
    outside.load_state_dict(state | {"embedding.weight": torch.zeros(FIRST_WORD, 12)})
    tokens = [["the", "gripping", "film"], ["wooden"], ["dull", "qqq", "plot"]]
    of_both = [
        logits_of(network, pack(ids, labels=[-1] * 3, positions=range(3)))
        for network, ids in (
            (inside, encode(tokens, Vocabulary(tuple(words)), None)),
            (outside, encode(tokens, Vocabulary(()), beyond)),
        )
    ]
    assert np.array_equal(*of_both)


SCORERS = 3
SCORER = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from sentiment.model import load_model
from sentiment.score import score_texts
model = load_model(Path(sys.argv[1]), table=sys.argv[2])
words = [f"w{number}" for number in range(int(sys.argv[3]), 60_000, 7)]
texts = [" ".join(words[first:first + 50]) for first in range(0, len(words), 50)]
assert not any(score_texts(model, texts).reason)
print("scored", flush=True)
sys.stdin.read()
"""


def test_processes_that_score_hold_one_table(tmp_path):
    words = [f"w{number}" for number in range(60_000)]
    table = table_of(tmp_path / "table", words, some_vectors(len(words), 100), dtype="fp32")
    beyond = TableWords(table.digest, FIRST_WORD, 1.0, str(table.path))
    config = replace(recipes.quick().model, hidden=8)
    network = SentimentNetwork(config, vectors=torch.zeros(FIRST_WORD, 100), table_words=beyond)
    path = tmp_path / "model"
    save_model(path, network=network, vocabulary=Vocabulary(()), max_tokens=60, about={})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCORER, path, table.path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(SCORERS)
    ]
    try:
        assert [process.stdout.readline() for process in processes] == ["scored\n"] * SCORERS
        shares = [mapped(process.pid, "vectors.npy") for process in processes]
    finally:
        for process in processes:
            process.communicate()
    size = (table.path / "vectors.npy").stat().st_size
    assert all(share["Rss"] > size / 2 for share in shares)  # each has read most of it
    assert sum(share["Pss"] for share in shares) <= size + SCORERS * 4096
    assert all(share["Private_Dirty"] == 0 for share in shares)


def mapped(pid, name):
    """What a process pays for its mappings of a file, in bytes."""
    sums, inside = {}, False
    with Path(f"/proc/{pid}/smaps").open() as file:
        for line in file:
            first, *rest = line.split()
            if not first.endswith(":"):
                inside = line.rstrip().endswith(f"/{name}")
            elif inside and rest[-1] == "kB":
                sums[first[:-1]] = sums.get(first[:-1], 0) + int(rest[0]) * 1024
    return sums
