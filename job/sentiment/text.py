"""From a review's text to tokens: one function, used everywhere a text is read."""

import hashlib
import html
import re
import unicodedata
from typing import Final

TOKENIZER: Final = "sentiment-1"
"""The version of `tokens`. A model and a word table name the one they were made with."""

_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,80}>")
# Negation and clitics are words of their own, as in the Penn Treebank and GloVe:
# "don't" is "do" + "n't", "it's" is "it" + "'s". Of punctuation only ! and ? speak.
# Most words have no apostrophe: the first way takes them whole, which saves a fifth of the time.
# Leave it out, and the tokens are the same. Nothing here is possessive (`\w++`): Python before
# 3.11.5, as Debian 12 has it, finds other tokens then (CPython issue 106052).
_TOKEN = re.compile(
    r"\w+(?![\w'])(?:-\w+)*|\w+?(?=n't\b)|n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?:-\w+)*|[!?]"
)
_ASCII_TOKEN = re.compile(_TOKEN.pattern, re.ASCII)
"""The same of text that is ASCII, where classes of characters are looked up twice as fast."""
_WORD = re.compile(r"\w")


def tokens(text: str, *, limit: int | None = None) -> list[str]:
    """Split a text into lower-case tokens, at most `limit` of them.

    HTML tags and entities are removed, characters are brought to NFKC form.
    The result depends on the text alone.
    """
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    pattern = _ASCII_TOKEN
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
        pattern = _TOKEN
    found = pattern.findall(text.lower())
    return found if limit is None else found[:limit]


def has_word(text: str) -> bool:
    """Whether a text holds a letter or a digit: without one there is nothing to score."""
    plain = _TAG.sub(" ", text)
    return _WORD.search(html.unescape(plain) if "&" in plain else plain) is not None


def text_id(text: str) -> str:
    """A review's id: 16 hexadecimal digits of its text's sha256, so the same text has the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
