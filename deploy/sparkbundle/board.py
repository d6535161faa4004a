"""TensorBoard of a job: `sentiment board` on its event file, brought here while it grows."""

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sparkbundle.errors import SparkbundleError
from sparkbundle.jobs import Job, Target
from sparkbundle.jobs_watch import Watched, output, say_lost, say_no_figures
from sparkbundle.output import warn
from sparkbundle.runtime import require_notebook

_END_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Board:
    """A TensorBoard that serves at `url`, which has the key in it; `folder` is a private one."""

    url: str
    port: int
    folder: Path


@contextmanager
def opened(target: Target, job: Job, *, port: int | None) -> Iterator[Board]:
    """TensorBoard of a job, as long as the block lasts; it goes on with what the job measures.

    Raises:
        PreflightError: TensorBoard is not installed here.
        SparkbundleError: it does not start, as where the port is taken.
    """
    require_notebook("sentiment", "tensorboard", otherwise="; without it: sparkbundle watch JOB")
    with tempfile.TemporaryDirectory(prefix="sparkbundle-board-") as scratch:
        # The name of the folder is that of the run.
        events = Path(scratch) / job.id / "events.jsonl"
        events.parent.mkdir()
        threading.Thread(target=_bring, args=(target, job, events), daemon=True).start()
        command = [sys.executable, "-m", "sentiment", "board", scratch, "--json"]
        process = subprocess.Popen(
            [*command, *([] if port is None else ["--port", str(port)])],
            text=True,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours; it is ended with us
        )
        try:
            yield _serving(process, Path(scratch))
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _serving(process: "subprocess.Popen[str]", folder: Path) -> Board:
    """What it says when it serves: one JSON object, of some lines."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        try:
            told = json.loads(said)
        except ValueError:
            continue
        if "url" not in told:
            # An error as `sentiment --json` tells it; it has said it on standard error, too.
            process.wait()
            raise SparkbundleError(
                told["error"], where=told["where"], todo=told["todo"], code=told["code"]
            )
        port = told["url"].partition("://")[2].partition("/")[0].rpartition(":")[2]
        return Board(url=told["url"], port=int(port), folder=folder)
    process.wait()
    # It has said why on its standard error, which is ours.
    raise SparkbundleError("TensorBoard did not start", todo="see above", code=process.returncode)


def _bring(target: Target, job: Job, path: Path) -> None:
    """Copy the job's event file as it grows, until the job ends."""
    watched = Watched(job.id, events=True, lost=say_lost)
    try:
        with path.open("wb", buffering=0) as file:
            for block in output(target, watched, follow=True):
                file.write(block)
    except SparkbundleError as error:
        warn(f"{job.id}: {error.what}; what is there stays, and no more will come")
        return
    if path.stat().st_size == 0:
        say_no_figures(job)
