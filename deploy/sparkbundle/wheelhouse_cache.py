"""The wheelhouse's cache: bundles of wheels, each whole or not there.

$XDG_CACHE_HOME/sparkbundle/wheelhouse, else ~/.cache/sparkbundle/wheelhouse
  bundles/NAME-KEY.json     what a bundle holds; KEY names what it was made from
          NAME-DIGEST.tar   the wheels; there is no second copy of them
          NAME-KEY.absent   pip has looked for these wheels, and found none
  requirements/DIGEST.txt   what hosts install from the bundles
  builder/                  the Python environment that builds wheels
  work/                     what the run in progress makes
  lock, pip.log
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparkbundle.errors import PreflightError
from sparkbundle.wheelhouse_pip import ROOM, Say
from sparkbundle.wheelhouse_zip import sha256_of

FORMAT = 1
DIGEST_LENGTH = 16
UNUSED_DAYS = 30


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel in a bundle."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A tar of wheels, to be unpacked on the hosts beside the others.

    It unpacks to `NAME-DIGEST/` with the wheels in it and, last, the empty file `stamp`: where
    that is, the bundle is whole. `digest` is that of the wheels.
    """

    name: str
    digest: str
    path: Path
    size: int
    wheels: tuple[Wheel, ...]

    @property
    def directory(self) -> str:
        """What it unpacks to."""
        return f"{self.name}-{self.digest}"

    @property
    def stamp(self) -> str:
        """The file that is unpacked last."""
        return f".bundle-{self.directory}"


def cache_directory() -> Path:
    """Where the wheelhouse is kept."""
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg else Path.home() / ".cache"
    return base.resolve() / "sparkbundle" / "wheelhouse"


@dataclass
class Cache:
    """The cache, while its lock is held (see `locked_cache`). All methods may raise OSError.

    `work` is a directory of this run's own, once `fresh_work` has made it.
    """

    directory: Path
    say: Say
    work: Path = field(init=False)

    def find(self, name: str, key: str) -> Bundle | None:
        """The bundle that was made from `key`, if it is there and unaltered; else it is removed.

        A tar whose inode, size and times are those that were written down is taken as
        unaltered: the hosts check every wheel again. Of any other tar every byte is checked.
        """
        record = self._record(name, key)
        try:
            value = json.loads(record.read_text(encoding="utf-8"))
            bundle = self._bundle(value)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            self.say(f"the record of the bundle {name} was damaged: making it again")
            record.unlink()
            return None
        try:
            now = _stamp(bundle.path)
            if now != value["seen"] and sha256_of(bundle.path) != value["sha256"]:
                raise _AlteredError
        except (FileNotFoundError, _AlteredError) as error:
            what = "was altered" if isinstance(error, _AlteredError) else "is gone"
            self.say(f"the bundle {name} {what} in the cache: making it again")
            record.unlink()
            bundle.path.unlink(missing_ok=True)
            return None
        if now != value["seen"]:
            self._write(record, {**value, "seen": now})
        os.utime(record)  # in use: not to be removed
        return bundle

    def _bundle(self, value: dict[str, Any]) -> Bundle:
        if value["format"] != FORMAT:
            raise ValueError("of another format")
        return Bundle(
            name=value["name"],
            digest=value["digest"],
            path=self.directory / "bundles" / f"{value['name']}-{value['digest']}.tar",
            size=value["size"],
            wheels=tuple(Wheel(**wheel) for wheel in value["wheels"]),
        )

    def add(self, name: str, key: str, wheels: list[Path]) -> Bundle:
        """Pack wheels into a bundle and remove them: they are in the tar."""
        known = [(Wheel(file=path.name, sha256=sha256_of(path)), path) for path in sorted(wheels)]
        content = "".join(f"{wheel.sha256}  {wheel.file}\n" for wheel, _ in known)
        digest = hashlib.sha256(content.encode()).hexdigest()[:DIGEST_LENGTH]
        path = self.directory / "bundles" / f"{name}-{digest}.tar"
        bundle = Bundle(
            name=name, digest=digest, path=path, size=0, wheels=tuple(wheel for wheel, _ in known)
        )
        aside = self.work / path.name
        _pack(aside, bundle, [path for _, path in known])
        path.parent.mkdir(exist_ok=True)
        whole = sha256_of(aside)
        aside.rename(path)
        value = {
            "format": FORMAT,
            "name": name,
            "digest": digest,
            "size": path.stat().st_size,
            "sha256": whole,
            "seen": _stamp(path),
            "wheels": [asdict(wheel) for wheel in bundle.wheels],
        }
        self._write(self._record(name, key), value)
        return self._bundle(value)

    def requirements(self, digest: str, text: str) -> Path:
        """The file for the hosts, written if it is not there as it should be."""
        path = self.directory / "requirements" / f"{digest}.txt"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            _write_aside(path, text)
        os.utime(path)
        return path

    def absent(self, name: str, key: str) -> Path:
        """The file that says: pip has looked for the wheels of `key` and found none."""
        return self._record(name, key).with_suffix(".absent")

    def fresh_work(self) -> None:
        """Make an empty work directory, and remove what runs that were killed have left.

        Its name is a new one: a process of such a run may still write to the old.
        """
        self.clear_work()
        (self.directory / "work").mkdir(exist_ok=True)
        self.work = Path(tempfile.mkdtemp(dir=self.directory / "work"))

    def clear_work(self) -> None:
        """Remove all work directories."""
        shutil.rmtree(self.directory / "work", ignore_errors=True)

    def remove_unused(self) -> None:
        """Remove what no run has used for 30 days, and tars that no record names."""
        limit = time.time() - UNUSED_DAYS * 24 * 3600
        named = set()
        for record in self.directory.glob("bundles/*.json"):
            if record.stat().st_mtime < limit:
                record.unlink()
                continue
            try:
                value = json.loads(record.read_text(encoding="utf-8"))
                named.add(f"{value['name']}-{value['digest']}.tar")
            except (ValueError, KeyError, TypeError):
                record.unlink()
        for tar in self.directory.glob("bundles/*.tar"):
            if tar.name not in named:
                tar.unlink()
        small = [*self.directory.glob("requirements/*.txt"), *self.directory.glob("*/*.absent")]
        for path in small:
            if path.stat().st_mtime < limit:
                path.unlink()

    def _record(self, name: str, key: str) -> Path:
        return self.directory / "bundles" / f"{name}-{key}.json"

    def _write(self, record: Path, value: dict[str, Any]) -> None:
        _write_aside(record, json.dumps(value, indent=2) + "\n")


class _AlteredError(Exception):
    pass


def _stamp(path: Path) -> list[int]:
    # The time of change too: unlike that of modification it cannot be set back.
    now = path.stat()
    return [now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns]


def _write_aside(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def _pack(path: Path, bundle: Bundle, wheels: list[Path]) -> None:
    """Write the tar; the same wheels give the same bytes."""
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
            top = _member(bundle.directory, mode=0o755)
            top.type = tarfile.DIRTYPE
            tar.addfile(top)
            for wheel in wheels:
                member = _member(f"{bundle.directory}/{wheel.name}", mode=0o644)
                member.size = wheel.stat().st_size
                with wheel.open("rb") as content:
                    tar.addfile(member, content)
                wheel.unlink()
            tar.addfile(_member(bundle.stamp, mode=0o644))
        file.flush()
        os.fsync(file.fileno())


def _member(name: str, *, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = mode
    member.uname = member.gname = "root"
    return member


@contextmanager
def locked_cache(say: Say) -> Iterator[Cache]:
    """The cache, for this process alone while the block runs; another process is waited for.

    Raises:
        PreflightError: the cache cannot be written, or its disk is full.
    """
    directory = cache_directory()
    try:
        (directory / "bundles").mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("a+", encoding="utf-8") as file:
            _take(file.fileno(), say)
            yield Cache(directory, say)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise PreflightError(
            "the disk is full" if full else f"cannot be written: {error.strerror or error}",
            where=str(error.filename or directory),
            todo=ROOM
            if full
            else "give yourself access there, or name another place: "
            "export XDG_CACHE_HOME=DIRECTORY",
        ) from error


def _take(handle: int, say: Say) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another run of sparkbundle is at the wheels: waiting until it has them")
        fcntl.flock(handle, fcntl.LOCK_EX)


def check_room(directory: Path, *, needed: int) -> None:
    """Check that the disk has room for what is to be made.

    Raises:
        PreflightError: it has not, with both figures.
    """
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise PreflightError(
            f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed to make the wheels",
            where=str(directory),
            todo=ROOM,
        )
