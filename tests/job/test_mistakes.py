import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.corpus import Corpus
from sentiment.mistakes import excerpt, surest_mistakes
from sentiment.text import text_id

# text, label, probability of praise
REVIEWS = [
    ("right pan", 0, 0.02),
    ("wrong pan, sure", 0, 0.97),
    ("wrong pan, surer", 0, 0.99),
    ("wrong pan, hardly", 0, 0.51),
    ("right praise", 1, 0.999),
    ("wrong praise, <br /><br />sure", 1, 0.04),
]


@pytest.fixture
def corpus(tmp_path):
    """A test split of its own, in another order than the scores."""
    (tmp_path / "test").mkdir()
    pq.write_table(
        pa.table({"text": [text for text, _, _ in reversed(REVIEWS)]}),
        tmp_path / "test" / "part.parquet",
    )
    part = {"path": "test/part.parquet", "split": "test", "first_position": 0, "rows": len(REVIEWS)}
    return Corpus(path=tmp_path, manifest={"splits": {"test": {}}, "parts": [part]})


@pytest.fixture
def scored():
    texts, labels, probabilities = zip(*REVIEWS, strict=True)
    return pa.table(
        {
            "id": [text_id(text) for text in texts],
            "label": pa.array(labels, pa.int8()),
            "probability": probabilities,
            "tokens": [len(text.split()) for text in texts],
        }
    )


def test_the_surest_of_each_label_come_with_their_own_text(corpus, scored):
    found = surest_mistakes(corpus, scored, each=2)
    assert [(one.text, one.label, one.probability) for one in found] == [
        ("wrong pan, surer", 0, 0.99),
        ("wrong pan, sure", 0, 0.97),
        ("wrong praise, sure", 1, 0.04),
    ]


def test_without_a_mistake_there_is_none(corpus, scored):
    right = scored.take([0, 4])
    assert surest_mistakes(corpus, right, each=2) == []


def test_of_a_long_text_the_beginning_and_the_end_are_shown():
    text = " ".join(f"word{n}" for n in range(500))
    short = excerpt(text, limit=60)
    assert len(short) <= 60 + len(" […] ")
    assert short.startswith("word0 word1 ")
    assert short.endswith(" word498 word499")
    assert "ord" not in [word[:3] for word in short.split()]
    assert excerpt("a &amp; b  <i>c</i>\n d") == "a & b c d"
