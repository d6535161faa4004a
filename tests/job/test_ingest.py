"""Ingest on a real Spark: splits, shuffle, duplicates, counts that add up."""

import hashlib
import json
from collections import Counter
from contextlib import nullcontext
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.corpus import QUARANTINE_SCHEMA, SCHEMA, open_corpus
from sentiment.errors import InvalidInputError, SentimentError
from sentiment.ingest import IngestOptions, ingest
from sentiment.sources import SourceOptions, find_source, reviews_dataframe
from sentiment.splits import SplitOptions

from .test_sources_find import make_imdb


@pytest.fixture
def run(spark, tmp_path):
    """Ingest a source and open what became of it."""

    def run(source, *, out="corpus", split=None, test="0.2", seed=1, replace=False, **others):
        reading = others.pop("reading", SourceOptions())
        options = IngestOptions(
            split=SplitOptions(how=split, test=Decimal(test), seed=seed), **others
        )
        return ingest(
            spark,
            find_source(str(source), reading),
            tmp_path / out,
            options,
            step=lambda _: nullcontext(),
            replace=replace,
        )

    return run


def table(corpus, split):
    return pa.Table.from_batches(list(corpus.read(split)), SCHEMA).to_pylist()


def quarantine(corpus):
    files = sorted((corpus.path / "quarantine").glob("*.parquet"))
    return pa.concat_tables([pq.read_table(f) for f in files]).to_pylist() if files else []


def write_csv(path, *, rows=100, films=10):
    """Rows of both labels in the source's order: all pan first, films side by side."""
    lines = [
        f"{label},tt{n * films // rows},review {label} number {n}"
        for label in (0, 1)
        for n in range(rows // 2)
    ]
    path.write_text("label,film,text\n" + "\n".join(lines) + "\n")
    return path


def test_contiguous_split_and_shuffle(run, tmp_path):
    corpus = run(write_csv(tmp_path / "a.csv", rows=103), part_bytes=300)
    train, test = table(corpus, "train"), table(corpus, "test")
    assert corpus.labels("test") == {0: 10, 1: 10}  # a fifth of 51 each, rounded down
    assert corpus.labels("train") == {0: 41, 1: 41}
    assert {r["row"] for r in test} == {*range(41, 51), *range(92, 102)}
    for rows, split in ((train, "train"), (test, "test")):
        assert [r["position"] for r in rows] == list(range(len(rows)))
        order = [r["row"] for r in rows]
        assert order != sorted(order)
        parts = corpus.part_files(split)
        assert len(parts) > 1
        assert [p.first_position for p in parts] == [
            sum(q.rows for q in parts[:n]) for n in range(len(parts))
        ]
    first_half = Counter(r["label"] for r in train[:41])
    assert min(first_half[0], first_half[1]) > 8  # shuffled across labels
    one = next(r for r in train if r["row"] == 0)
    assert one == {
        "position": one["position"],
        "id": hashlib.sha256(b"review 0 number 0").hexdigest()[:16],
        "text": "review 0 number 0",
        "label": 0,
        "stars": None,
        "film": "tt0",
        "source": "a.csv",
        "row": 0,
    }
    assert not (corpus.path / "quarantine").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "corpus"]


def test_seed_and_layout(run, tmp_path):
    source = write_csv(tmp_path / "a.csv")
    first = run(source, out="one", split="random")
    again = run(source, out="two", split="random")
    other = run(source, out="three", split="random", seed=2)
    assert first.digest == again.digest != other.digest
    assert {r["row"] for r in table(first, "test")} != {r["row"] for r in table(other, "test")}
    assert first.labels("test") == other.labels("test") == {0: 10, 1: 10}
    cut = run(source, out="four", split="random", part_bytes=500)
    assert len(cut.part_files("train")) > 1
    assert table(cut, "train") == table(first, "train")  # the order does not hang on the files


def test_film_split_shares_no_film(run, tmp_path):
    corpus = run(write_csv(tmp_path / "a.csv"), split="film", test="0.3")
    films = [{r["film"] for r in table(corpus, split)} for split in ("train", "test")]
    assert films[0] and films[1] and not films[0] & films[1]
    assert corpus.rows("test") >= 30


def test_film_split_needs_films(run, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\ngood one,1\nbad one,0\n")
    with pytest.raises(InvalidInputError, match="needs films"):
        run(tmp_path / "a.csv", split="film")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv"]


def test_given_split_and_duplicates_across_files(run, tmp_path):
    root = make_imdb(tmp_path / "aclImdb")
    (root / "train" / "pos" / "0_9.txt").write_text("  test pos number 3\n")
    corpus = run(root)
    assert corpus.manifest["split"]["how"] == "given"
    assert (corpus.rows("train"), corpus.rows("test")) == (11, 12)
    assert {r["source"].split("/")[0] for r in table(corpus, "test")} == {"test"}
    assert quarantine(corpus) == [
        {
            "file": "train/pos/0_9.txt",
            "line": 1,
            "reason": "duplicate of test/pos/3_9.txt:1",
            "excerpt": "test pos number 3",
        }
    ]
    source = corpus.manifest["source"]
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"
        for split in ("test", "train")
        for label in ("neg", "pos")
        for path in sorted((root / split / label).iterdir())
    ]
    assert source["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert (source["files"], len(source["listed"])) == (24, 24)


def test_rows_in_are_rows_kept_and_quarantined(run, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    good = [f"{n % 2},fine film number {n}" for n in range(40)]
    bad = [",fine", "7,fine", "1,", "0,!?", "1,a,b", "", "1,nul \0 here", '0,"fine film number 3"']
    (source / "a.csv").write_text("\n".join(["label,text", *good, *bad]))
    (source / "b.jsonl").write_bytes(
        b'{"label": 1, "text": "caf\xe9"}\n{"label": 0}\n{oops\n' + b'{"label": 1, "text": "good"}'
    )
    corpus = run(source, reading=SourceOptions(max_chars=500), part_bytes=400)
    rows = corpus.manifest["rows"]
    assert rows["in"] == len(good) + len(bad) + 4
    assert rows["in"] == rows["kept"] + rows["quarantined"]
    assert rows["kept"] == corpus.rows("train") + corpus.rows("test") == 41
    assert sum(rows["reasons"].values()) == rows["quarantined"] == len(quarantine(corpus))
    assert rows["reasons"] == {
        "blank": 2, "no label": 1, "unknown label": 1, "no word in it": 1, "NUL byte": 1,
        "wrong number of fields": 1, "duplicate": 1, "not UTF-8": 1, "no text": 1,
        "malformed JSON": 1,
    }  # fmt: skip
    found = [(r["file"], r["line"]) for r in quarantine(corpus)]
    assert found == [("a.csv", n) for n in range(42, 50)] + [("b.jsonl", n) for n in (1, 2, 3)]
    assert quarantine(corpus)[7]["reason"] == "duplicate of a.csv:5"
    file = next((corpus.path / "quarantine").iterdir())
    assert pq.read_schema(file).equals(QUARANTINE_SCHEMA)


def test_without_labels_nothing_is_held_out(run, tmp_path):
    (tmp_path / "a.txt").write_text("one film\nanother film\n\n")
    corpus = run(tmp_path / "a.txt")
    assert corpus.splits == ("train",)
    assert corpus.manifest["splits"]["train"] == {"rows": 2, "labels": {"none": 2}}
    assert corpus.manifest["rows"]["in"] == 3
    again = find_source(str(corpus.path), SourceOptions())
    assert (again.kind, again.labelled) == ("corpus", False)


def test_a_corpus_is_a_source(run, spark, tmp_path):
    corpus = run(write_csv(tmp_path / "a.csv"))
    held = find_source(str(corpus.path), SourceOptions(part="heldout"))
    assert (held.kind, held.labelled, held.splits) == ("corpus", True, ("train", "test"))
    frame = reviews_dataframe(spark, held)
    rows = sorted(frame.collect(), key=lambda row: row["row"])
    expected = table(corpus, "test")
    assert [r["text"] for r in rows] == [r["text"] for r in expected]
    assert [(r["label"], r["film"], r["source"]) for r in rows] == [
        (r["label"], r["film"], r["source"]) for r in expected
    ]
    assert {r["reason"] for r in rows} == {None}
    again = run(corpus.path, out="again")
    assert again.manifest["split"]["how"] == "given"
    assert sorted(r["id"] for r in table(again, "test")) == sorted(r["id"] for r in expected)


def test_only_and_not_selected(run, tmp_path):
    lines = [f"review {n},{n % 2},{'ab'[n // 2 % 2]}" for n in range(20)]
    (tmp_path / "a.csv").write_text("text,label,source\n" + "\n".join(lines))
    corpus = run(tmp_path / "a.csv", reading=SourceOptions(only=(("source", "a"),)))
    assert corpus.manifest["rows"]["not_selected"] == 10
    assert corpus.manifest["rows"]["in"] == 10
    assert {r["source"] for r in table(corpus, "train")} == {"a"}


def test_one_label_only(run, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\ngood one,1\nbetter one,1\n")
    with pytest.raises(InvalidInputError, match="one label only: 0 pan, 2 praise"):
        run(tmp_path / "a.csv")
    assert run(tmp_path / "a.csv", one_label=True).manifest["rows"]["kept"] == 2


def test_nothing_that_can_be_used(run, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n!,1\n,1\n?,0\ngood,9\n")
    with pytest.raises(InvalidInputError, match=r"none of its 4 rows .*no word in it \(2\)"):
        run(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("text,label\n")
    with pytest.raises(InvalidInputError, match="has no rows"):
        run(tmp_path / "b.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b.csv"]


def test_force_replaces_a_corpus_and_nothing_else(run, tmp_path):
    source = write_csv(tmp_path / "a.csv")
    first = run(source, split="none")
    with pytest.raises(SentimentError, match="exists already"):
        run(source)
    second = run(source, seed=5, replace=True)
    assert second.digest != first.digest
    assert open_corpus(second.path, verify=True).manifest["seed"] == 5
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").touch()
    with pytest.raises(InvalidInputError, match="replaces only what ingest made"):
        run(source, out="precious", replace=True)
    assert (tmp_path / "precious" / "thesis.txt").exists()
    assert json.loads((second.path / "manifest.json").read_text())["seed"] == 5
