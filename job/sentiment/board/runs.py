"""The event files at some places, as runs of TensorBoard below one log directory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from sentiment.board.following import Followed, event_files, is_event_file
from sentiment.board.run_log import RunLog
from sentiment.errors import SentimentError


class Runs:
    """A run for each event file; new files are found, and those known are followed."""

    def __init__(self, places: Sequence[Path], logs: Path, *, said: Callable[[str], None]) -> None:
        """Nothing is read yet. `said` is told of runs that begin and of files that are none."""
        self._places = places
        self._logs = logs
        self._said = said
        self._runs: dict[Path, tuple[Followed, RunLog]] = {}
        self._passed_over: set[Path] = set()
        self.names: list[str] = []

    def update(self) -> None:
        """Write summaries of all events that are new.

        Raises:
            SentimentError: the log directory cannot be written.
        """
        try:
            for place in self._places:
                for name, path in event_files(place):
                    self._begin(name, path)
            for followed, log in self._runs.values():
                if followed.begun_anew():
                    log.forget()
                for event in followed.read():
                    log.take(event)
                log.flush()
        except OSError as error:
            raise SentimentError(
                f"cannot be written: {error.strerror or error}",
                where=str(error.filename or self._logs),
                todo="make room there, or name another place with --logs",
            ) from error

    def close(self) -> None:
        """Close the runs' files."""
        for _, log in self._runs.values():
            log.close()

    def _begin(self, name: str, path: Path) -> None:
        key = path.resolve()
        if key in self._runs or key in self._passed_over:
            return
        try:
            known = is_event_file(path)
            empty = path.stat().st_size == 0
        except OSError:
            return  # it is gone again, or another user's
        if empty:
            return
        if not known:
            self._passed_over.add(key)
            self._said(f"passed over, it is no event file: {path}")
            return
        number = 1
        while (free := name if number == 1 else f"{name}-{number}") in self.names:
            number += 1
        self.names.append(free)
        self._runs[key] = (Followed(path), RunLog(self._logs / free))
        self._said(f"run {free}: {path}")
