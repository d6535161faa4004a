"""Files and folders from hosts to here: a tar stream, unpacked aside and then renamed."""

import errno
import posixpath
import shlex
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from sparkbundle.errors import PREFLIGHT, InterruptedRunError, PreflightError, SparkbundleError
from sparkbundle.files import remove
from sparkbundle.hosts import Hosts, as_root
from sparkbundle.inventory import Host
from sparkbundle.output import warn
from sparkbundle.sessions import BLOCK, Sessions, draining, exit_status
from sparkbundle.transfer import Moved, Target, Tell

ROOT = "root"
_NOT_THERE = 93
# A link that is named is followed; links inside a folder come as links.
_PACK = f"""
path=$1
[ -L "$path" ] && path=$(readlink -f -- "$path")
if ! [ -e "$path" ]; then echo 'no such file or folder there' >&2; exit {_NOT_THERE}; fi
cd -- "$(dirname -- "$path")" || exit 1
exec tar -c -f - -- "$(basename -- "$path")"
"""
_CHANGED = "file changed as we read it"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is fetched from a host: `user` reads it ("" is the user of the connection)."""

    path: str
    user: str = ""

    @property
    def name(self) -> str:
        """The name of the copy, where the user gave none."""
        return posixpath.basename(self.path)


def source(path: str, *, user: str = "") -> Source:
    """What a path on a host means; a path that is not absolute begins in the user's home.

    Raises:
        PreflightError: it names no file or folder that can be copied.
    """
    plain = posixpath.normpath(path.removeprefix("~/") or ".")
    if posixpath.basename(plain) in {"", ".", "..", "~"}:
        raise PreflightError(
            f"{path!r} does not name a file or a folder in a folder",
            todo="write its name: /var/log/syslog, project/model",
        )
    return Source(path=plain, user=user)


def local_place(to: Target, name: str) -> Path:
    """The path of the copy of something named `name`."""
    return Path(to.folder).expanduser() / (to.name or name)


def require_free(place: Path, *, force: bool) -> None:
    """Check that a copy may be put at `place`.

    Raises:
        PreflightError: something is there and `force` is not set, or it holds this very
            directory or the user's home.
    """
    if not (place.exists() or place.is_symlink()):
        return
    if not force:
        inside = f", {place}/ puts the copy inside" if place.is_dir() else ""
        raise PreflightError(
            "exists already", where=str(place), todo=f"--force replaces it{inside}"
        )
    real = place.resolve()
    if any(one.is_relative_to(real) for one in (Path.cwd(), Path.home().resolve())):
        raise PreflightError("is not replaced: you are or live in it", where=str(place))


def pull(
    hosts: Hosts,
    what: Source,
    *,
    places: dict[str, Path],
    chosen: Sequence[Host],
    force: bool,
    tell: Tell,
) -> dict[str, Moved | SparkbundleError]:
    """Fetch a file or folder from hosts, at once, each to its place; what it came to, by host.

    At a place there is everything at the end, or what was there before. Times are kept; what
    others could write, they cannot any more.

    Raises:
        InterruptedRunError: Ctrl-C; what was not whole was removed.
    """
    sessions = Sessions(hosts)

    def work(host: Host) -> Moved:
        return _pull(sessions, host, what, place=places[host.name], force=force, tell=tell)

    try:
        return sessions.each(work, chosen, grace=0)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; what was not whole was removed", todo="run the same command again"
        ) from None


def _pull(
    sessions: Sessions, host: Host, what: Source, *, place: Path, force: bool, tell: Tell
) -> Moved:
    require_free(place, force=force)
    began = time.monotonic()
    command = shlex.join(["sh", "-c", _PACK, "pull", what.path])
    if what.user:
        become = [] if what.user == ROOT else ["runuser", "-u", what.user, "--"]
        command = as_root(f"{shlex.join(become)} {command}")
    said = bytearray()
    with (
        whole(place, host=host.name) as aside,
        sessions.session(host, command) as channel,
    ):
        stream = _Stream(channel, lambda count: tell(host.name, count))
        with draining(channel, said.extend):
            unreadable: tarfile.TarError | None = None
            try:
                _unpack(stream, aside)
            except tarfile.FilterError:
                raise
            except OSError as error:
                # Said here: outside of the block it would look like a lost host.
                raise _cannot_write(place, error) from error
            except tarfile.TarError as error:
                unreadable = error
            while stream.read(BLOCK):
                pass
            code = exit_status(channel)
        words = said.decode(errors="replace")
        if code == 1 and _only_changed(words):
            warn(
                f"{host.name}: {_CHANGED} there: the copy may be neither its old nor its new state"
            )
        elif code:
            raise _failure(host, what, code, words)
        elif unreadable is not None:
            raise SparkbundleError(f"sent no tar stream: {unreadable}", where=host.name)
    return count(place, seconds=time.monotonic() - began)


class _Stream:
    """The output of a session as a file to read from."""

    def __init__(self, channel: paramiko.Channel, tell: Callable[[int], None]) -> None:
        self._channel = channel
        self._tell = tell

    def read(self, number: int) -> bytes:
        block = self._channel.recv(number)
        self._tell(len(block))
        return block


def _unpack(stream: _Stream, folder: Path) -> None:
    with tarfile.open(
        fileobj=stream,  # type: ignore[call-overload]
        mode="r|",
        bufsize=BLOCK,
    ) as tar:
        # "data" lets nothing out of the folder: no /path, no .., no link that leads out.
        tar.extractall(folder, filter="data")


@contextmanager
def whole(place: Path, *, host: str) -> Iterator[Path]:
    """A folder to put one thing in; when the block ends well it is moved to `place`.

    What was at `place` stays until then, and is removed after.

    Raises:
        SparkbundleError: this machine refuses to write it, or the tar stream is not safe.
    """
    aside: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".sparkbundle-", dir=place.parent))
        new, old = aside / "new", aside / "old"
        new.mkdir()
        yield new
        made = list(new.iterdir())
        if len(made) != 1:
            raise SparkbundleError(f"sent {len(made)} files or folders instead of one", where=host)
        if place.exists() or place.is_symlink():
            place.rename(old)
        try:
            made[0].rename(place)
        except OSError:
            if old.exists() or old.is_symlink():
                old.rename(place)
            raise
    except tarfile.FilterError as error:
        raise SparkbundleError(
            f"was not taken from {host}: {error}",
            where=str(place),
            todo="pull what is beside it: nothing that leads out of the copy is written here",
        ) from error
    except OSError as error:
        raise _cannot_write(place, error) from error
    finally:
        if aside is not None:
            remove(aside)


def _cannot_write(place: Path, error: OSError) -> SparkbundleError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        free = shutil.disk_usage(place.parent).free // (1 << 20)
        return SparkbundleError(
            f"the disk is full here ({free} MiB free)",
            where=str(place),
            todo="make room, or name another place; nothing was left of the copy",
        )
    return PreflightError(f"cannot be written: {error.strerror or error}", where=str(place))


def count(place: Path, *, seconds: float) -> Moved:
    """What lies at `place` now."""
    found = [place, *place.rglob("*")] if place.is_dir() and not place.is_symlink() else [place]
    sizes = [path.lstat().st_size for path in found if path.is_file() and not path.is_symlink()]
    return Moved(paths=(str(place),), files=len(sizes), bytes=sum(sizes), seconds=seconds)


def _only_changed(said: str) -> bool:
    lines = [line for line in said.splitlines() if line.strip()]
    return bool(lines) and all(_CHANGED in line for line in lines)


def _failure(host: Host, what: Source, code: int, said: str) -> SparkbundleError:
    lines = [line for line in said.splitlines() if line.strip()]
    why = next((line for line in lines if "Exiting with failure" not in line), f"exit code {code}")
    where = f"{host.name}:{what.path}"
    if any(line.startswith("sudo:") for line in lines):
        todo = "let this user use sudo without a password there"
    elif what.user:
        todo = "look: sparkbundle run --on HOST --sudo ls -l FOLDER"
    else:
        todo = "--sudo reads as root what this user may not see"
    code = PREFLIGHT if code == _NOT_THERE else 1
    return SparkbundleError(why, where=where, todo=todo, code=code)
