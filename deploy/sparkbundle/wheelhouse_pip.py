"""pip, in a Python environment of the wheelhouse's own, and what its failures mean.

pip and not uv: only pip reads the mirror, proxy or folder of wheels that is configured for pip.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sparkbundle.errors import PreflightError
from sparkbundle.wheelhouse_lock import Entry, Target, lines

Say = Callable[[str], None]

_FETCHED = re.compile(r"\s*(?:Downloading|Using cached) (?:\S*/)?([^/\s]+) \(([\d.]+ [MG]B)\)")
_NETWORK = re.compile(
    r"Failed to establish a new connection|name resolution|timed out|Max retries exceeded"
    r"|ProxyError|SSLError|Connection (?:refused|reset)|Network is unreachable|NewConnectionError"
)
# With exact versions and no dependencies, the only conflict there can be is with the user's own
# constraints; pip speaks of one also where it finds no file at all.
_NOT_FOUND = re.compile(r"(?:No matching distribution found for|Cannot install) (\S+)")
_ALTERED = "DO NOT MATCH THE HASHES"
_FULL = "No space left on device"
# The time that wheels are built at, as far as they tell: the first that a zip knows.
_EPOCH = "315532800"
_DROPPED = {"PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"}


class NotFoundHereError(PreflightError):
    """pip knows no place that holds the file with the hash of the lock."""


@dataclass(frozen=True, kw_only=True)
class Builder:
    """An environment with pip, and with the locked packages that build wheels."""

    python: Path
    scratch: Path
    log: Path
    say: Say

    def download(self, entries: Iterable[Entry], target: Target, into: Path) -> None:
        """Bring the wheel of each entry for the target into a directory, hashes checked.

        Raises:
            NotFoundHereError: pip finds no such wheel, or only others of its name.
            PreflightError: no network, a full disk …
        """
        options = ["--only-binary=:all:", *target.pip_arguments()]
        self._download(entries, options, into=into, asked_for=target)

    def download_source(self, entry: Entry, into: Path) -> Path:
        """Bring the source of an entry into a directory, hash checked, and say where it is.

        Raises:
            NotFoundHereError: as for `download`.
            PreflightError: as for `download`.
        """
        # pip asks the source for its metadata even if it shall only bring it.
        self._download(
            [entry], ["--no-binary=:all:", "--no-build-isolation"], into=into, asked_for=None
        )
        return next(path for path in into.iterdir() if path.name != _LIST)

    def _download(
        self, entries: Iterable[Entry], options: list[str], *, into: Path, asked_for: Target | None
    ) -> None:
        into.mkdir()
        listed = into / _LIST
        # With two equals signs pip takes 2.0+cpu for 2.0, where it finds both.
        listed.write_text(lines(entries).replace("==", "==="), encoding="utf-8")
        words = ["download", "--require-hashes", "--no-deps", *options, "--dest", str(into)]
        self._pip([*words, "-r", str(listed)], asked_for=asked_for)
        listed.unlink()

    def build(self, source: Path, into: Path) -> Path:
        """Build the wheel of an unpacked or packed source, and say where it is.

        Never taken from pip's cache of built wheels: those may be of another setuptools.

        Raises:
            PreflightError: it does not build.
        """
        into.mkdir()
        words = ["wheel", "--no-deps", "--no-build-isolation", "--use-pep517", "--no-cache-dir"]
        # It is unpacked again at once (see wheelhouse_zip): compressing would take a minute.
        words += ["--config-settings=--build-option=--compression=stored"]
        self._pip([*words, "--wheel-dir", str(into), str(source)])
        return next(into.glob("*.whl"))

    def _pip(self, words: Sequence[str], *, asked_for: Target | None = None) -> None:
        run_pip(
            self.python,
            [*words, "--progress-bar=off"],
            scratch=self.scratch,
            log=self.log,
            say=self.say,
            asked_for=asked_for,
        )


_LIST = "requirements.txt"


def make_builder(
    directory: Path, locked: Sequence[Entry], *, scratch: Path, log: Path, say: Say
) -> Builder:
    """The builder of a directory, made if it is not there or not whole.

    Raises:
        PreflightError: this Python has no venv module, or pip cannot bring the packages.
    """
    python = directory / "bin" / "python"
    builder = Builder(python=python, scratch=scratch, log=log, say=say)
    stamp = directory / ".complete"
    wanted = f"{sys.version}\n{lines(locked)}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        return builder
    say("making an environment to build wheels in (once)")
    shutil.rmtree(directory, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(directory)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        shutil.rmtree(directory, ignore_errors=True)
        raise _no_venv(made.stdout + made.stderr)
    listed = scratch / "builder.txt"
    listed.write_text(lines(locked), encoding="utf-8")
    words = ["install", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(listed)]
    run_pip(python, words, scratch=scratch, log=log, say=say)
    stamp.write_text(wanted, encoding="utf-8")
    return builder


def run_pip(
    python: Path,
    words: Sequence[str],
    *,
    scratch: Path,
    log: Path,
    say: Say,
    asked_for: Target | None = None,
) -> None:
    """Run pip, tell of the bigger files it fetches, and keep what it printed in `log`.

    Raises:
        NotFoundHereError: pip finds no file that fits the platform and the hashes.
        PreflightError: it failed in another way.
    """
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *words]
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    # What pip unpacks lies beside the rest: /tmp is small on many machines.
    environment = kept | {"TMPDIR": str(scratch), "SOURCE_DATE_EPOCH": _EPOCH}
    printed = []
    with subprocess.Popen(
        command,
        env=environment,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                printed.append(line)
                if found := _FETCHED.match(line):
                    say(f"{found[1]} ({found[2]})")
        except BaseException:
            # pip and what it has started to build.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    log.write_text("".join([" ".join(command), "\n", *printed]), encoding="utf-8")
    if process.returncode:
        raise _explained("".join(printed), log=log, asked_for=asked_for)


def _explained(printed: str, *, log: Path, asked_for: Target | None) -> PreflightError:
    """What pip's messages come to."""
    missing = _NOT_FOUND.search(printed)
    where = str(log)
    if _FULL in printed:
        return PreflightError("the disk is full", where=where, todo=ROOM)
    if _ALTERED in printed:
        return NotFoundHereError(
            f"{_altered(printed)} is not the file of the lock: its sha256 is another",
            where=where,
            todo="see there which hashes differ; remove the file from the mirror or folder that "
            "pip is configured with (pip config list), and from pip's cache: pip cache purge",
        )
    if _NETWORK.search(printed):
        return PreflightError(
            "pip does not reach its package registry",
            where=where,
            todo="mend the network, or name a mirror or a folder of wheels: "
            "export PIP_INDEX_URL=… or PIP_FIND_LINKS=…",
        )
    if missing:
        system = f" for Python {asked_for.version} on {asked_for.machine}" if asked_for else ""
        return NotFoundHereError(
            f"pip finds no {missing[1].replace('===', '==')}{system}",
            where=where,
            todo="see what pip is configured with (pip config list): "
            "a mirror or folder that lacks the file?",
        )
    last = [line for line in printed.splitlines() if line.strip()][-1:]
    return PreflightError(
        f"pip failed: {last[0].strip() if last else 'it printed nothing'}",
        where=where,
        todo="read pip's own messages there",
    )


ROOM = (
    "make room there (find what is big: du -xh --max-depth=2), "
    "or name another disk: export XDG_CACHE_HOME=DIRECTORY"
)


def _altered(printed: str) -> str:
    found = re.search(rf"{_ALTERED}.*?\n\s+(\S+==\S+|\S+)", printed, re.DOTALL)
    return found[1].replace("===", "==") if found else "a file"


def _no_venv(printed: str) -> PreflightError:
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    apt = f"sudo apt-get install -y {package}" if shutil.which("apt-get") else f"install {package}"
    last = [line for line in printed.splitlines() if line.strip()][-1:]
    if "ensurepip" in printed or "No module named" in printed:
        return PreflightError(
            f"{sys.executable} has no venv module with pip in it", todo=f"{apt}, then run it again"
        )
    return PreflightError(
        f"an environment to build wheels in cannot be made: {' '.join(last)}", todo=ROOM
    )
