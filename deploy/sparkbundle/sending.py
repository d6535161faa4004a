"""Files and folders from here to hosts: a tar stream, unpacked aside and then renamed."""

import os
import posixpath
import secrets
import shlex
import stat
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from sparkbundle.errors import PREFLIGHT, InterruptedRunError, PreflightError, SparkbundleError
from sparkbundle.hosts import Hosts, as_root
from sparkbundle.inventory import Host
from sparkbundle.sessions import BLOCK, Sessions, draining, exit_status
from sparkbundle.transfer import Moved, Target, Tell

_EXISTS, _NO_FOLDER = 91, 92
# $1 folder, $2 "force" or "", $3 the name of the last member, then the names to be put there.
# tar takes a stream that ends between two members for whole: so a member of a name that
# nobody knows comes last, and without it nothing is renamed.
_UNPACK = f"""
folder=$1; force=$2; last=$3; shift 3
mkdir -p -- "$folder" || exit {_NO_FOLDER}
[ -x "$folder" ] || {{ printf '%s: Permission denied\\n' "$folder" >&2; exit {_NO_FOLDER}; }}
cd -- "$folder" || exit {_NO_FOLDER}
there() {{ [ -e "$1" ] || [ -L "$1" ]; }}
for name; do
  if there "$name" && [ -z "$force" ]; then
    printf '%s exists there\\n' "$(pwd -P)/$name" >&2; exit {_EXISTS}
  fi
done
aside=$(mktemp -d ./.sparkbundle-XXXXXXXX) || exit {_NO_FOLDER}
trap 'rm -rf -- "$aside"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir -- "$aside/new" "$aside/old" || exit 1
tar -x -p --no-same-owner -C "$aside/new" -f - || exit 1
[ -e "$aside/new/$last" ] || {{ echo 'the stream was cut off' >&2; exit 1; }}
for name; do
  if there "$name"; then mv -T -- "$name" "$aside/old/$name" || exit 1; fi
  if mv -T -- "$aside/new/$name" "$name"; then
    printf '%s\\n' "$(pwd -P)/$name"
  else
    if there "$aside/old/$name"; then mv -T -- "$aside/old/$name" "$name"; fi
    exit 1
  fi
done
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent: each path with the name it gets there; how much it is."""

    items: tuple[tuple[Path, str], ...]
    folder: str
    files: int
    bytes: int


def load(paths: Sequence[Path], to: Target) -> Load:
    """Look at what is to be sent.

    Raises:
        PreflightError: something is not there, cannot be read, is no file, folder or link, or
            two things would get the same name.
    """
    items = tuple((_real(path), to.name or _name(path)) for path in paths)
    names = [name for _, name in items]
    for name in names:
        if not name or names.count(name) > 1:
            raise PreflightError(
                f"two of the paths would be named {name!r} there" if name else "/ is not sent"
            )
    files = total = 0
    for path, _ in items:
        for found, about in _walk(path):
            if stat.S_ISREG(about.st_mode):
                files, total = files + 1, total + about.st_size
            elif not (stat.S_ISDIR(about.st_mode) or stat.S_ISLNK(about.st_mode)):
                raise PreflightError(
                    "is no file, folder or link: it cannot be sent", where=str(found)
                )
    return Load(items=items, folder=to.folder, files=files, bytes=total)


def _real(path: Path) -> Path:
    # A link that is named is followed; links inside a folder are sent as links.
    try:
        return path.resolve(strict=True)
    except OSError as error:
        raise _unreadable(path, error) from error


def _name(path: Path) -> str:
    name = path.absolute().name
    return _real(path).name if name == ".." else name


def _walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    def fail(error: OSError) -> None:
        raise _unreadable(Path(error.filename or path), error) from error

    yield path, path.lstat()
    if not path.is_dir():
        return
    for folder, folders, files in os.walk(path, onerror=fail):
        for name in folders + files:
            found = Path(folder, name)
            yield found, found.lstat()


def _unreadable(path: Path, error: OSError) -> PreflightError:
    return PreflightError(f"cannot be read: {error.strerror or error}", where=str(path))


def require_replaceable(to: Target) -> None:
    """Check that `--force` does not replace a folder such as /etc.

    Raises:
        PreflightError: it would.
    """
    if to.name is not None and posixpath.normpath(to.folder) in {"/", "//"}:
        raise PreflightError(
            "a folder directly under / is not replaced",
            where=f"/{to.name}",
            todo=f"to put the copy inside, write /{to.name}/",
        )


def push(
    hosts: Hosts, what: Load, *, chosen: Sequence[Host], sudo: bool, force: bool, tell: Tell
) -> dict[str, Moved | SparkbundleError]:
    """Send files and folders to hosts, at once; what it came to, by host.

    On each host everything is there at the end, or nothing. They belong to the user of the
    connection, root with `sudo`; times and permissions are kept.

    Raises:
        InterruptedRunError: Ctrl-C; what was not whole was removed.
    """
    sessions = Sessions(hosts)

    def work(host: Host) -> Moved:
        return _push(sessions, host, what, sudo=sudo, force=force, tell=tell)

    try:
        return sessions.each(work, chosen, grace=5)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; hosts that had not received everything have nothing of it",
            todo="run the same command again",
        ) from None


def _push(
    sessions: Sessions, host: Host, what: Load, *, sudo: bool, force: bool, tell: Tell
) -> Moved:
    began = time.monotonic()
    last = f".sparkbundle-{secrets.token_hex(8)}"
    names = [name for _, name in what.items]
    arguments = [what.folder, "force" if force else "", last, *names]
    command = shlex.join(["sh", "-c", _UNPACK, "push", *arguments])
    said = bytearray()
    with sessions.session(host, as_root(command) if sudo else command) as channel:
        sink = _Sink(channel, lambda count: tell(host.name, count))
        with draining(channel, said.extend):
            try:
                _pack(sink, what, last)
                channel.shutdown_write()
            except _EndedError:
                pass  # the other side has ended before: its exit code says why
            paths = bytearray()
            while block := channel.recv(BLOCK):
                paths += block
            code = exit_status(channel)
    if code:
        raise _failure(host, code, said.decode(errors="replace"), sudo=sudo)
    return Moved(
        paths=tuple(paths.decode(errors="replace").splitlines()),
        files=what.files,
        bytes=what.bytes,
        seconds=time.monotonic() - began,
    )


class _EndedError(Exception):
    """The session takes no more."""


class _Sink:
    """The input of a session as a file to write to."""

    def __init__(self, channel: paramiko.Channel, tell: Callable[[int], None]) -> None:
        self._channel = channel
        self._tell = tell
        self._stopped = False

    def stop(self) -> None:
        """Take what is still written, and send nothing of it: tarfile ends every stream."""
        self._stopped = True

    def write(self, data: bytes) -> int:
        if self._stopped:
            return len(data)
        if self._channel.exit_status_ready():
            raise _EndedError
        try:
            self._channel.sendall(data)
        except OSError as error:
            raise _EndedError from error
        self._tell(len(data))
        return len(data)


def _pack(sink: _Sink, what: Load, last: str) -> None:
    current = Path()
    try:
        # Not as a context manager: that would end the stream properly after an error, too.
        tar = tarfile.open(  # noqa: SIM115
            fileobj=sink,  # type: ignore[call-overload]
            mode="w|",
            format=tarfile.PAX_FORMAT,
            bufsize=BLOCK,
        )
        for path, name in what.items:
            current = path
            tar.add(path, arcname=name, filter=_plain)
        tar.addfile(tarfile.TarInfo(last))
        tar.close()
    except OSError as error:
        raise _unreadable(Path(error.filename or current), error) from error
    finally:
        sink.stop()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without what means nothing on another machine: owner, set-user-id bits."""
    return member.replace(uid=0, gid=0, uname="", gname="", mode=member.mode & 0o777, deep=False)


def _failure(host: Host, code: int, said: str, *, sudo: bool) -> SparkbundleError:
    lines = [line for line in said.splitlines() if line.strip() and "Exiting with" not in line]
    why = lines[-1] if lines else f"exit code {code}"
    if code == _EXISTS:
        return SparkbundleError(
            why, where=host.name, todo="--force replaces it; nothing was changed", code=PREFLIGHT
        )
    todo = ""
    if any(line.startswith("sudo:") for line in lines):
        todo = "let this user use sudo without a password there, or leave --sudo out"
    elif "No space left" in said or "Wrote only" in said:  # GNU tar's words for a full disk
        why, todo = "the disk is full there", "make room there; nothing was changed"
    elif "ermission denied" in said and not sudo:
        todo = "--sudo writes as root"
    return SparkbundleError(why, where=host.name, todo=todo)
