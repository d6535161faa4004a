"""From what a source calls a label to praise (1) and pan (0)."""

from dataclasses import dataclass

from sentiment.errors import InvalidInputError
from sentiment.sources.model import PAN, PRAISE

_PRAISE = frozenset(("1", "1.0", "pos", "positive", "true", "praise", "good"))
_PAN = frozenset(("0", "0.0", "-1", "-1.0", "neg", "negative", "false", "pan", "bad"))
_LOWEST_PRAISE = 7  # of ten stars, as in Stanford's aclImdb
_HIGHEST_PAN = 4
_TEN = 10


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Why a value gives no label."""

    reason: str


def label_of(value: str) -> int | Unlabelled:
    """Praise or pan for a label's value, in any case of letters.

    Understood are 0/1, -1/1, neg/pos, negative/positive, false/true, pan/praise, bad/good.
    """
    word = value.strip().casefold()
    if word in _PRAISE:
        return PRAISE
    if word in _PAN:
        return PAN
    return Unlabelled(f"unknown label: {value.strip()[:40]!r}" if word else "no label")


def stars_of_ten(value: str, *, stars_of: int, where: str) -> int | None:
    """A rating ("8", "3.5", "8/10") on the scale of ten; None if it is no rating.

    Raises:
        InvalidInputError: it is above the top of the scale, which was guessed wrong then.
    """
    number, _, scale = value.strip().partition("/")
    try:
        stars = float(number)
        top = float(scale) if scale else float(stars_of)
    except ValueError:
        return None
    if not scale and stars_of < stars <= _TEN:
        raise InvalidInputError(
            f"{stars:g} stars, where the rows before looked like a scale of {stars_of}",
            where=where,
            todo="say the scale: --stars-of 10",
        )
    if not (0 <= stars <= top and top > 0):
        return None
    return int(stars * _TEN / top + 0.5)


def label_of_stars(stars: int) -> int | Unlabelled:
    """Praise from 7 of ten stars, pan up to 4; between them there is no label."""
    if stars >= _LOWEST_PRAISE:
        return PRAISE
    if stars <= _HIGHEST_PAN:
        return PAN
    return Unlabelled(f"neutral: {stars} of 10 stars")
