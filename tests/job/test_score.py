import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.score import NO_KNOWN_WORD, NO_WORD, score_texts, sigmoid

from .conftest import WORDS

words = st.sampled_from([*WORDS, "unheardof", "42"])
texts = (
    st.lists(words, min_size=1, max_size=90)
    .map(" ".join)
    .filter(lambda t: set(t.split()) & set(WORDS))
)


def same(one: float, other: float) -> bool:
    """Within 1e-6; a text without a word has no score, whatever is beside it."""
    return bool(np.isclose(one, other, rtol=0, atol=1e-6, equal_nan=True))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=texts, others=st.lists(texts, max_size=40), place=st.integers(0, 40))
def test_a_score_is_a_function_of_the_text(model, text, others, place):
    """Contract 1: alone, in any batch, behind any padding, within 1e-6."""
    alone = score_texts(model, [text]).probability[0]
    batch = [*others[:place], text, *others[place:]]
    together = score_texts(model, batch).probability[min(place, len(others))]
    assert same(alone, together)


@settings(deadline=None, max_examples=20)
@given(text=texts, length=st.integers(1, 60))
def test_padding_does_not_move_a_score(model, text, length):
    long = " ".join(["boring"] * length)
    alone = score_texts(model, [text]).probability[0]
    padded = score_texts(model, [long, text]).probability[1]
    assert same(alone, padded)


def test_scores_differ_between_texts(model):
    scores = score_texts(model, ["good film", "bad film", "a very dull plot !"]).probability
    assert len(set(scores.round(4))) == 3


def test_what_lies_behind_the_limit_does_not_count(model):
    start = " ".join(["good"] * model.max_tokens)
    first, second = score_texts(model, [start, f"{start} awful awful"]).probability
    assert abs(first - second) <= 1e-6


def test_a_text_without_a_known_word_is_refused_with_a_reason(model):
    scores = score_texts(model, ["zxcv qwer", "...", "", "!", "good"])
    assert scores.reason == (NO_KNOWN_WORD, NO_WORD, NO_WORD, NO_WORD, None)
    assert np.isnan(scores.probability[:4]).all()
    assert 0 <= scores.probability[4] <= 1


def test_shares_and_counts(model):
    scores = score_texts(model, ["good unheardof film unheardof"])
    assert scores.tokens.tolist() == [4]
    assert scores.known.tolist() == [0.5]


def test_no_texts_no_scores(model):
    assert len(score_texts(model, []).probability) == 0


@pytest.mark.parametrize("x", [-1e4, -100.0, 0.0, 100.0, 1e4])
def test_sigmoid_does_not_overflow(x):
    with np.errstate(over="raise"):
        assert sigmoid(np.array([x], dtype=np.float32))[0] == pytest.approx(
            1 / (1 + np.exp(-min(max(x, -700), 700)))
        )
