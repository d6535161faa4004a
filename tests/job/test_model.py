import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment import recipes
from sentiment.errors import InvalidInputError, SentimentError
from sentiment.model import load_model, save_model
from sentiment.score import score_texts
from sentiment.vocabulary import Vocabulary

from .conftest import WORDS, small_network


@pytest.fixture
def saved(tmp_path):
    network = small_network(recipes.quick())
    digest = save_model(
        tmp_path / "model",
        network=network,
        vocabulary=Vocabulary(WORDS),
        max_tokens=50,
        about={"metrics": {"x": 1}},
    )
    return tmp_path / "model", digest


def test_a_model_directory_holds_no_pickle_and_says_what_it_is(saved):
    path, digest = saved
    assert sorted(p.name for p in path.iterdir()) == [
        "model.json",
        "weights.safetensors",
        "words.txt",
    ]
    description = json.loads((path / "model.json").read_text())
    assert description["digest"] == digest
    assert description["metrics"] == {"x": 1}
    model = load_model(path)
    assert model.digest == digest
    assert model.vocabulary.words == WORDS


def test_saving_twice_gives_the_same_digest_and_needs_leave_to_replace(saved, tmp_path):
    path, digest = saved
    network = small_network(recipes.quick())
    options = {"network": network, "vocabulary": Vocabulary(WORDS), "max_tokens": 50, "about": {}}
    with pytest.raises(SentimentError, match="exists"):
        save_model(path, **options)
    assert save_model(path, **options, replace=True) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "words.txt"])
def test_a_missing_file_is_named(saved, name):
    (saved[0] / name).unlink()
    with pytest.raises(InvalidInputError, match=name):
        load_model(saved[0])


@pytest.mark.parametrize("name", ["weights.safetensors", "words.txt"])
def test_an_altered_file_is_named(saved, name):
    file = saved[0] / name
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(InvalidInputError, match=f"{name} is not the file that was saved"):
        load_model(saved[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["architecture"].update(hidden=25), "do not fit"),
        (lambda d: d["architecture"].update(layers=3), "altered"),
        (lambda d: d["files"].update({"../x": "0"}), "altered"),
        (lambda d: d.update(format=99), "format 99"),
        (lambda d: d.update(tokenizer="other"), "tokenizer other"),
        (lambda d: d.pop("architecture"), "lacks architecture"),
    ],
)
def test_an_altered_description_is_refused(saved, change, message):
    file = saved[0] / "model.json"
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))
    with pytest.raises(InvalidInputError, match=message):
        load_model(saved[0])


@pytest.mark.parametrize("content", ["", "[]", "{", "\x00\x01"])
def test_a_description_that_is_none_is_refused(saved, content):
    (saved[0] / "model.json").write_text(content)
    with pytest.raises(InvalidInputError):
        load_model(saved[0])


def test_a_place_without_a_model_is_said(tmp_path):
    with pytest.raises(InvalidInputError, match="no model here"):
        load_model(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="not a model directory"):
        load_model(tmp_path / "file")
    with pytest.raises(InvalidInputError, match="not a model directory"):
        load_model(tmp_path)


def test_a_loaded_model_scores_as_the_saved_one(saved):
    before = small_network(recipes.quick())
    model = load_model(saved[0])
    after = score_texts(model, ["a good film"])
    other = score_texts(type(model)(before, model.vocabulary, 50, "", {}), ["a good film"])
    assert after.probability[0] == other.probability[0]


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), unique=True))
def test_a_vocabulary_survives_its_file(words):
    vocabulary = Vocabulary(tuple(words))
    again = Vocabulary.from_bytes(vocabulary.to_bytes())
    assert again == vocabulary
    assert again.encode([*words, "\n"]) == [*range(2, len(words) + 2), 1]
