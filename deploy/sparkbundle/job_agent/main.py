"""The words that the agent understands; each answers with one JSON object on stdout.

Without --jobs it is the host's: jobs in /var/lib/sparkbundle/jobs, run by systemd as the user
sparkjob. With it, the jobs are processes of the calling user.
"""

import argparse
import grp
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .frames import events, output, send
from .launchers import Launcher, Process, Systemd, is_running, wait_until_gone
from .records import RUNNING, SUCCEEDED, AgentError, JobFolder, describe, is_locked, write_result
from .request import make_record, record_again, write_settings
from .running import become, out_of_memory, supervise
from .settings import Settings, check_master, host_settings, own_settings
from .store import KEPT, Owner, Store, read_request

HOST_JOBS = Path("/var/lib/sparkbundle/jobs")
_USER, _GROUP = "sparkjob", "spark"
_ALIVE_SECONDS = 5.0
_FAULT = 70


@dataclass(frozen=True)
class Agent:
    """Where the jobs are, and how they are run."""

    store: Store
    launcher: Launcher

    def show(self, folder: JobFolder) -> dict[str, Any]:
        """One job as it is now."""
        return describe(folder, running=is_running(self.launcher, folder))

    def all(self) -> list[dict[str, Any]]:
        """All jobs as they are now, the oldest first."""
        folders = self.store.folders()
        # In the order in which a job goes through them: lock, unit, result. None slips by.
        locked = {folder.id for folder in folders if is_locked(folder.lock)}
        running = locked | self.launcher.running()
        return [describe(folder, running=folder.id in running) for folder in folders]

    def start(self, settings: Settings) -> dict[str, Any]:
        """Start the job that standard input describes."""
        stream = sys.stdin.buffer
        request = read_request(stream)
        check_master(settings)
        self.store.check_room(request["bytes"])
        with self.store.new(request["label"]) as job:
            self.store.extract(job, stream, members=request["members"], alive=_Alive())
            record = make_record(request, folder=job.final, settings=settings)
            write_settings(request, folder=job.folder, settings=settings)
            self.store.finish(job, record)
            try:
                self.launcher.start(job.final, lock=job.lock, record=record)
            except AgentError:
                self.store.remove(job.final)
                raise
        self.prune(KEPT)
        return self.show(job.final)

    def resume(self, folder: JobFolder, settings: Settings) -> dict[str, Any]:
        """Run an ended job again in its folder, with the words of standard input behind its own."""
        words = read_request(sys.stdin.buffer)["words"]
        state, before = self.show(folder)["state"], folder.read()
        if state == RUNNING:
            raise AgentError("still runs", where=folder.id, running=folder.id)
        if state == SUCCEEDED:
            raise AgentError("has succeeded: there is nothing to go on with", where=folder.id)
        check_master(settings)
        wait_until_gone(self.launcher, folder)
        with self.store.reopened(folder) as job:
            if folder.read() != before:
                raise AgentError("was resumed by somebody else", where=folder.id)
            record = record_again(before, words, folder=folder, settings=settings)
            job.begin(record)
            self.launcher.start(folder, lock=job.lock, record=record)
        return self.show(folder)

    def cancel(self, folder: JobFolder) -> dict[str, Any]:
        """End a job; `changed` tells whether there was anything to end."""
        if not is_running(self.launcher, folder):
            return {"job": self.show(folder), "changed": False}
        folder.cancelled.touch()
        self.launcher.stop(folder)
        return {"job": self.show(folder), "changed": True}

    def stop(self) -> dict[str, Any]:
        """End all jobs, as `down` does."""
        running = [job["id"] for job in self.all() if job["state"] == RUNNING]
        folders = [JobFolder(self.store.root / name) for name in running]
        for folder in folders:
            folder.cancelled.touch()
        return {"jobs": [self.cancel(folder)["job"] for folder in folders]}

    def remove(self, names: Sequence[str]) -> dict[str, Any]:
        """Remove ended jobs with all that they wrote; none of them if one still runs."""
        folders = [self.store.find(name) for name in names]
        for folder in folders:
            if is_running(self.launcher, folder):
                raise AgentError("still runs", where=folder.id, running=folder.id)
        for folder in folders:
            self.store.remove(folder)
        return {"removed": sorted({folder.id for folder in folders})}

    def prune(self, keep: int) -> dict[str, Any]:
        """Remove all ended jobs but the newest `keep`."""
        ended = [job["id"] for job in self.all() if job["state"] != RUNNING]
        removed = ended[: max(0, len(ended) - keep)]
        for name in removed:
            self.store.remove(JobFolder(self.store.root / name))
        return {"removed": removed}


class _Alive:
    """Says every few seconds, with an empty line before the answer, that this end is there."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last > _ALIVE_SECONDS:
            self._last = time.monotonic()
            sys.stdout.write("\n")
            sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="jobs.py", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=Path)
    words = parser.add_subparsers(dest="word", required=True)
    words.add_parser("start")
    words.add_parser("list")
    words.add_parser("stop")
    for name in ("show", "resume", "cancel", "exec", "ended"):
        words.add_parser(name).add_argument("job")
    logs = words.add_parser("logs")
    logs.add_argument("job")
    logs.add_argument("--at", type=int)
    logs.add_argument("--tail", type=int)
    logs.add_argument("--follow", action="store_true")
    logs.add_argument("--events", action="store_true")
    words.add_parser("remove").add_argument("jobs_to_remove", nargs="+")
    words.add_parser("prune").add_argument("keep", type=int)
    supervised = words.add_parser("supervise")
    supervised.add_argument("job")
    supervised.add_argument("lock", type=int)
    return parser.parse_args()


def _host_agent() -> Agent:
    try:
        owner = Owner(pwd.getpwnam(_USER).pw_uid, grp.getgrnam(_GROUP).gr_gid)
    except KeyError as error:
        raise AgentError(f"this host is not set up: {error.args[0]}", up=True) from error
    return Agent(Store(HOST_JOBS, owner), Systemd(Path(sys.argv[0]).absolute(), _USER, _GROUP))


def _stopping() -> bool:
    """Whether the host is being shut down."""
    done = subprocess.run(
        ["systemctl", "is-system-running"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() == "stopping"


def _answer(agent: Agent, asked: argparse.Namespace) -> dict[str, Any] | None:
    match asked.word:
        case "start":
            return {"job": agent.start(host_settings() if asked.jobs is None else own_settings())}
        case "list":
            return {"jobs": agent.all()}
        case "stop":
            return agent.stop()
        case "remove":
            return agent.remove(asked.jobs_to_remove)
        case "prune":
            return agent.prune(asked.keep)
    return _answer_for(agent, agent.store.find(asked.job), asked)


def _answer_for(
    agent: Agent, folder: JobFolder, asked: argparse.Namespace
) -> dict[str, Any] | None:
    match asked.word:
        case "show":
            return {"job": agent.show(folder)}
        case "resume":
            settings = host_settings() if asked.jobs is None else own_settings()
            return {"job": agent.resume(folder, settings)}
        case "cancel":
            return agent.cancel(folder)
        case "logs":
            send(
                folder,
                sys.stdout.buffer,
                find=events if asked.events else output,
                at=asked.at,
                tail=asked.tail,
                follow=asked.follow,
                running=lambda: is_running(agent.launcher, folder),
                describe=lambda: agent.show(folder),
            )
        case "ended":
            names = {"result": "SERVICE_RESULT", "code": "EXIT_CODE", "status": "EXIT_STATUS"}
            ending = {key: os.environ.get(name, "") for key, name in names.items()}
            if ending["result"] == "signal" and out_of_memory():
                ending["result"] = "oom-kill"
            write_result(folder, {**ending, "stopping": _stopping()})
            assert isinstance(agent.launcher, Systemd)
            agent.launcher.unit(folder).unlink(missing_ok=True)
        case "supervise":
            assert isinstance(agent.launcher, Process)
            supervise(folder, agent.launcher)
    return None


def main() -> None:
    """Do what the command line says; what fails is told as JSON, with an exit code of its own."""
    asked = _arguments()
    if asked.word == "exec":
        # The user of the job does this, who needs no rights but to read its folder.
        become(JobFolder((asked.jobs or HOST_JOBS) / asked.job), watched=asked.jobs is not None)
    try:
        if asked.jobs is None:
            agent = _host_agent()
        else:
            agent = Agent(Store(asked.jobs), Process(asked.jobs))
        answer = _answer(agent, asked)
    except AgentError as error:
        print(json.dumps(error.told))
        sys.exit(_FAULT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)  # the reader has gone
    if answer is not None:
        print(json.dumps(answer))
