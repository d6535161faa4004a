"""Folders with one review a file, as Stanford's aclImdb: {train,test}/{pos,neg}/ID_STARS.txt.

A split folder alone ({pos,neg}/*.txt) is read as well, and files of other names:
then the folder tells the label and there are no stars.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentiment.sources.model import PAN, PRAISE, FilePart, SourceOptions

_LABELS = {"neg": PAN, "pos": PRAISE}
_UNLABELLED = "unsup"
_NAME = re.compile(r"(\d+)_(\d{1,2})\.txt")
_FILM = re.compile(r"tt\d+")
_TEN = 10


@dataclass(frozen=True)
class Folder:
    """A folder of reviews with one label."""

    path: Path
    split: str | None
    label: int | None


def review_folders(root: Path) -> list[Folder]:
    """The folders of an aclImdb-like tree in order; empty if it is none."""
    below = [(root, None), (root / "test", "test"), (root / "train", "train")]
    return [
        Folder(path=parent / name, split=split, label=_LABELS.get(name))
        for parent, split in below
        if any((parent / name).is_dir() for name in _LABELS)
        for name in ("neg", "pos", _UNLABELLED)
        if (parent / name).is_dir()
    ]


def imdb_parts(
    root: Path, folders: Sequence[Folder], options: SourceOptions, notes: list[str]
) -> Iterator[FilePart]:
    """One part a file, by folder and then by number; says in `notes` what is left out."""
    for folder in folders:
        entries, others = _listed(folder.path)
        name = folder.path.relative_to(root).as_posix()
        if others:
            notes.append(f"left out: {others:,} files in {name} that are no .txt")
        if folder.label is None and not options.unlabelled:
            notes.append(f"left out: {len(entries):,} reviews without a label in {name}")
            continue
        films = _films(folder)
        for entry in entries:
            yield _part(entry, f"{name}/{entry.name}", folder, films)


def _listed(folder: Path) -> tuple[list[os.DirEntry[str]], int]:
    with os.scandir(folder) as found:
        files = [entry for entry in found if not entry.name.startswith(".") and entry.is_file()]
    texts = [entry for entry in files if entry.name.endswith(".txt")]
    return sorted(texts, key=_by_number), len(files) - len(texts)


def _by_number(entry: os.DirEntry[str]) -> tuple[int, str]:
    """Reviews of one film have neighbouring numbers: 9 comes before 10."""
    match = _NAME.fullmatch(entry.name)
    return (int(match[1]) if match else -1, entry.name)


def _films(folder: Folder) -> list[str | None]:
    """The film of each number: line N of urls_pos.txt names the film of N_STARS.txt."""
    urls = folder.path.parent / f"urls_{folder.path.name}.txt"
    try:
        lines = urls.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = (_FILM.search(line) for line in lines)
    return [match[0] if match else None for match in found]


def _part(
    entry: os.DirEntry[str], name: str, folder: Folder, films: Sequence[str | None]
) -> FilePart:
    match = _NAME.fullmatch(entry.name)
    number = int(match[1]) if match else -1
    stars = int(match[2]) if match and folder.label is not None else None
    return FilePart(
        path=entry.path,
        name=printable(name),
        kind="whole",
        size=entry.stat().st_size,
        first_row=0,
        label=folder.label,
        stars=stars if stars is not None and 1 <= stars <= _TEN else None,
        film=films[number] if 0 <= number < len(films) else None,
        split=folder.split,
    )


def printable(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
