"""Every reader gives back what was written, and says why it does not."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.errors import InvalidInputError
from sentiment.sources import (
    Refused,
    Review,
    SourceOptions,
    Tally,
    cut_files,
    find_source,
    read_task,
)
from sentiment.sources.labels import Unlabelled, label_of, label_of_stars, stars_of_ten
from sentiment.sources.rules import fault_of
from sentiment.sources.times import time_of

LONG = "A quiet film about a long winter, well acted and far too long for its story. " * 8
PIECES = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), max_size=40),
    st.sampled_from(
        ['a "b" c', "a,b", "x\ty", '"', "''", "…!?", "😀", "", "  ", "\\", "é ü", "\u2028 z"]
    ),
)
TEXTS = st.lists(st.tuples(PIECES, st.sampled_from(["0", "1", "pos", "Negative"])), max_size=12)
MULTILINE = st.lists(
    st.tuples(
        st.lists(PIECES, min_size=1, max_size=3).map("\n".join),
        st.sampled_from(["0", "1", "pos", "Negative"]),
    ),
    max_size=12,
)
EXPECTED = {"0": 0, "Negative": 0, "1": 1, "pos": 1}
quick = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(path, *, tally=None, **options):
    source = find_source(str(path), SourceOptions(**options))
    return [row for task in source.tasks for row in read_task(task, tally=tally)]


def check(rows, written):
    """Each row in its place: a review as it was written, or refused for what is wrong with it."""
    assert len(rows) == len(written)
    for row, (text, label) in zip(rows, written, strict=True):
        fault = fault_of(text.strip(), max_chars=1_000_000)
        if fault:
            assert isinstance(row, Refused) and row.reason == fault
        else:
            assert isinstance(row, Review)
            assert (row.text, row.label) == (text.strip(), EXPECTED[label])
    assert [row.row for row in rows] == sorted({row.row for row in rows})


@quick
@given(written=MULTILINE, delimiter=st.sampled_from(",;|"), packed=st.booleans())
def test_csv_round_trip(tmp_path, written, delimiter, packed):
    written = [(LONG, "1"), *written]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(
        [("Label", "Review"), *((b, a) for a, b in written)]
    )
    data = out.getvalue().encode()
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    rows = read(path)
    check(rows, written)
    line = 2
    for row, (text, _) in zip(rows, written, strict=True):
        assert row.line == line
        line += 1 + text.count("\n")


@quick
@given(written=MULTILINE)
def test_tsv_with_quotes_round_trip(tmp_path, written):
    written = [(LONG + 'he said "no"', "1"), *written]
    path = tmp_path / "a.tsv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t").writerows([("text", "label"), *written])
    check(read(path), written)


@quick
@given(written=TEXTS)
def test_tsv_without_quotes_round_trip(tmp_path, written):
    written = [(LONG, "1"), *((text.replace("\t", " "), label) for text, label in written)]
    written += [('"An opening quote that never closes', "0")]
    path = tmp_path / "a.tsv"
    path.write_bytes(
        "".join(f"{text}\t{label}\r\n" for text, label in [("text", "label"), *written]).encode()
    )
    check(read(path), written)


@quick
@given(written=MULTILINE, escaped=st.booleans(), final=st.booleans())
def test_json_lines_round_trip(tmp_path, written, escaped, final):
    written = [(LONG, "1"), *written]
    lines = [json.dumps({"id": 3, "text": a, "label": b}, ensure_ascii=escaped) for a, b in written]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines) + "\n" * final, encoding="utf-8")
    check(read(path), written)


@quick
@given(written=MULTILINE, kind=st.sampled_from([pa.string(), pa.large_string(), pa.binary()]))
def test_parquet_round_trip(tmp_path, written, kind):
    written = [(LONG, "1"), *written]
    table = pa.table(
        {
            "review": pa.array([text.encode() for text, _ in written], pa.binary()).cast(kind),
            "sentiment": pa.array([EXPECTED[label] for _, label in written], pa.int64()),
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=3)
    check(read(path), written)


@quick
@given(texts=st.lists(PIECES, max_size=12), packed=st.booleans())
def test_lines_round_trip(tmp_path, texts, packed):
    texts = [LONG, *texts, "The end"]
    data = "\n".join(texts).encode()
    path = tmp_path / ("a.txt.gz" if packed else "a.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    rows = read(path)
    assert [row.line for row in rows] == list(range(1, len(texts) + 1))
    for row, text in zip(rows, texts, strict=True):
        fault = fault_of(text.strip(), max_chars=1_000_000)
        assert row.reason == fault if fault else row.text == text.strip() and row.label is None


def test_a_parquet_file_packed_with_gzip(tmp_path):
    pq.write_table(
        pa.table({"text": ["good one", "bad one"], "label": [True, False]}), tmp_path / "a"
    )
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "a").read_bytes()))
    assert [(r.text, r.label) for r in read(tmp_path / "a.parquet.gz")] == [
        ("good one", 1),
        ("bad one", 0),
    ]


def test_refusals_of_a_csv_name_line_and_reason(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"\xef\xbb\xbftext,label,source\r\n"
        + b'"Two\nlines",1,x\r\n'  # 2-3
        + b"\r\n"  # 4
        + b"only two,1\r\n"  # 5
        + b"caf\xe9 noir,0,x\r\n"  # 6
        + b"with a \0 in it,0,x\r\n"  # 7
        + b"?!,0,x\r\n"  # 8
        + b"fine,maybe,x\r\n"  # 9
        + b"fine,,x\r\n"  # 10
        + b",1,x\r\n"  # 11
        + b"an odd\rend,1,x\r\n"  # 12
        + b"x" * 3000 + b",1,x\r\n"  # 13
        + b"good,1,y"  # 14, no end of line
    )  # fmt: skip
    bad = path.read_bytes().index(0xE9)
    rows = read(path, max_chars=2000)
    told = {row.line: row.reason if isinstance(row, Refused) else row.text for row in rows}
    assert told == {
        2: "Two\nlines",
        4: "blank",
        5: "wrong number of fields: 2, not 3",
        6: f"not UTF-8: byte 0xe9 at offset {bad} (--encoding latin-1?)",
        7: "NUL byte",
        8: "no word in it",
        9: "unknown label: 'maybe'",
        10: "no label",
        11: "blank",
        12: told[12],
        13: "too long: 3,000 characters, at most 2,000 (--max-chars)",
        14: "good",
    }
    assert told[12].startswith("malformed CSV: ")
    assert "café noir" in [r.text for r in read(path, encoding="latin-1") if isinstance(r, Review)]


def test_refusals_of_json_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "fine", "label": true}\n'
        b'{"text": "cut off\n'
        b"[1, 2]\n"
        b"\n"
        b'{"label": 1}\n'
        b'{"text": 7, "label": 1}\n'
        b'{"text": "half \\ud800 a pair", "label": 0}\n'
        b'{"text": "b\xe4d", "label": 0}\n' + b"[" * 100_000 + b"\n"
    )
    rows = read(path)
    assert isinstance(rows[0], Review) and rows[0].label == 1
    assert [row.line for row in rows] == list(range(1, 10))
    reasons = [row.reason for row in rows[1:]]
    assert reasons[0].startswith("malformed JSON: ")
    assert reasons[1] == "malformed JSON: not an object"
    assert reasons[2] == "blank"
    assert reasons[3] == reasons[4] == "no text: column 'text' holds none"
    assert reasons[5] == "not valid Unicode: a lone surrogate"
    assert reasons[6].startswith("not UTF-8: byte 0xe4 at offset ")
    assert reasons[7].startswith("malformed JSON: ")


def test_a_huge_line_is_refused_and_the_next_one_read(tmp_path):
    import tracemalloc

    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.write(b"first one\n")
        for _ in range(40):
            file.write(b"long " * 200_000)
        file.write(b"\nlast one")
    tracemalloc.start()
    rows = read(path, max_chars=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.line for row in rows] == [1, 2, 3]
    assert rows[1].reason == "too long: a line of 40,000,001 bytes"
    assert rows[2].text == "last one"
    assert peak < 8e6


def test_a_quote_that_never_closes_costs_its_record_only(tmp_path):
    path = tmp_path / "a.csv"
    body = "".join(f"fine number {i},1\n" for i in range(1000))
    path.write_text('text,label\n"never closed,0\n' + body)
    rows = read(path, max_chars=100)
    assert sum(isinstance(row, Refused) for row in rows) >= 1
    refused = next(row for row in rows if isinstance(row, Refused))
    assert refused.line == 2
    assert "quote" in refused.reason or "field" in refused.reason


def test_only_counts_what_it_passes_over(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,source\ngood,1,a\nbad,0,b\n!,0,b\nworse,0,a\n")
    tally = Tally()
    rows = read(path, tally=tally, only=(("source", "a"),))
    assert [row.text for row in rows] == ["good", "worse"]
    assert [row.source for row in rows] == ["a", "a"]
    assert tally.not_selected == 2


@pytest.mark.parametrize(
    ("value", "stars_of", "stars", "label"),
    [("1", 5, 2, 0), ("2", 5, 4, 0), ("3", 5, 6, None), ("4", 5, 8, 1), ("5", 5, 10, 1),
     ("4", 10, 4, 0), ("5", 10, 5, None), ("6", 10, 6, None), ("7", 10, 7, 1), ("10", 10, 10, 1),
     ("3.5", 5, 7, 1), ("8/10", 5, 8, 1), ("1/4", 10, 3, 0)],
)  # fmt: skip
def test_stars(value, stars_of, stars, label):
    found = stars_of_ten(value, stars_of=stars_of, where="x:1")
    assert found == stars
    given = label_of_stars(found)
    assert given == label if label is not None else isinstance(given, Unlabelled)


@pytest.mark.parametrize("value", ["11", "-1", "many", "", "nan", "inf", "1/0"])
def test_what_is_no_rating(value):
    assert stars_of_ten(value, stars_of=10, where="x:1") is None


def test_labels_in_every_spelling():
    assert [label_of(v) for v in ("1", " POS ", "Positive", "true", "praise", "1.0")] == [1] * 6
    assert [label_of(v) for v in ("0", "neg", "NEGATIVE", "False", "pan", "-1")] == [0] * 6
    assert label_of("2") == Unlabelled("unknown label: '2'")


def test_stars_give_labels_and_neutral_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("review,rating\nsuperb,5\nmeh,3\nawful,1\nlost,\n")
    rows = read(path)
    assert [(r.text, r.label, r.stars) for r in rows if isinstance(r, Review)] == [
        ("superb", 1, 10),
        ("awful", 0, 2),
    ]
    assert [r.reason for r in rows if isinstance(r, Refused)] == [
        "neutral: 6 of 10 stars",
        "no label",
    ]


def test_what_is_to_be_scored_needs_no_label(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nfine,maybe\ngood,1\n")
    for options, labels in (({"labels": False}, [None, None]), ({"need_labels": False}, [None, 1])):
        rows = read(path, **options)
        assert all(isinstance(row, Review) for row in rows)
        assert [row.label for row in rows] == labels
    path.write_text("review,rating\nsuperb,5\nmeh,3\nlost,\n")
    rows = read(path, need_labels=False)
    assert [(row.label, row.stars) for row in rows] == [(1, 10), (None, 6), (None, None)]


@pytest.mark.parametrize(
    ("spelt", "seconds"),
    [
        ("2026-11-28T12:00:00Z", 1795867200.0),
        ("2026-11-28 13:00:00+01:00", 1795867200.0),
        ("2026-11-28", 1795824000.0),
        (" 1795867200 ", 1795867200.0),
        ("1795867200000", 1795867200.0),
        ("1795867200.5", 1795867200.5),
        ("", None),
        ("yesterday", None),
        ("nan", None),
        ("inf", None),
        ("1e300", None),
    ],
)
def test_points_in_time(spelt: str, seconds: float | None):
    assert time_of(spelt) == seconds


def test_a_time_column_is_read_from_every_kind_of_table(tmp_path):
    """Only where it is named; a row whose time is none is refused then."""
    moment = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
    (tmp_path / "a.csv").write_text(f"review,at\ngood plot,{moment.isoformat()}\nbad plot,soon\n")
    lines = [{"text": "good plot", "at": moment.timestamp()}, {"text": "bad plot"}]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    table = pa.table({"text": ["good plot", "bad plot"], "at": pa.array([moment, None])})
    pq.write_table(table, tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        first, second = read(tmp_path / name, time_column="at")
        assert first.time == moment.timestamp()
        assert second.reason.startswith("no time: ")
        assert [row.time for row in read(tmp_path / name)] == [None, None]
    with pytest.raises(InvalidInputError, match="has no column 'when'"):
        read(tmp_path / "a.csv", time_column="when")


HARMED = st.lists(
    st.one_of(
        st.tuples(PIECES, st.sampled_from(["0", "1"])).map(",".join).map(str.encode),
        st.tuples(PIECES, PIECES).map(lambda row: f'"{row[0]}\n{row[1]}",1'.encode()),
        st.sampled_from(
            [b"", b'"never closed,1', b"\xe9t\xe9,0", b'a "quote" in it,1', b"a,b,c,d"]
        ),
        PIECES.map(lambda text: json.dumps({"text": text, "label": 1}).encode()),
    ),
    max_size=30,
)


@quick
@given(
    written=HARMED,
    ends=st.sampled_from([b"\n", b"\r\n"]),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".txt"]),
    task_bytes=st.integers(min_value=2, max_value=800),
)
def test_a_file_that_is_cut_gives_the_rows_it_gives_whole(
    tmp_path, written, ends, suffix, task_bytes
):
    first = {
        ".csv": b'text,"label"',
        ".tsv": b"text\tlabel",
        ".jsonl": b'{"text": "well", "label": 1}',
        ".txt": b"\xef\xbb\xbfA film.",
    }[suffix]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(ends.join([first, LONG.encode() + b",1", *written]))
    options = SourceOptions(max_chars=700, need_labels=False)
    whole = find_source(str(path), options)
    cut = cut_files(whole, task_bytes=task_bytes)
    rows = [[row for task in source.tasks for row in read_task(task)] for source in (whole, cut)]
    assert rows[0] == rows[1]
    assert (cut.size, cut.files) == (whole.size, 1)
