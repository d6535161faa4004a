"""The word tables of this host: one copy of each, in a directory named by its digest.

    STORE/DIGEST/          a table; its files are read-only
    STORE/DIGEST.lock      locked (flock) shared by readers, exclusively by who removes the table;
                           its content is the seal, its time of change the table's last use
    STORE/.DIGEST.part/    a table that is on its way here
    STORE/.lock            locked by who gives a table its name

`seal` knows the locks and the seal, `arrival` how a table gets here.
"""

import os
import re
import shutil
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sentiment.errors import InvalidInputError
from sentiment.state import state_directory
from sentiment.vectors.manifest import read_manifest
from sentiment.vectors.seal import exclusive_lock, is_whole, last_use, lock_path, shared_lock
from sentiment.vectors.table import WordTable, open_table

VARIABLE: Final = "SPARKBUNDLE_VECTORS"
"""The store's directory, where it is not `vectors` in the state directory."""
SHIP_IT: Final = "put it on every host: sentiment vectors ship TABLE"

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHORTEST_PREFIX: Final = 6
_STALE_SECONDS: Final = 24 * 3600

State = Literal["whole", "changed"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A table in a store. `used`: when it was opened last, in seconds since 1970."""

    digest: str
    state: State
    bytes: int
    rows: int
    dimensions: int
    dtype: str
    source: str
    used: float

    def as_json(self) -> dict[str, Any]:
        """The table as a JSON object."""
        return asdict(self)


def store_directory() -> Path:
    """The store of this host, for the processes that have this environment."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else state_directory() / "vectors"


def stored_tables(store: Path) -> list[Stored]:
    """The tables of a store, the one that was used last first. Nothing but manifests is read."""
    found = []
    for path in store.glob("*") if store.is_dir() else ():
        if not _DIGEST.fullmatch(path.name) or not path.is_dir():
            continue
        try:
            manifest = read_manifest(path)
        except InvalidInputError:
            continue
        found.append(
            Stored(
                digest=path.name,
                state="whole" if is_whole(store, path.name) else "changed",
                bytes=sum(file.bytes for file in manifest.files.values()),
                rows=manifest.rows,
                dimensions=manifest.dimensions,
                dtype=manifest.dtype,
                source=str(manifest.source.get("name", "")),
                used=last_use(store, path.name),
            )
        )
    return sorted(found, key=lambda one: -one.used)


def open_stored(digest: str, store: Path | None = None, *, verify: bool = False) -> WordTable:
    """The table of this digest in this host's store; it is not removed while it is open.

    With `verify` every file is read, else only those of a table whose seal is broken.

    Raises:
        InvalidInputError: the store does not have it, or it was changed since it came.
    """
    store = store or store_directory()
    path = store / digest
    if not path.is_dir():
        raise InvalidInputError(
            f"this host does not have the word table {digest[:12]}",
            where=f"{this_host()}: {store}",
            todo=SHIP_IT,
        )
    handle = shared_lock(lock_path(store, digest))
    try:
        table = _checked(store, digest, verify=verify)
    except BaseException:
        if handle is not None:
            os.close(handle)
        raise
    if handle is not None:
        with suppress(OSError):
            os.utime(lock_path(store, digest))
        weakref.finalize(table, os.close, handle)
    return table


def _checked(store: Path, digest: str, *, verify: bool) -> WordTable:
    try:
        # A seal that is broken says nothing about the content: a copy that was restored is right.
        table = open_table(store / digest, verify=verify or not is_whole(store, digest))
        if table.digest == digest:
            return table
        what = f"it holds the table {table.digest[:12]}"
    except InvalidInputError as error:
        what = error.what
    raise InvalidInputError(
        f"the word table {digest[:12]} was changed on this host: {what}",
        where=f"{this_host()}: {store / digest}",
        todo=f"{SHIP_IT} (it replaces what was changed)",
    )


def find_table(name: str | Path, store: Path | None = None, *, verify: bool = False) -> WordTable:
    """The table that a user names: a directory, or (the beginning of) the digest of a stored one.

    Raises:
        InvalidInputError: there is none, it is damaged, or several digests begin so.
    """
    path = Path(name)
    store = store or store_directory()
    beginning = str(name)
    if path.exists() or not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST_PREFIX},64}}", beginning):
        return open_table(path, verify=verify)
    found = [one.digest for one in stored_tables(store) if one.digest.startswith(beginning)]
    if len(found) > 1:
        raise InvalidInputError(
            f"{len(found)} word tables of this host begin so: {', '.join(d[:16] for d in found)}",
            where=beginning,
            todo="give more of the digest",
        )
    if not found:
        raise InvalidInputError(
            "there is no such directory, and no word table of this host begins so",
            where=beginning,
            todo="see what is here: sentiment vectors list",
        )
    return open_stored(found[0], store, verify=verify)


def table_on_this_host(digest: str, *, path: Path | None = None) -> WordTable:
    """The table of this digest: the store's, else the one at `path` where that is the same.

    Raises:
        InvalidInputError: this host has neither.
    """
    store = store_directory()
    if not (store / digest).is_dir() and path is not None and path.is_dir():
        with suppress(InvalidInputError):
            table = open_table(path)
            if table.digest == digest:
                return table
    return open_stored(digest, store)


def sweep(store: Path, *, keep: int, spare: str) -> list[str]:
    """Remove old tables; the digests of those that went.

    Kept are the table `spare`, the `keep` - 1 others that were used last, and all that are
    open in some process. What was on its way here and has not moved for a day goes, too.
    """
    gone = []
    others = [one.digest for one in stored_tables(store) if one.digest != spare]
    for digest in others[max(keep - 1, 0) :]:
        with exclusive_lock(lock_path(store, digest), wait=False) as handle:
            if handle is not None:
                remove_table(store / digest)
                lock_path(store, digest).unlink(missing_ok=True)
                gone.append(digest)
    for part in store.glob(".*.part"):
        with suppress(OSError):
            old = time.time() - part.stat().st_mtime > _STALE_SECONDS
            if old and part.name != f".{spare}.part":
                shutil.rmtree(part, ignore_errors=True)
    return gone


def this_host() -> str:
    """The name of this host in messages: the address that Spark knows it by, else its own name."""
    return os.environ.get("SPARK_LOCAL_IP") or os.uname().nodename


def remove_table(table: Path) -> None:
    """Take a table away at once, and its files then."""
    aside = table.with_name(f".{table.name}.gone")
    shutil.rmtree(aside, ignore_errors=True)
    table.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
