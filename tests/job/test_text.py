import json
import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sentiment.text
from sentiment.text import has_word, tokens

_RULE = re.compile(r"\w+?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?:-\w+)*|[!?]")
"""What a token is, without the shortcuts of `tokens`."""


def test_negation_and_clitics_are_words():
    assert tokens("I don't like it; it's BAD.") == [
        "i",
        "do",
        "n't",
        "like",
        "it",
        "it",
        "'s",
        "bad",
    ]


def test_markup_and_entities_are_no_words():
    assert tokens("good<br /><br />bad &amp; ugly") == ["good", "bad", "ugly"]


def test_a_smaller_than_sign_is_not_a_tag():
    assert tokens("3 < 4 and 5 > 2") == ["3", "4", "and", "5", "2"]


def test_curly_apostrophes_are_apostrophes():
    assert tokens("don’t") == tokens("don't")


def test_marks_that_speak_are_kept():
    assert tokens("What?! No...") == ["what", "?", "!", "no"]


def test_limit_cuts_to_the_first_tokens():
    assert tokens("one two three", limit=2) == ["one", "two"]


def test_has_word():
    assert has_word("7/10")
    assert has_word("très bien")
    assert not has_word("… !!! 😀 —")
    assert not has_word("<br />")
    assert not has_word("&nbsp;&hellip;")


@given(st.text())
def test_any_text_gives_lower_case_tokens_without_white_space(text):
    for token in tokens(text):
        assert token
        assert not any(c.isspace() for c in token)
        assert token == token.lower()


@given(st.text(), st.integers(0, 5))
def test_a_limit_takes_the_beginning(text, limit):
    assert tokens(text, limit=limit) == tokens(text)[:limit]


_PIECES = [*"n t N ' - ! . _ é ß a s re ve n't 't 's don can 7 — 映画".split(), " "]


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))
def test_the_shortcut_for_words_without_apostrophe_changes_no_token(text):
    assert tokens(text) == _RULE.findall(text.lower())


def test_every_python_of_a_cluster_finds_the_same_tokens():
    """A score is a function of the text: on a host with its own Python, too."""
    host = Path("/usr/bin/python3")
    version = "import sys; sys.exit(sys.version_info < (3, 11))"
    if not host.exists() or subprocess.run([host, "-c", version], check=False).returncode:
        pytest.skip(f"{host} is no Python that a host may have")
    chance = random.Random(1)
    texts = ["".join(chance.choices(_PIECES, k=chance.randrange(30))) for _ in range(5000)]
    program = (
        "import json, sys; from sentiment.text import tokens; "
        "json.dump([tokens(text) for text in json.load(sys.stdin)], sys.stdout)"
    )
    done = subprocess.run(
        [host, "-c", program],
        cwd=Path(sentiment.text.__file__).parents[1],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [tokens(text) for text in texts]
