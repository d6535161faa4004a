"""Jobs on a cluster: start, list, show, read, end, remove.

Where a job runs an agent keeps it (`sparkbundle.job_agent`); this module asks the agent
of a cluster, which `sparkbundle.jobs_targets` reaches. Both kinds of cluster are the same here.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol

from sparkbundle import errors, executor_size
from sparkbundle.errors import PREFLIGHT, UNREACHABLE, PreflightError, SparkbundleError
from sparkbundle.gpu_request import (
    EXECUTOR,
    SENTIMENT_TASK,
    TASK,
    GpuRequest,
    idle,
    layout,
    most_gpus,
    settings_of,
)
from sparkbundle.jobs_request import SENTIMENT, JobRequest
from sparkbundle.output import warn
from sparkbundle.spark_settings import WorkerSize

RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
CANCELLED = "CANCELLED"
LOST = "LOST"
_TRAIN, _RESUME = "train", "--resume"


class Target(Protocol):
    """The jobs of one cluster, and the way to the agent that keeps them."""

    @property
    def label(self) -> str:
        """The cluster in words."""

    @property
    def options(self) -> str:
        """The options that name the cluster on the command line: " -i hosts.yml", or nothing."""

    @property
    def limits_memory(self) -> bool:
        """Whether a job's memory is limited there."""

    @property
    def remote(self) -> bool:
        """Whether its jobs run on another machine than this one."""

    def workers(self) -> Sequence[WorkerSize]:
        """What the workers offer; nothing where that is not told."""

    def word_tables(self) -> Collection[str]:
        """The digests of the word tables that the host of the jobs has, whole."""

    def ask(
        self, *words: str, given: Iterable[bytes] = (), silence: float | None = None
    ) -> Iterator[bytes]:
        """What the agent prints when it is given these words; `given` is its standard input.

        Raises:
            SparkbundleError: the host is lost, or says nothing for `silence` seconds.
        """

    def ended(self, job: "Job") -> None:
        """Clear away what is left of a job that was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it was when the agent was asked.

    `state` is RUNNING, SUCCEEDED, FAILED, CANCELLED or LOST; `exit` is what a shell would
    say of its end, `reason` says it in words. Times are in UTC. `directory`, `work` (where
    it writes) and `log` are paths on the host where it runs.
    """

    id: str
    app: str
    state: str
    exit: int | None
    reason: str
    started: str | None
    ended: str | None
    seconds: float | None
    command: tuple[str, ...]
    user: str | None
    memory_mib: int | None
    release: str | None
    directory: str
    work: str
    log: str
    log_bytes: int

    @property
    def exit_code(self) -> int:
        """The exit code of a command that waited for this job: 1 where nobody knows."""
        return errors.FAILED if self.exit is None else self.exit

    def as_json(self) -> dict[str, Any]:
        """The job as a JSON object."""
        return {**asdict(self), "command": list(self.command)}


def submit(target: Target, request: JobRequest) -> Job:
    """Send a job and start it; it runs, or has ended already, when this returns.

    Raises:
        PreflightError: it asks for executors that no worker can hold, or GPUs that none has.
        SparkbundleError: it could not be sent or started. Nothing of it is left then, unless
            the connection was lost: then `jobs` shows whether it was started.
    """
    if request.gpus is not None:
        request = _with_gpus(target, request, request.gpus)
    else:
        _check_executors(target, request.value.get("conf", {}))
    return parse_job(_answer(target, "start", given=request.stream())["job"])


def resume(target: Target, name: str, words: Sequence[str] = ()) -> Job:
    """Run a job that failed, was cancelled or lost, again in its folder; `words` behind its own.

    A training goes on from its last checkpoint.

    Raises:
        SparkbundleError: there is no such job, it runs or has succeeded, or cannot be started.
    """
    found = find(target, name)
    training = found.app == SENTIMENT and _TRAIN in found.command[1:2]
    if training and _RESUME not in (*found.command, *words):
        words = [*words, _RESUME]
    given = json.dumps({"format": 1, "words": list(words)}).encode() + b"\n"
    return parse_job(_answer(target, "resume", found.id, given=[given])["job"])


def _with_gpus(target: Target, request: JobRequest, gpus: GpuRequest) -> JobRequest:
    """The request with Spark's settings for its GPUs, by what the workers offer now."""
    workers = target.workers()
    if not workers:
        raise PreflightError(
            f"{target.label} does not tell what its workers offer",
            where="--gpus-per-task",
            todo=f"sparkbundle status{target.options}    shows whether it is up",
        )
    task = SENTIMENT_TASK if request.value["app"] == SENTIMENT else TASK
    given = request.value.get("conf", {})
    try:
        found = layout(gpus, workers, conf=given)
    except ValueError as error:
        raise PreflightError(
            str(error),
            where="--gpus-per-task",
            todo=f"sparkbundle status{target.options}    shows what there is",
        ) from error
    if unused := idle(gpus, found, workers):
        warn(unused)
    conf = settings_of(gpus, found, task=task, conf=given)
    return replace(request, value={**request.value, "conf": conf})


def _check_executors(target: Target, conf: Mapping[str, str]) -> None:
    if not any(key in conf for key in (*executor_size.KEYS, EXECUTOR)):
        return
    workers = target.workers()
    most, gpus = most_gpus(workers), conf.get(EXECUTOR, "0")
    if workers and gpus.isdecimal() and int(gpus) > most:
        raise PreflightError(
            f"an executor asks for {gpus} GPUs, and the most that a worker has is {most}",
            where=f"--conf {EXECUTOR}",
            todo="ask for less, or leave it out",
        )
    if workers and (why := executor_size.misfit(conf, workers)):
        raise PreflightError(why, where="--conf", todo="ask for less, or leave it out")


def list_jobs(target: Target) -> list[Job]:
    """All jobs, the oldest first.

    Raises:
        SparkbundleError: the cluster is not reached.
    """
    return [parse_job(value) for value in _answer(target, "list")["jobs"]]


def find(target: Target, name: str) -> Job:
    """The job of this name, of this beginning of a name, or the newest for "last".

    Its `work` is the folder that it writes to.

    Raises:
        SparkbundleError: there is none, or more than one (exit code 3); not reached.
    """
    return parse_job(_answer(target, "show", name)["job"])


def cancel(target: Target, name: str) -> tuple[Job, bool]:
    """End a job and wait until it is gone; whether there was anything to end.

    Raises:
        SparkbundleError: there is no such job, or it does not end.
    """
    answer = _answer(target, "cancel", name)
    job = parse_job(answer["job"])
    if answer["changed"]:
        target.ended(job)
    return job, bool(answer["changed"])


def remove(target: Target, names: Sequence[str]) -> list[str]:
    """Remove ended jobs with all that they wrote; their names.

    Raises:
        SparkbundleError: one of them is not there or still runs. None is removed then.
    """
    return list(_answer(target, "remove", *names)["removed"])


def prune(target: Target, *, keep: int) -> list[str]:
    """Remove all ended jobs but the newest `keep`; their names.

    Raises:
        SparkbundleError: the cluster is not reached.
    """
    return list(_answer(target, "prune", str(keep))["removed"])


def parse_job(value: dict[str, Any]) -> Job:
    """A job from an agent's answer; what a later agent says more is left out."""
    known: dict[str, Any] = {field.name: value.get(field.name) for field in fields(Job)}
    known["command"] = tuple(value.get("command") or ())
    return Job(**known)


# An agent that is at work says so more often.
_SILENCE_SECONDS = 60.0


def _answer(target: Target, *words: str, given: Iterable[bytes] = ()) -> dict[str, Any]:
    parts: list[bytes] = []
    try:
        for block in target.ask(*words, given=given, silence=_SILENCE_SECONDS):
            parts.append(block)
    except SparkbundleError:
        # An agent that fails says why in its answer.
        with suppress(ValueError):
            raise_told(target, json.loads(b"".join(parts)))
        raise
    try:
        value = json.loads(b"".join(parts))
    except ValueError as error:
        raise SparkbundleError(
            "the agent of the jobs gave no answer", where=target.label, code=UNREACHABLE
        ) from error
    raise_told(target, value)
    assert isinstance(value, dict)
    return value


def raise_told(target: Target, value: dict[str, Any]) -> None:
    """Raise what an agent's answer says has failed, if it says so.

    Raises:
        SparkbundleError: what the agent told, with what to do.
    """
    if "error" not in value:
        return
    options = target.options
    todo = f"see all jobs: sparkbundle jobs{options}"
    if near := value.get("near"):
        todo = f"did you mean {near[0]}? All jobs: sparkbundle jobs{options}"
    elif value.get("up") or value.get("old"):
        todo = f"sparkbundle up{options}    sets it up or mends it"
    elif value.get("full") or str(value["error"]).startswith("no room"):
        todo = f"make room there; ended jobs: sparkbundle jobs{options} --prune 5"
    elif running := value.get("running"):
        todo = f"sparkbundle cancel{options} {running}"
    where = ": ".join(filter(None, [target.label, value.get("where")]))
    code = int(value.get("code", PREFLIGHT))
    raise SparkbundleError(str(value["error"]), where=where, todo=todo, code=code)
