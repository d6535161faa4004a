"""What push and pull share: where things are put, how they are counted, how they are shown."""

import posixpath
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from sparkbundle.errors import SparkbundleError
from sparkbundle.output import print_json, print_pairs, show_error, stderr_console
from sparkbundle.reach import exit_code

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_UNIT = 1024

# Told how many bytes more have gone, and for which host.
Tell = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where something is put: in a folder, under a name (None: under its own)."""

    folder: str
    name: str | None


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What was copied to or from a host: where it lies now, how much it was."""

    paths: tuple[str, ...]
    files: int
    bytes: int
    seconds: float

    @property
    def line(self) -> str:
        """In words."""
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        return f"{', '.join(self.paths)}  ({files}, {size(self.bytes)}, {self.seconds:.1f} s)"


def target(path: str, *, several: bool = False) -> Target:
    """What a path means as the place of a copy.

    With a slash at its end (and `.`, `..`, `~`) it is a folder that receives the copy, else
    the very name of the copy; it never depends on what is there. Several things need a folder.
    """
    if several or posixpath.basename(path) in {"", ".", "..", "~"}:
        return Target(folder=path.rstrip("/") or ("/" if path else "."), name=None)
    folder, name = posixpath.split(path)
    return Target(folder=folder or ".", name=name)


def remote_target(path: str, *, several: bool = False) -> Target:
    """As `target`, on a host: a session begins in the user's home, so `~` is `.` there."""
    home = path == "~" or path.startswith("~/")
    return target(f".{path[1:]}" if home else path, several=several)


def size(number: float) -> str:
    """A number of bytes in words."""
    for unit in _UNITS:
        if number < _UNIT or unit == _UNITS[-1]:
            break
        number /= _UNIT
    return f"{number:.0f} {unit}" if unit == _UNITS[0] else f"{number:.1f} {unit}"


@contextmanager
def progress(names: list[str], *, total: int | None = None) -> Iterator[Tell]:
    """Show on a terminal how far each host is; `total` bytes for each, if that is known."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=stderr_console(),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        tasks = {name: bar.add_task(name, total=total) for name in names}
        yield lambda name, count: bar.advance(tasks[name], count)


def report(title: str, results: Mapping[str, Moved | SparkbundleError], *, as_json: bool) -> int:
    """Show what came of a copy on each host; the exit code of the command.

    Raises:
        SparkbundleError: the only host failed.
    """
    errors = [one for one in results.values() if isinstance(one, SparkbundleError)]
    if len(results) == 1 and errors:
        raise errors[0]
    if as_json:
        print_json({"hosts": {name: _as_json(result) for name, result in results.items()}})
    else:
        well = {name: one.line for name, one in results.items() if isinstance(one, Moved)}
        if well:
            print_pairs(title, well)
    for error in errors:
        show_error(error)
    if errors:
        stderr_console().print(f"failed on {len(errors)} of {len(results)} hosts")
    return exit_code(
        [one.code if isinstance(one, SparkbundleError) else 0 for one in results.values()]
    )


def _as_json(result: Moved | SparkbundleError) -> dict[str, object]:
    if isinstance(result, SparkbundleError):
        return {"error": result.what, "where": result.where, "todo": result.todo}
    return asdict(result)
