"""The smoke job: proof that every worker runs tasks and returns exact results."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sparkbundle.daemons import last_lines, stop_processes
from sparkbundle.errors import SparkbundleError, Trouble
from sparkbundle.files import remove
from sparkbundle.state import ClusterPlace

ROLE = "smoke"
_SCRIPT = Path(__file__).with_name("smoke_job.py")


@dataclass(frozen=True)
class SmokeResult:
    """Tasks by worker, and the seconds from the word "go" to the result."""

    workers: Mapping[str, int]
    seconds: float


class SmokeJob:
    """The smoke job's driver process: started early, told to go when the workers are there."""

    def __init__(
        self,
        place: ClusterPlace,
        *,
        properties: Path,
        environment: Mapping[str, str],
        java_options: str,
        tasks: int,
    ) -> None:
        """Start the process; its output goes to the log "smoke"."""
        self._place = place
        self._result = place.directory / "smoke.json"
        remove(self._result)
        arguments = [
            "--properties-file", str(properties),
            "--driver-memory", "512m", "--driver-java-options", java_options,
            "--conf", f"spark.executor.extraJavaOptions={java_options}",
            "pyspark-shell",
        ]  # fmt: skip
        log = place.log(ROLE)
        with log.open("wb") as output:
            log.chmod(0o600)
            self._process = subprocess.Popen(
                [sys.executable, "-P", _SCRIPT, str(tasks), self._result],
                env={**environment, "PYSPARK_SUBMIT_ARGS": shlex.join(arguments)},
                cwd=place.directory,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *, expected: set[str], timeout: float) -> SmokeResult:
        """Let the job run and check its result.

        Raises:
            SparkbundleError: it failed, took longer than `timeout` seconds, gave
                a wrong result, or did not run on every worker of `expected`.
        """
        began = time.monotonic()
        try:
            _stdin(self._process).write(b"go\n")
            _stdin(self._process).flush()
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"no result after {timeout:.0f} s") from error
        except BrokenPipeError:
            code = self._process.wait(timeout)
        try:
            answer = json.loads(self._result.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._failed(f"its driver ended with exit code {code}") from error
        if answer["total"] != answer["expected"]:
            raise self._failed(f"wrong sum: {answer['total']} instead of {answer['expected']}")
        if missing := expected - set(answer["workers"]):
            raise self._failed("it did not run on " + ", ".join(sorted(missing)))
        return SmokeResult(workers=answer["workers"], seconds=time.monotonic() - began)

    def end(self) -> None:
        """End the process if it still runs, and remove its result."""
        if self._process.poll() is None:
            stop_processes(self._place, role=ROLE)
        _stdin(self._process).close()
        self._process.wait()
        remove(self._result)

    def _failed(self, reason: str) -> SparkbundleError:
        log = self._place.log(ROLE)
        return SparkbundleError(
            f"the smoke job failed: {reason}",
            where=f"cluster {self._place.name!r}",
            todo=f"read {log} and the executors' logs below {self._place.work}",
            troubles=(
                Trouble(
                    daemon="smoke job",
                    phase="run on every worker",
                    reason=reason,
                    log=str(log),
                    last_lines=last_lines(log, count=12),
                ),
            ),
        )


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin
