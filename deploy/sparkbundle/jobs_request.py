"""What the user asks `submit` for: the words of the command line, and the files that go along.

A word that begins with `@`, or an option's value that does (`--x=@path`), names a local file or
folder. It is sent into the job's folder, and the word becomes its path there. `@@x` is the text @x.
"""

import getpass
import json
import os
import re
import socket
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkbundle.errors import PreflightError
from sparkbundle.gpu_request import GpuRequest
from sparkbundle.inventory_keys import parse_setting

SENTIMENT = "sentiment"
_FORMAT = 1
_LIBRARIES = (".zip", ".whl", ".py", ".egg")
_OPTION = re.compile(r"(-[^=@]*=)(@.*)", re.DOTALL)
# Spark takes the paths of its own lists for URIs, and a comma for the end of one.
_PLAIN = re.compile(r"[\w.+-]+")
_BLOCK = 1 << 20

Word = str | dict[str, str]


@dataclass(frozen=True)
class Shipped:
    """A file or folder that is sent along, and its name below the job's `files`."""

    path: Path
    name: str


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What `submit` was told: the application, its words, and what Spark is to be told."""

    app: str
    words: tuple[str, ...] = ()
    py_files: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    conf: tuple[str, ...] = ()
    memory_mib: int | None = None
    gpus: GpuRequest | None = None


@dataclass(frozen=True)
class JobRequest:
    """A checked request: the JSON that the agent reads, and what is sent behind it.

    `gpus`: what it asks for; the cluster that it goes to makes Spark's settings of it.
    """

    value: Mapping[str, Any]
    shipped: tuple[Shipped, ...] = field(default=())
    gpus: GpuRequest | None = None

    def stream(self) -> Iterator[bytes]:
        """One line of JSON, then a tar stream.

        Raises:
            PreflightError: a file has changed while it was read.
        """
        yield json.dumps(self.value).encode() + b"\n"
        for path, name in self.entries():
            yield from _member(path, name)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def entries(self) -> Iterator[tuple[Path, str]]:
        """All files and folders that are sent, folders before what is in them."""
        for one in self.shipped:
            yield from _entries(one.path, one.name)


def read_request(options: JobOptions) -> JobRequest:
    """Check what the user asks for, and gather what is to be sent.

    Raises:
        PreflightError: a file is missing or cannot be sent, or an option has no effect.
    """
    shipping = _Shipping()
    value: dict[str, Any] = {"format": _FORMAT, "app": options.app}
    if options.app == SENTIMENT:
        for option in ("py_files", "files", "conf"):
            if getattr(options, option):
                raise PreflightError(
                    f"--{option.replace('_', '-')} is for a .py file: the app {SENTIMENT!r} "
                    "has options of its own",
                    todo=f"sparkbundle submit {SENTIMENT} --help",
                )
        first = next(iter(options.words), "")
        label = first if re.fullmatch(r"[a-z]+", first) else SENTIMENT
        value |= {"kind": SENTIMENT, "label": label}
    else:
        path = _application(options.app)
        value |= {
            "kind": "python",
            "label": path.stem,
            "app": path.name,
            "main": shipping.add(path, plain=True),
            "py_files": [shipping.add(_library(one), plain=True) for one in options.py_files],
            "files": [shipping.add(one, plain=True) for one in options.files],
            "conf": dict(map(_setting, options.conf)),
        }
    value["arguments"] = [_word(word, shipping) for word in options.words]
    value["memory_mib"] = options.memory_mib
    value["user"] = f"{getpass.getuser()}@{socket.gethostname()}"
    request = JobRequest(value, tuple(shipping.found))
    sizes = [_size(path) for path, _ in request.entries()]
    value |= {"members": len(sizes), "bytes": sum(sizes)}
    return JobRequest(value, request.shipped, options.gpus)


class _Shipping:
    """Gathers what is sent; the same path twice is sent once."""

    def __init__(self) -> None:
        self.found: list[Shipped] = []

    def add(self, path: Path, *, plain: bool = False) -> str:
        """The name of a path below the job's `files`."""
        if not path.exists():
            raise PreflightError("there is no such file or folder", where=str(path))
        real = path.absolute()
        # A folder of its own for each: two of the same name do not meet.
        name = real.name or "root"
        if plain and name.endswith(".whl"):
            name = f"{name[:-4]}.zip"  # Spark puts .zip on the path of Python, and no .whl
        if plain and not _PLAIN.fullmatch(name):
            raise PreflightError(
                "Spark misreads a name with other characters than letters, digits, . + - and _",
                where=str(path),
                todo="give the file another name",
            )
        for one in self.found:
            if one.path == real and one.name.endswith(f"/{name}"):
                return one.name
        self.found.append(Shipped(real, f"{len(self.found)}/{name}"))
        return self.found[-1].name


def _word(word: str, shipping: _Shipping) -> Word:
    before, value = "", word
    if match := _OPTION.fullmatch(word):
        before, value = match[1], match[2]
    if not value.startswith("@"):
        return word
    if value.startswith("@@"):
        return before + value[1:]
    if value == "@":
        raise PreflightError("@ names no file", where=word, todo="for the text itself: @@")
    path = Path(value[1:]).expanduser()
    if not path.exists():
        raise PreflightError(
            f"there is no file or folder {str(path)!r}",
            where=word,
            todo=f"for the text itself: {before}@{value}",
        )
    return {"before": before, "file": shipping.add(path)}


def _application(app: str) -> Path:
    path = Path(app).expanduser()
    if path.suffix in {".zip", ".whl"}:
        raise PreflightError(
            "is a library, not an application",
            where=app,
            todo=f"sparkbundle submit --py-files {app} APP.py",
        )
    if path.suffix != ".py":
        raise PreflightError(
            f"{app!r} is neither {SENTIMENT!r} nor a .py file",
            todo="sparkbundle submit sentiment train …, or: sparkbundle submit APP.py …",
        )
    if not path.is_file():
        raise PreflightError("there is no such file", where=app)
    return path


def _library(path: Path) -> Path:
    if path.suffix not in _LIBRARIES:
        raise PreflightError(f"--py-files takes {', '.join(_LIBRARIES)}", where=str(path))
    return path


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and re.fullmatch(r"spark\.[\w.-]+", key.strip())):
        raise PreflightError(
            f"--conf {text!r} is not spark.NAME=VALUE", todo="--conf spark.cores.max=4"
        )
    try:
        return key.strip(), parse_setting(key.strip(), value)
    except ValueError as error:
        raise PreflightError(
            f"{key.strip()} {error}", where="--conf", todo="leave it out"
        ) from None


def _entries(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    """A file or folder, and all that is in it. Links to files are followed."""
    if not path.is_dir():
        yield path, name
        return
    for folder, folders, files in os.walk(path, onerror=_unreadable):
        here = Path(folder)
        within = here.relative_to(path)
        yield here, str(Path(name) / within)
        for one in sorted(folders):
            if (here / one).is_symlink():
                raise PreflightError(
                    "is a link to a folder: links are not followed",
                    where=str(here / one),
                    todo="put the folder itself there, or name it as an argument of its own: @path",
                )
        folders.sort()
        for one in sorted(files):
            yield here / one, str(Path(name) / within / one)


def _unreadable(error: OSError) -> None:
    raise PreflightError(f"cannot be read: {error.strerror}", where=str(error.filename)) from error


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError as error:
        raise PreflightError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if stat.S_ISDIR(found.st_mode):
        return 0
    if not stat.S_ISREG(found.st_mode):
        raise PreflightError("is no file and no folder: it cannot be sent", where=str(path))
    if not os.access(path, os.R_OK):
        raise PreflightError("cannot be read: Permission denied", where=str(path))
    return found.st_size


def _member(path: Path, name: str) -> Iterable[bytes]:
    info = tarfile.TarInfo(name)
    found = path.stat()
    info.mtime, info.mode = int(found.st_mtime), stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
        yield info.tobuf()
        return
    info.size = left = found.st_size
    yield info.tobuf()
    with path.open("rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            yield block
            left -= len(block)
    if left:
        raise PreflightError("has become shorter while it was sent", where=str(path))
    yield bytes(-info.size % tarfile.BLOCKSIZE)
