"""Checkpoints: the state after a round on disk, so that a run goes on where it ended.

    MODEL.checkpoints/
        round-000012/state.safetensors   weights, the optimizer's moments, the outer velocity
        round-000012/checkpoint.json     the round, what the run is, the best so far, the sha256

Each is written aside, flushed and renamed. The last ones are kept and the best one. Nothing in
them is executed when they are read.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.files import locked_directory, new_directory
from sentiment.loop import Measured, state_from_bytes

FORMAT: Final = 1
STATE: Final = "state.safetensors"
DESCRIPTION: Final = "checkpoint.json"
_NAME: Final = "round-"
_LONGEST: Final = 24


@dataclass(frozen=True)
class Best:
    """The epoch (from 1) with the lowest validation loss so far, and the rounds made by its end."""

    epoch: int
    rounds: int
    validation: Measured


@dataclass(frozen=True)
class Checkpoint:
    """A run after so many rounds; at the end of an epoch the validation is made already."""

    rounds: int
    state: bytes
    best: Best | None = None


class Checkpoints:
    """The checkpoints of one run, in its directory (`locked_checkpoints`).

    `run` says what it trains and on what, as plain values: a checkpoint of another run is not
    gone on from.
    """

    def __init__(self, directory: Path, *, run: Mapping[str, Any], keep: int) -> None:
        """Nothing is read or written yet."""
        self.directory = directory
        self._run = json.loads(json.dumps(run))
        self._keep = keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, whole or not at all; then remove those that are not needed.

        Raises:
            SentimentError: the disk refuses; the ones before are as they were.
        """
        target = self._path(checkpoint.rounds)
        about = {
            "format": FORMAT,
            "rounds": checkpoint.rounds,
            "best": asdict(checkpoint.best) if checkpoint.best else None,
            "sha256": hashlib.sha256(checkpoint.state).hexdigest(),
            "run": self._run,
        }
        with new_directory(target, replace=True) as aside:
            (aside / STATE).write_bytes(checkpoint.state)
            (aside / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n")
        self._sweep(checkpoint)
        return target

    def latest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole; `warn` is told of each that is not.

        Raises:
            InvalidInputError: it belongs to another run.
        """
        for path in reversed(self._all()):
            try:
                found = self._read(path)
                if found.best and found.best.rounds != found.rounds:
                    self._read(self._path(found.best.rounds))
            except _DamagedError as error:
                warn(f"{path}: {error}; the checkpoint before it is used")
            else:
                return found
        return None

    def state_after(self, rounds: int) -> bytes:
        """The state of the checkpoint after so many rounds.

        Raises:
            SentimentError: it is not there any more, or not whole.
        """
        try:
            return self._read(self._path(rounds)).state
        except _DamagedError as error:
            raise SentimentError(
                f"{error}: the best state is lost",
                where=str(self._path(rounds)),
                todo="train again, with --force",
            ) from error

    @staticmethod
    def recorded_run(directory: Path) -> Mapping[str, Any] | None:
        """What the run was that has left checkpoints there; None where nothing can be read."""
        for path in reversed(_checkpoints_in(directory)):
            with suppress(_DamagedError):
                run: Mapping[str, Any] = _described(path)["run"]
                return run
        return None

    @property
    def newest(self) -> Path | None:
        """The directory of the newest checkpoint."""
        return next(reversed(self._all()), None)

    def clear(self) -> None:
        """Remove every checkpoint."""
        for path in self._all():
            shutil.rmtree(path, ignore_errors=True)

    def _read(self, path: Path) -> Checkpoint:
        about, state = _described(path), _state(path)
        if _settings(about["run"]) != _settings(self._run):
            raise _other_run(path, about["run"], self._run)
        if hashlib.sha256(state).hexdigest() != about["sha256"]:
            raise _DamagedError(f"{STATE} is not what was written")
        best = about["best"]
        return Checkpoint(
            rounds=about["rounds"],
            state=state,
            best=best and Best(best["epoch"], best["rounds"], Measured(**best["validation"])),
        )

    def _sweep(self, newest: Checkpoint) -> None:
        spared = {self._path(newest.best.rounds)} if newest.best else set()
        for path in self._all()[: -self._keep]:
            if path not in spared:
                shutil.rmtree(path, ignore_errors=True)

    def _path(self, rounds: int) -> Path:
        return self.directory / f"{_NAME}{rounds:06d}"

    def _all(self) -> list[Path]:
        return _checkpoints_in(self.directory)


def _checkpoints_in(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob(f"{_NAME}*") if path.is_dir())


def checkpoint_directory(target: Path) -> Path:
    """Where the checkpoints of a run that makes the model `target` are."""
    return target.with_name(f"{target.name}.checkpoints")


@contextmanager
def locked_checkpoints(target: Path) -> Iterator[Path]:
    """The directory of the checkpoints for the model `target`, locked as long as the block runs.

    Raises:
        SentimentError: another run has it, or it cannot be made.
    """
    directory = checkpoint_directory(target)
    with locked_directory(directory):
        try:
            yield directory
        finally:
            # Without a checkpoint it is nothing.
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()


def check_unfinished(target: Path, *, resume: bool, replace: bool) -> None:
    """Stop before any work if an interrupted run, or one that goes on, has checkpoints there.

    Raises:
        SentimentError: there are some, and neither option says what becomes of them; or another
            run has them.
    """
    if checkpoint_directory(target).is_dir():
        with locked_checkpoints(target) as directory:
            if any(directory.iterdir()) and not (resume or replace):
                raise SentimentError(
                    "an interrupted run has left checkpoints here",
                    where=str(directory),
                    todo="go on with it: --resume; or begin anew: --force",
                )


class _DamagedError(Exception):
    """A checkpoint that cannot be read."""


def _described(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((path / DESCRIPTION).read_bytes())
        form = about["format"]
        if form == FORMAT:
            about["run"], about["rounds"], about["best"], about["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{DESCRIPTION} cannot be read") from error
    if form != FORMAT:
        raise _DamagedError(f"has format {form}, this program reads {FORMAT}")
    return dict(about)


def _state(path: Path) -> bytes:
    try:
        data = (path / STATE).read_bytes()
        state_from_bytes(data)
    except (OSError, SafetensorError) as error:
        raise _DamagedError(f"{STATE} cannot be read") from error
    return data


def _other_run(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> InvalidInputError:
    mine, other = _settings(ours), _settings(theirs)
    differences = sorted(
        f"{_label(setting)} {_short(other.get(setting))}, not {_short(mine.get(setting))}"
        for setting in {*mine, *other}
        if mine.get(setting) != other.get(setting)
    )
    return InvalidInputError(
        f"is of another run: {', '.join(differences)}",
        where=str(path),
        todo="give the options of that run with --resume, or --force to begin anew",
    )


def _settings(run: Mapping[str, Any], *within: str) -> dict[tuple[str, ...], Any]:
    """All that a run depends on, by where it stands.

    Not whether a setting was given or is the recipe's own (`Recipe.extra`): only what it is.
    """
    found: dict[tuple[str, ...], Any] = {}
    for key, value in run.items():
        if isinstance(value, Mapping) and key != "extra":
            found |= _settings(value, *within, key)
        elif key != "extra":
            found[*within, key] = value
    return found


def _label(setting: tuple[str, ...]) -> str:
    """As a user knows it: the name of a recipe is the recipe."""
    *within, key = setting
    return within[-1] if within and key == "name" else key


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:12]}…"
