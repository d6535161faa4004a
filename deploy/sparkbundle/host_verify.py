"""Proof that a cluster of hosts works: every worker as declared, a job with work on each of them.

The master's own list is asked through the SSH connection: its page is not reachable from here.
"""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparkbundle.errors import SparkbundleError, Trouble
from sparkbundle.gpu_verify import GpuProof, summary, to_try_again, verify_gpus
from sparkbundle.host_mend import Mending, lost_workers
from sparkbundle.host_plan import EVENTS, PAGE_PORT, PYTHON, ClusterPlan, HostPlan
from sparkbundle.host_proof import Unit, failed, run_as
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.master import MasterState, parse_state
from sparkbundle.notebook_verify import verify_notebook
from sparkbundle.output import Steps
from sparkbundle.pages import Pages
from sparkbundle.runtime import FAST_JVM
from sparkbundle.tunnel import Tunnel

_POLL_SECONDS = 0.5
_ASK_SECONDS = 10.0
_SMOKE_SCRIPT = Path(__file__).with_name("smoke_job.py")
# A job of seconds: what counts is that its processes start fast.
_SMOKE_ARGUMENTS = (
    *("--driver-memory", "512m", "--driver-java-options", FAST_JVM),
    *("--conf", f"spark.executor.extraJavaOptions={FAST_JVM}"),
    *("--conf", "spark.ui.enabled=false", "--conf", "spark.eventLog.enabled=false"),
    "pyspark-shell",
)
VERIFIED = "/var/lib/sparkbundle/verified.json"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The workers as the master sees them; the smoke job's tasks by worker, or why none.

    `proven`: the smoke job has passed, now or since the last start of a daemon. `gpus`: those that
    were tried, by host.
    """

    workers: Mapping[str, str]
    tasks: Mapping[str, int]
    note: str = ""
    proven: bool = True
    gpus: Mapping[str, Sequence[GpuProof]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        return {
            "workers": dict(self.workers),
            "smoke_tasks": dict(self.tasks),
            "note": self.note,
            "proven": self.proven,
            "gpus": {name: [asdict(one) for one in tried] for name, tried in self.gpus.items()},
        }


def verify(hosts: Hosts, plan: ClusterPlan, *, steps: Steps, timeout: float) -> Verdict:
    """Wait until every worker is there as declared, then let the smoke job prove them all.

    With it the GPUs are tried. One that fails is told in the verdict, and tried again next time.

    Raises:
        SparkbundleError: with a row for each worker that is not.
    """
    with steps.step("wait until every worker is registered") as step:
        answer = wait_ready(hosts, plan, timeout=timeout)
        states = {name: describe(answer, name) for name in plan.workers}
        step.done(f"{len(states)} workers ALIVE")
    notebook = plan.inventory.notebook
    with steps.step("run the smoke job on every worker") as step:
        starts = _starts(hosts, plan)
        if _read_verified(hosts) == starts:
            note = "nothing to do: it has passed since the last start of a daemon"
            step.done(note)
            return Verdict(workers=states, tasks={}, note=note)
        # One that fits no worker holds no cores, now or later.
        if holding := [one for one in answer.applications if not one.note]:
            names = ", ".join(f"{one.name} ({one.id})" for one in holding)
            note = f"put off until the next up: the cores are in use by {names}"
            step.done(note)
            return Verdict(workers=states, tasks={}, note=note, proven=False)
        tasks = _smoke(hosts, plan, timeout=timeout)
        proven = f"exact result from {len(tasks)} workers"
        if notebook is not None:
            verify_notebook(hosts, notebook, timeout=timeout)
            proven += ", and in a notebook"
        gpus = verify_gpus(hosts, plan, timeout=timeout)
        if gpus:
            proven += f"; {summary(gpus)}"
        if not to_try_again(gpus):
            _write_verified(hosts, starts)
        step.done(proven)
    return Verdict(workers=states, tasks=tasks, gpus=gpus)


def wait_ready(hosts: Hosts, plan: ClusterPlan, *, timeout: float) -> MasterState:
    """Wait until this master answers and every worker is ALIVE in it as planned.

    A worker that the master has lost is started anew.

    Raises:
        SparkbundleError: `timeout` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    mending = Mending(hosts)
    while True:
        answer = ask_master_through(hosts, plan.master.address, ui_key=plan.secrets.ui_key)
        if answer is not None and answer.url != plan.cluster["master"]:
            answer = None  # somebody else's master
        faults = {name: fault(answer, host) for name, host in plan.workers.items()}
        lost = lost_workers(answer, plan.workers)
        bad = lost | {name: text for name, text in faults.items() if text}
        if answer is not None and answer.status == "ALIVE" and not bad:
            return answer
        if time.monotonic() > deadline:
            raise _not_ready(hosts, plan, answer, bad, timeout)
        mending.look(lost)
        time.sleep(_POLL_SECONDS)


def ask_master_through(hosts: Hosts, address: str, *, ui_key: str) -> MasterState | None:
    """What the master at an address of its host's tells, asked from that host; None if nothing."""
    page = f"[{address}]:{PAGE_PORT}" if ":" in address else f"{address}:{PAGE_PORT}"
    tunnel = Tunnel(hosts, read_seconds=_ASK_SECONDS)
    try:
        pages = Pages(dial=tunnel.dial, ui_key=ui_key, master=page, addresses=())
        with pages.ask(page, "/json/") as answer:
            return parse_state(json.load(answer))
    except (SparkbundleError, OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def fault(answer: MasterState | None, host: HostPlan) -> str:
    """What is not as planned about a worker in the master's list; empty when all is well."""
    assert host.size is not None
    if answer is None:
        return "the master does not answer"
    return answer.fault(host.name, size=host.size, gpus=host.gpus)


def describe(answer: MasterState | None, name: str) -> str:
    """A worker in words, as the master sees it."""
    entry = answer.worker(name) if answer else None
    if entry is None:
        return "not in the master's list"
    gpus = f", GPUs {','.join(entry.gpus)}" if entry.gpus else ""
    return f"{entry.state}, {entry.cores} cores, {entry.memory_mib} MiB{gpus}"


def _not_ready(
    hosts: Hosts,
    plan: ClusterPlan,
    answer: MasterState | None,
    bad: Mapping[str, str],
    timeout: float,
) -> SparkbundleError:
    wrong = {plan.master.name: "does not answer", **bad} if answer is None else bad
    units = {
        name: "spark-master" if answer is None and name == plan.master.name else "spark-worker"
        for name in wrong
    }
    lines = hosts.each(
        lambda host: journal(hosts, host, units[host.name]),
        [hosts.inventory.host(name) for name in wrong],
    )
    return SparkbundleError(
        f"the cluster is not complete after {timeout:.0f} s",
        where=f"cluster {plan.inventory.name!r}",
        todo="see the reason of each host above, then run the same command again",
        troubles=tuple(
            Trouble(
                daemon=name,
                phase=units[name],
                reason=reason,
                log="",
                last_lines=tuple(_lines(lines[name])),
                todo=f"read on {name}: journalctl -u {units[name]}",
            )
            for name, reason in wrong.items()
        ),
    )


def _lines(told: "str | SparkbundleError") -> list[str]:
    return [told.what] if isinstance(told, SparkbundleError) else told.splitlines()


def journal(hosts: Hosts, host: Host, unit: str, *, lines: int = 4) -> str:
    """The last lines that a unit has logged."""
    words = f"journalctl -u {unit} -n {lines} --no-pager -o cat"
    return hosts.run(host, words, sudo=True, timeout=20).out


def _starts(hosts: Hosts, plan: ClusterPlan) -> dict[str, str]:
    """Which start of its daemons each host is at: a start changes it."""
    units = "spark-master spark-worker spark-notebook"
    words = f"systemctl show {units} --property=InvocationID --value"
    chosen = [hosts.inventory.host(name) for name in plan.hosts]
    answers = hosts.each(lambda host: hosts.run(host, words, timeout=20).out.split(), chosen)
    return {name: json.dumps(answer, default=str) for name, answer in answers.items()}


def _read_verified(hosts: Hosts) -> Any:
    answer = hosts.run(hosts.inventory.master, f"cat {VERIFIED}", sudo=True, timeout=20)
    try:
        return json.loads(answer.out)
    except ValueError:
        return None


def _write_verified(hosts: Hosts, starts: Mapping[str, str]) -> None:
    words = f"install -m 0600 /dev/stdin {VERIFIED}"
    hosts.run(hosts.inventory.master, words, sudo=True, given=json.dumps(starts).encode())


def _smoke(hosts: Hosts, plan: ClusterPlan, *, timeout: float) -> dict[str, int]:
    """Run the smoke job on the master host, as users' jobs run; tasks by worker.

    Raises:
        SparkbundleError: it fails, takes too long, is wrong, or leaves a worker out.
    """
    tasks = sum(host.size.cores for host in plan.workers.values() if host.size)
    # Those that are there: with a worker missing it would wait 30 s for the others.
    cores = ("--conf", f"spark.cores.max={tasks}")
    environment = {
        "PATH": "/opt/sparkbundle/current/bin:/usr/bin:/bin",
        "SPARK_HOME": "/opt/sparkbundle/current/spark",
        "SPARK_CONF_DIR": "/etc/sparkbundle",
        "SPARK_LOCAL_IP": plan.master.address,
        "PYSPARK_PYTHON": PYTHON,
        "PYSPARK_SUBMIT_ARGS": shlex.join([*cores, *_SMOKE_ARGUMENTS]),
        "HOME": "/tmp",  # noqa: S108 - the unit's own
    }
    script = "import sys; exec(sys.stdin.read())"
    answer = run_as(
        hosts,
        hosts.inventory.master,
        ["-c", script, str(tasks), "-"],
        unit=Unit(user="sparkjob", writes=(EVENTS,)),
        script=_SMOKE_SCRIPT.read_bytes(),
        environment=environment,
        timeout=timeout,
    )
    try:
        told = json.loads(answer.out.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise _smoke_failed(f"its driver ended with exit code {answer.code}", answer.err) from error
    if told["total"] != told["expected"]:
        raise _smoke_failed(f"wrong sum: {told['total']} instead of {told['expected']}", "")
    if missing := set(plan.workers) - set(told["workers"]):
        raise _smoke_failed("it did not run on " + ", ".join(sorted(missing)), answer.err)
    return dict(sorted(told["workers"].items()))


def _smoke_failed(reason: str, said: str) -> SparkbundleError:
    return failed(
        "the smoke job failed",
        reason,
        said=said,
        daemon="smoke job",
        phase="run on every worker",
        todo="read the executors' logs below /var/lib/sparkbundle/work on the workers",
    )
