"""Finding a source: what is recognised, how it is planned, what is refused as a whole."""

import gzip
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import InvalidInputError
from sentiment.sources import Review, SourceOptions, find_source, read_task


def find(path, **options):
    return find_source(str(path), SourceOptions(**options))


def rows_of(source):
    return [row for task in source.tasks for row in read_task(task)]


def make_imdb(root, *, reviews=6):
    for split in ("train", "test"):
        for label, stars in (("neg", 2), ("pos", 9)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(reviews):
                (folder / f"{number}_{stars}.txt").write_text(f"{split} {label} number {number}")
            urls = [
                f"http://www.imdb.com/title/tt{n // 2:07d}/usercomments" for n in range(reviews)
            ]
            (root / split / f"urls_{label}.txt").write_text("\n".join(urls))
    unsup = root / "train" / "unsup"
    unsup.mkdir()
    (unsup / "0_0.txt").write_text("nobody knows")
    (root / "README").write_text("read me")
    return root


def test_an_imdb_folder(tmp_path):
    source = find(make_imdb(tmp_path / "aclImdb", reviews=12))
    assert (source.kind, source.labelled, source.files) == ("imdb", True, 48)
    assert source.splits == ("train", "test")
    assert "left out: 1 reviews without a label in train/unsup" in source.notes
    rows = rows_of(source)
    assert [row.row for row in rows] == list(range(48))
    assert [row.file for row in rows[:3]] == [f"test/neg/{n}_2.txt" for n in range(3)]
    assert rows[10].file == "test/neg/10_2.txt"  # by number, not by letters
    last = rows[-1]
    assert last == Review(
        text="train pos number 11",
        label=1,
        stars=9,
        film="tt0000005",
        source="train/pos/11_9.txt",
        row=47,
        file="train/pos/11_9.txt",
        line=1,
        split="train",
    )
    with_unsup = rows_of(find(tmp_path / "aclImdb", unlabelled=True))
    assert [(r.label, r.stars) for r in with_unsup if "unsup" in r.file] == [(None, None)]


def test_parts_of_an_imdb_folder(tmp_path):
    root = make_imdb(tmp_path / "aclImdb")
    assert {row.split for row in rows_of(find(root, part="heldout"))} == {"test"}
    assert {row.split for row in rows_of(find(root, part="train"))} == {"train"}
    single = find(root / "train")
    assert (single.splits, single.files) == ((), 12)
    assert len(rows_of(find(root / "train", part="heldout"))) == 12
    with pytest.raises(InvalidInputError, match="has no test split"):
        find(root / "train", part="test")


def test_tiny_files_are_packed_and_the_plan_travels(tmp_path):
    folder = tmp_path / "pos"
    folder.mkdir()
    for number in range(4100):
        (folder / f"{number}_9.txt").touch()
    (tmp_path / "neg").mkdir()
    source = find(tmp_path)
    assert [len(task.parts) for task in source.tasks] == [2000, 2000, 100]
    assert pickle.loads(pickle.dumps(source.tasks)) == source.tasks


def test_a_mixed_folder_in_order(tmp_path):
    (tmp_path / "b.txt").write_text("from text\nand more\n")
    (tmp_path / "a.csv").write_text("text,label\nfrom csv,1\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.jsonl.gz").write_bytes(
        gzip.compress(b'{"body": "from json", "class": "neg"}\n')
    )
    pq.write_table(pa.table({"text": ["from parquet"]}), tmp_path / "deep" / "d.parquet")
    (tmp_path / "notes.md").write_text("# no reviews")
    (tmp_path / ".hidden.csv").write_text("text\nhidden\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    source = find(tmp_path)
    assert [r.text for r in rows_of(source)] == [
        "from csv",
        "from text",
        "and more",
        "from json",
        "from parquet",
    ]
    assert [r.row for r in rows_of(source)] == sorted(r.row for r in rows_of(source))
    assert source.kind == "folder" and source.splits == ()
    assert "left out: empty.csv is empty" in source.notes
    assert "left out: 1 files of other kinds (notes.md)" in source.notes
    assert any(note.startswith("without labels: 2 files") for note in source.notes)


def test_files_named_by_their_split(tmp_path):
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"):
        pq.write_table(pa.table({"text": [name], "label": [1]}), tmp_path / name)
    source = find(tmp_path)
    assert source.splits == ("train", "test")
    assert [row.split for row in rows_of(source)] == ["test", "train", "train"]


def test_a_big_parquet_file_is_cut_by_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("sentiment.sources.parquet._PART_BYTES", 1000)
    texts = [f"review number {n} " + "x" * 100 for n in range(100)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=10)
    source = find(tmp_path / "a.parquet")
    parts = [part for task in source.tasks for part in task.parts]
    assert len(parts) > 3
    assert source.files == 1
    rows = rows_of(source)
    assert [row.text for row in rows] == texts
    assert [row.row for row in rows] == list(range(100))
    assert [row.line for row in rows] == list(range(1, 101))


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("one.csv", "a fine film\nanother one\n", ["a fine film", "another one"]),
        ("two.tsv", "1\ta fine film\n0\ta dull one\n", ["a fine film", "a dull one"]),
        ("swapped.csv", "a fine film,pos\na dull one,neg\n", ["a fine film", "a dull one"]),
        ("odd.csv", "Opinion,Verdict\na fine film,pos\nbad,neg\n", ["a fine film", "bad"]),
        ("case.csv", "ID;Review Text;Sentiment\n1;a fine film;1\n", ["a fine film"]),
        ("bar.csv", "sentence|label\na fine, long film|1\n", ["a fine, long film"]),
    ],
)  # fmt: skip
def test_columns_that_are_guessed(tmp_path, name, content, texts):
    (tmp_path / name).write_text(content)
    assert [row.text for row in rows_of(find(tmp_path / name))] == texts


def test_columns_that_are_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Plot,Opinion,Verdict,note\np,a fine film,1,x\n")
    (row,) = rows_of(find(path, text_column="opinion", label_column="Verdict"))
    assert (row.text, row.label) == ("a fine film", 1)
    bare = tmp_path / "b.csv"
    bare.write_text("1,77,a fine film\n0,78,a dull one\n")
    rows = rows_of(find(bare, text_column="3", label_column="1"))
    assert [(row.text, row.label) for row in rows] == [("a fine film", 1), ("a dull one", 0)]


def test_a_scale_guessed_wrong_stops(tmp_path):
    path = tmp_path / "a.csv"
    few = "".join(f"a dull film number {n} {'x' * 2000},2\n" for n in range(200))
    path.write_text("text,stars\n" + few + "superb,9\n")
    source = find(path)
    assert any("taken as of 5" in note for note in source.notes)
    with pytest.raises(InvalidInputError, match="9 stars") as error:
        rows_of(source)
    assert error.value.where == f"{path}:202"
    assert sum(isinstance(row, Review) for row in rows_of(find(path, stars_of=10))) == 201


def test_a_file_this_host_does_not_see(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("here it is")
    source = find(path)
    path.unlink()
    with pytest.raises(InvalidInputError, match="does not see this file") as error:
        rows_of(source)
    assert error.value.where == str(path)
