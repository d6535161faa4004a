"""What a stream is made of: the files that arrive, the sink, the model at its path, repair."""

import json
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.files import locked_directory
from sentiment.model import Model, save_model
from sentiment.recipes import RECIPES
from sentiment.score import score_batch
from sentiment.stream import WatchedModel
from sentiment.stream_files import LOG, FilesReader
from sentiment.stream_repair import repair, require_same_batches
from sentiment.stream_sink import Memory, Sink, claim
from sentiment.text import text_id
from sentiment.vocabulary import Vocabulary

from .conftest import WORDS, small_network

# ---------------------------------------------------------------- files


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def reader(inbox: Path, *, settle: float = 0, most_bytes: int = 1 << 20) -> FilesReader:
    return FilesReader(inbox, log=inbox.parent / LOG, settle=settle, most_bytes=most_bytes)


def put(inbox: Path, name: str, text: str, *, age: float = 10) -> Path:
    path = inbox / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(found) -> list[str]:
    return [name for name, *_ in found]


def test_each_file_comes_once_the_oldest_first_and_again_when_it_has_changed(inbox: Path):
    put(inbox, "b.txt", "one\n", age=30)
    put(inbox, "sub/a.txt", "two\n", age=20)
    files = reader(inbox)
    found, first = files.read(files.initialOffset())
    assert names(found) == ["b.txt", "sub/a.txt"]
    found, same = files.read(first)
    assert (names(found), same) == ([], first)
    put(inbox, "b.txt", "one\nmore\n")
    put(inbox, "c.txt", "three\n", age=5)
    found, second = files.read(first)
    assert names(found) == ["b.txt", "c.txt"]
    assert second["batch"] == 2
    assert names(files.readBetweenOffsets(first, second)) == ["b.txt", "c.txt"]


def test_what_is_being_written_or_named_as_no_review_waits(inbox: Path):
    put(inbox, "fresh.txt", "x", age=0)
    for name in (".hidden.txt", "_SUCCESS", "a.txt.part", "b.tmp"):
        put(inbox, name, "x")
    put(inbox, "empty.txt", "")
    files = reader(inbox, settle=5)
    assert names(files.read(files.initialOffset())[0]) == []
    put(inbox, "fresh.txt", "x", age=6)
    assert names(files.read(files.initialOffset())[0]) == ["fresh.txt"]


def test_a_batch_has_so_many_bytes_or_one_file(inbox: Path):
    for number, size in enumerate((600, 300, 200, 5000)):
        put(inbox, f"{number}.txt", "x" * size, age=100 - number)
    files, offset, batches = reader(inbox, most_bytes=1000), {"batch": 0, "files": "[]"}, []
    while True:
        found, after = files.read(offset)
        if after == offset:
            break
        batches.append(names(found))
        offset = after
    assert batches == [["0.txt", "1.txt"], ["2.txt"], ["3.txt"]]


def test_what_is_available_now_is_all_of_it_and_nothing_that_comes_later(inbox: Path):
    """Spark asks until the offset stays as it is."""
    for number in range(3):
        put(inbox, f"{number}.txt", "x" * 600, age=100 - number)
    files, offset, batches = reader(inbox, most_bytes=1000), {"batch": 0, "files": "[]"}, []
    files.prepareForTriggerAvailableNow()
    put(inbox, "later.txt", "x", age=200)
    while True:
        found, after = files.read(offset)
        if after == offset:
            break
        batches.append([(name, waiting) for name, _, _, waiting in found])
        offset = after
    assert batches == [[("0.txt", 2)], [("1.txt", 1)], [("2.txt", 0)]]


def test_a_reader_that_starts_anew_knows_what_was_planned(inbox: Path):
    """Also of the last batch, which only the offset has; and with half a line in the list."""
    files = reader(inbox)
    put(inbox, "a.txt", "one")
    _, first = files.read(files.initialOffset())
    put(inbox, "b.txt", "two")
    _, second = files.read(first)
    log = inbox.parent / LOG
    assert [json.loads(line)[0] for line in log.read_text().splitlines()] == ["a.txt"]
    with log.open("a") as file:
        file.write('["b.t')
    put(inbox, "c.txt", "three")
    anew = reader(inbox)
    found, third = anew.read(second)
    assert names(found) == ["c.txt"]
    found, _ = reader(inbox).read(third)
    assert names(found) == []


def test_a_folder_that_disappears_has_no_files(inbox: Path):
    inbox.rmdir()
    files = reader(inbox)
    assert names(files.read(files.initialOffset())[0]) == []


# ---------------------------------------------------------------- the sink


def rows(
    model: Model, *texts: str | None, times: tuple[float | None, ...] | None = None
) -> pa.Table:
    size = len(texts)
    batch = pa.RecordBatch.from_pydict(
        {
            "row": list(range(size)),
            "file": ["a.txt"] * size,
            "line": list(range(1, size + 1)),
            "time": pa.array(times or [None] * size, pa.float64()),
            "text": pa.array(texts, pa.string()),
            "reason": [None if text else "blank" for text in texts],
        }
    )
    return pa.Table.from_batches([score_batch(model, batch)])


def ids(out: Path) -> list[str]:
    found = [pq.read_table(path)["id"].to_pylist() for path in sorted(out.glob("scores/*"))]
    return [one for part in found for one in part]


def test_each_text_is_scored_once_and_every_row_is_somewhere(model: Model, tmp_path: Path):
    sink = Sink(tmp_path, memory=Memory(reviews=100))
    kept = sink.write(0, rows(model, "good plot", "good plot", None, "bad film"), model_digest="d")
    assert (kept.scored, kept.quarantined, kept.duplicates) == (2, 1, 1)
    kept = sink.write(1, rows(model, "bad film", "great film"), model_digest="e")
    assert (kept.scored, kept.duplicates) == (1, 1)
    assert ids(tmp_path) == [text_id(one) for one in ("good plot", "bad film", "great film")]
    refused = [
        json.loads(line)
        for path in sorted(tmp_path.glob("quarantine/*"))
        for line in path.read_text().splitlines()
    ]
    assert [row["reason"] for row in refused] == [
        "duplicate of a review in batch 0",
        "blank",
        "duplicate of a review in batch 0",
    ]
    assert refused[0]["line"] == 2
    digests = [
        pq.read_table(path)["model_digest"][0].as_py() for path in sorted(tmp_path.glob("scores/*"))
    ]
    assert digests == ["d", "e"]


def test_a_batch_that_is_made_again_overwrites_itself(model: Model, tmp_path: Path):
    first, second = rows(model, "good plot", "bad film"), rows(model, "bad film", "great film")
    for sink in (
        Sink(tmp_path, memory=Memory(reviews=100)),
        Sink(tmp_path, memory=Memory(reviews=100)),
    ):
        sink.write(0, first, model_digest="d")
        sink.write(1, second, model_digest="d")
        sink.write(1, second, model_digest="d")
    assert ids(tmp_path) == [text_id(one) for one in ("good plot", "bad film", "great film")]


def test_batches_that_a_repair_has_made_of_other_files_leave_no_review_twice_or_lost(
    model: Model, tmp_path: Path
):
    """Batch 1 has what batches 1 and 2 had before; then batch 2 comes again, of other reviews."""
    sink = Sink(tmp_path, memory=Memory(reviews=100))
    for number, text in enumerate(("good plot", "bad film", "great film")):
        sink.write(number, rows(model, text), model_digest="d")
    sink = Sink(tmp_path, memory=Memory(reviews=100))
    sink.write(1, rows(model, "bad film", "great film"), model_digest="d")
    assert ids(tmp_path) == [text_id(one) for one in ("good plot", "bad film", "great film")]
    sink.write(2, rows(model, "dull film"), model_digest="d")
    assert ids(tmp_path)[:3] == [text_id(one) for one in ("good plot", "bad film", "great film")]
    assert ids(tmp_path)[3:] == [text_id("dull film")]


def test_what_is_remembered_is_bounded(model: Model, tmp_path: Path):
    sink = Sink(tmp_path, memory=Memory(reviews=3))
    for number, texts in enumerate((("good", "bad"), ("great", "dull"), ("plot",), ("good",))):
        sink.write(number, rows(model, *texts), model_digest="d")
        assert sink.remembered <= 4
    assert len(ids(tmp_path)) == 6, "good is forgotten, and scored anew"
    again = Sink(tmp_path, memory=Memory(reviews=3))
    assert 3 <= again.remembered <= 4
    assert again.write(4, rows(model, "plot", "good"), model_digest="d").duplicates == 2


def test_what_is_late_is_refused_also_by_a_sink_that_starts_anew(model: Model, tmp_path: Path):
    """A batch is measured by those before it: in itself it has no order, made again it is equal."""
    memory = Memory(reviews=1, late=60)
    batches = (
        rows(model, "good plot", "bad film", times=(1000, 10)),
        rows(model, "good film", "dull film", "great film", times=(940, 939.9, 2000)),
        rows(model, "bad plot", "great plot", times=(1940, None)),
    )
    for _ in range(2):
        for number, batch in enumerate(batches):
            kept = Sink(tmp_path, memory=memory).write(number, batch, model_digest="d")
            assert kept.late == (0, 1, 0)[number]
            assert kept.scored == (2, 2, 1)[number]
        late, unknown = [
            json.loads(line)["reason"]
            for path in sorted(tmp_path.glob("quarantine/*"))
            for line in path.read_text().splitlines()
        ]
        assert late == "late: 1970-01-01T00:15:39+00:00, taken from 1970-01-01T00:15:40+00:00 on"
        assert unknown == "no time"


def test_a_folder_belongs_to_one_stream(tmp_path: Path):
    claim(tmp_path / "out", {"source": "/in", "out": "/out"}, name="OUT")
    claim(tmp_path / "out", {"source": "/in", "out": "/out"}, name="OUT")
    claim(tmp_path / "out", {"source": "/typo", "out": "/out"}, name="OUT")
    claim(tmp_path / "out", {"source": "/in", "out": "/out"}, name="OUT")
    (tmp_path / "out/scores").mkdir()
    (tmp_path / "out/scores/batch-000000000.parquet").touch()
    with pytest.raises(InvalidInputError, match="another stream's: its source is /in, not /other"):
        claim(tmp_path / "out", {"source": "/other", "out": "/out"}, name="OUT")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("42")
    with pytest.raises(InvalidInputError, match="not empty, and no stream's"):
        claim(tmp_path / "mine", {"source": "/in", "out": "/out"}, name="OUT")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


# ---------------------------------------------------------------- the model


def saved(path: Path, *, seed: int) -> str:
    network = small_network(RECIPES["quick"](), seed=seed)
    return save_model(
        path, network=network, vocabulary=Vocabulary(WORDS), max_tokens=60, about={}, replace=True
    )


def test_a_model_is_taken_when_it_is_whole_and_kept_when_it_is_gone(tmp_path: Path):
    path = tmp_path / "model"
    first, second = saved(path, seed=1), saved(tmp_path / "other", seed=2)
    watched = WatchedModel(path)
    assert watched.look() is None
    shutil.copy(tmp_path / "other/model.json", path)
    said = watched.look()
    assert "cannot be used" in said
    assert "the one before stays" in said
    assert watched.look() is None, "it is said once"
    assert watched.digest == first
    shutil.copytree(tmp_path / "other", path, dirs_exist_ok=True)
    assert watched.look() == f"model {second[:12]} from here on, in the place of {first[:12]}"
    shutil.rmtree(path)
    assert "cannot be used (there is no model here)" in watched.look()
    assert watched.digest == second
    saved(path, seed=2)
    assert watched.look() is None
    saved(path, seed=1)
    assert watched.look() is not None
    assert watched.digest == first


# ---------------------------------------------------------------- repair


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of four batches, all ended, as Spark writes it."""
    path = tmp_path / "checkpoint"
    for log in ("offsets", "commits"):
        (path / "spark" / log).mkdir(parents=True)
    for number in range(4):
        files = json.dumps([[f"{number}.txt", 1, 2]])
        offset = json.dumps({"batch": number + 1, "files": files})
        (path / f"spark/offsets/{number}").write_text(f'v1\n{{"batchWatermarkMs":0}}\n{offset}')
        (path / f"spark/commits/{number}").write_text('v1\n{"nextBatchWatermarkMs":0}')
    (path / "spark/metadata").write_text('{"id":"6f2c"}')
    (path / LOG).write_text("".join(f'["{number}.txt", 1, 2]\n' for number in range(3)))
    return path


def left(checkpoint: Path, log: str) -> list[str]:
    return sorted(path.name for path in (checkpoint / "spark" / log).iterdir())


def test_a_whole_checkpoint_is_left_alone(checkpoint: Path):
    before = {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()}
    done = repair(checkpoint)
    assert (done.first, done.metadata) == (None, False)
    assert {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", [b"", b"v1", b"v1\n{half", b"\xff\xfe", b"v2\n{}"])
@pytest.mark.parametrize("log", ["offsets", "commits"])
def test_from_the_first_damaged_batch_on_all_is_made_again(checkpoint: Path, log: str, content):
    (checkpoint / f"spark/{log}/2").write_bytes(content)
    done = repair(checkpoint)
    assert (done.first, done.moved) == (2, 4)
    assert left(checkpoint, "offsets") == left(checkpoint, "commits") == ["0", "1"]
    assert (done.aside / log / "2").read_bytes() == content
    seen = [json.loads(line)[0] for line in (checkpoint / LOG).read_text().splitlines()]
    assert seen == ["0.txt", "1.txt"]
    assert repair(checkpoint).first is None


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"id": 5}', b"\xff"])
def test_the_streams_identity_is_given_anew(checkpoint: Path, content: bytes | None):
    path = checkpoint / "spark/metadata"
    path.unlink() if content is None else path.write_bytes(content)
    (checkpoint / "spark/.metadata.crc").touch()
    assert repair(checkpoint).metadata
    assert isinstance(json.loads(path.read_bytes())["id"], str)
    assert not (checkpoint / "spark/.metadata.crc").exists()
    assert not repair(checkpoint).metadata


def test_out_and_checkpoint_go_together(checkpoint: Path, tmp_path: Path):
    out = tmp_path / "out"
    with pytest.raises(InvalidInputError, match="up to 3 are done, and OUT does not have"):
        require_same_batches(checkpoint, out)
    (out / "scores").mkdir(parents=True)
    require_same_batches(checkpoint, out)
    for number in range(4):
        (out / f"scores/batch-{number:09d}.parquet").touch()
    require_same_batches(checkpoint, out)
    (checkpoint / "spark/offsets/1").write_bytes(b"")
    assert repair(checkpoint).first == 1
    require_same_batches(checkpoint, out)  # those that were put aside are made again
    with pytest.raises(InvalidInputError, match="up to 3, of which this checkpoint knows none"):
        require_same_batches(tmp_path / "new", out)
    (out / "scores/batch-000000004.parquet").touch()
    with pytest.raises(InvalidInputError, match=r"up to 4, of which .* knows those up to 3"):
        require_same_batches(checkpoint, out)


def test_the_first_batch_may_be_damaged(checkpoint: Path):
    (checkpoint / "spark/offsets/0").write_bytes(b"")
    assert repair(checkpoint).moved == 8
    assert (checkpoint / LOG).read_text() == ""


def test_a_running_stream_is_not_repaired_and_other_folders_neither(checkpoint: Path):
    with locked_directory(checkpoint), pytest.raises(SentimentError, match="another run"):
        repair(checkpoint)
    with pytest.raises(InvalidInputError, match="no checkpoint of a stream"):
        repair(checkpoint.parent)
