"""Which column is the text, which the label: by name, by the user's word, by what is in it."""

from collections.abc import Sequence
from typing import Final

from sentiment.errors import InvalidInputError
from sentiment.sources.labels import Unlabelled, label_of
from sentiment.sources.model import Columns, SourceOptions

TEXT_NAMES: Final = (
    "text", "review", "reviews", "review_text", "reviewtext", "comment", "sentence", "phrase",
    "content", "body",
)  # fmt: skip
LABEL_NAMES: Final = ("label", "labels", "sentiment", "class", "polarity", "target")
STARS_NAMES: Final = ("stars", "star", "rating", "star_rating", "overall")
FILM_NAMES: Final = ("film", "film_id", "movie", "movie_id", "imdb_id")
SOURCE_NAMES: Final = ("source",)
_FIVE = 5.0
_TEN = 10
Rows = Sequence[Sequence[str]]


def columns_by_name(
    names: Sequence[str], rows: Rows, options: SourceOptions, *, where: str
) -> Columns:
    """The columns of a file whose columns have names. `rows` are a sample of its values.

    Raises:
        InvalidInputError: no column is the text, or one that the options name is missing.
    """
    text = _named(names, options.text_column, where=where) or _first(names, TEXT_NAMES)
    if text is None:
        raise InvalidInputError(
            f"no text column found; its columns: {_listed(names)}",
            where=where,
            todo="name it: --text-column NAME",
        )
    for column, _ in options.only:
        _named(names, column, where=where)
    time = _named(names, options.time_column, where=where)
    label, stars = _label_columns(names, text, options, where=where)
    film, source = _first(names, FILM_NAMES), _first(names, SOURCE_NAMES)
    return Columns(
        names=tuple(names),
        text=text,
        label=label,
        stars=stars,
        film=film if film != text else None,
        source=source if source != text else None,
        time=time,
        stars_of=options.stars_of or _scale(names, rows, stars),
    )


def columns_without_header(
    first: Sequence[str], rows: Rows, options: SourceOptions, *, where: str
) -> Columns | None:
    """The columns of a file without names for them; None if its first line must be a header.

    They are called "1", "2" …; with one or two the text is found by what is in them.
    """
    names = [str(number + 1) for number in range(len(first))]
    if options.text_column in names and options.text_column not in first:
        return columns_by_name(names, [first, *rows], options, where=where)
    given = {
        *(options.text_column, options.label_column, options.time_column),
        *(name for name, _ in options.only),
    }
    if _first(first, TEXT_NAMES) is not None or given & set(first):
        return None
    if len(first) == 1 and options.text_column is None:
        return Columns(names=("1",), text="1")
    label = _label_index(rows)
    if len(first) == 2 and label is not None and given == {None}:  # noqa: PLR2004
        is_header = isinstance(label_of(first[label]), Unlabelled)
        called = list(first) if is_header else names
        return Columns(names=tuple(called), text=called[1 - label], label=called[label])
    return None


def _label_columns(
    names: Sequence[str], text: str, options: SourceOptions, *, where: str
) -> tuple[str | None, str | None]:
    """The label's column and the stars' column."""
    given = _named(names, options.label_column, where=where)
    stars = _first(names, STARS_NAMES)
    if given is not None and _plain(given) in STARS_NAMES:
        return None, given
    label = given or _first(names, LABEL_NAMES)
    return (label if label != text else None), (stars if stars != text else None)


def _scale(names: Sequence[str], rows: Rows, stars: str | None) -> int:
    """5 if the sample shows no rating above it."""
    if stars is None:
        return _TEN
    index = list(names).index(stars)
    highest = 0.0
    for row in rows:
        try:
            highest = max(highest, float(row[index]))
        except (ValueError, IndexError):
            continue
    return int(_FIVE) if 0 < highest <= _FIVE else _TEN


def _label_index(rows: Rows) -> int | None:
    """Which of two columns holds labels only, if just one does."""
    pairs = [row for row in rows if len(row) == 2]  # noqa: PLR2004
    if not pairs:
        return None
    found = [i for i in (0, 1) if all(isinstance(label_of(row[i]), int) for row in pairs)]
    return found[0] if len(found) == 1 else None


def _named(names: Sequence[str], name: str | None, *, where: str) -> str | None:
    """The column that the user named, in any case of letters."""
    if name is None:
        return None
    if name in names:
        return name
    for column in names:
        if _plain(column) == _plain(name):
            return column
    raise InvalidInputError(
        f"has no column {name!r}; its columns: {_listed(names)}",
        where=where,
        todo="name one of them",
    )


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    by_plain = {_plain(name): name for name in reversed(names)}
    return next((by_plain[name] for name in known if name in by_plain), None)


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown  # noqa: PLR2004
