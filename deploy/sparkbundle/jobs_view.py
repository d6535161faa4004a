"""How jobs look: one line each, or one in full."""

import shlex
from collections.abc import Iterable
from datetime import UTC, datetime

from sparkbundle.jobs import FAILED, LOST, RUNNING, Job

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNIT = 1024.0


def duration(seconds: float | None) -> str:
    """So many seconds in the two units that say most: 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds is None:
        return "?"
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def size(count: int) -> str:
    """So many bytes in the unit that fits."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if value < _UNIT:
            break
        value, unit = value / _UNIT, larger
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def state(job: Job) -> str:
    """The state, with the reason where it says more: FAILED (exit code 7)."""
    if job.reason and job.state in {FAILED, LOST}:
        return f"{job.state} ({job.reason})"
    return job.state


def ending(job: Job) -> str:
    """One line about the end of a job, or about the fact that there was none yet."""
    if job.state == RUNNING:
        return f"{job.id} is RUNNING, {duration(job.seconds)} now"
    return f"{job.id} {state(job)} after {duration(job.seconds)}"


def table(jobs: Iterable[Job]) -> str:
    """A line for each job, the newest first, under a line of titles."""
    rows = [("JOB", "STATE", "STARTED", "TIME", "APP")]
    for job in sorted(jobs, key=lambda one: one.started or "", reverse=True):
        rows.append((job.id, state(job), _clock(job.started), duration(job.seconds), job.app))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def details(job: Job) -> dict[str, object]:
    """All about one job, by name."""
    pairs: dict[str, object] = {
        "state": state(job),
        "started": _clock(job.started),
        "time": duration(job.seconds),
        "app": job.app,
        "by": job.user,
        "command": shlex.join(job.command),
        "writes to": job.work,
        "log": f"{job.log} ({size(job.log_bytes)})",
    }
    if job.exit is not None:
        pairs["exit code"] = job.exit
    if job.release:
        pairs["release"] = job.release
    if job.memory_mib:
        pairs["memory"] = f"{job.memory_mib} MiB for the driver"
    return pairs


def _clock(text: str | None) -> str:
    """A time in the reader's zone; today without the date."""
    try:
        time = datetime.fromisoformat(text or "").astimezone()
    except ValueError:
        return "?"
    today = datetime.now(UTC).astimezone().date()
    return time.strftime("%H:%M:%S" if time.date() == today else "%Y-%m-%d %H:%M")
