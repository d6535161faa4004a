"""The story of a cluster of hosts: up, status, restart, down, one function each.

As with `embedded`, its twin on this machine: `up` converges, whatever it finds, and says
"ready" only when a job has run on every worker.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sparkbundle import preflight, wheelhouse
from sparkbundle.errors import PARTLY, InterruptedRunError, PreflightError, SparkbundleError
from sparkbundle.files import remove
from sparkbundle.host_drain import NOT_REACHED, drain
from sparkbundle.host_lock import locked
from sparkbundle.host_plan import ClusterPlan, make_plan
from sparkbundle.host_record import is_as_deployed, record
from sparkbundle.host_verify import Verdict, verify, wait_ready
from sparkbundle.hosts import Hosts, cluster_directory
from sparkbundle.inventory import Inventory
from sparkbundle.output import Steps, warn
from sparkbundle.playbook import HostOutcome, Outcome, failure, phases
from sparkbundle.playbook_steps import last_log, play
from sparkbundle.preflight import Checked
from sparkbundle.spark_settings import Secrets, new_secrets

SECRETS = "/etc/sparkbundle/secrets.json"


@dataclass(frozen=True)
class UpOptions:
    """How `up` is to go about it; `thorough` lets every role look at every host."""

    check: bool = False
    thorough: bool = False
    timeout: float = 180.0


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """What `up` came to: tasks that changed something by host, and the proof."""

    plan: ClusterPlan
    changed: Mapping[str, Sequence[str]]
    diffs: Mapping[str, Sequence[str]]
    verdict: Verdict | None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many tasks changed something."""
        return sum(map(len, self.changed.values()))

    def as_json(self) -> dict[str, Any]:
        """The result as a JSON object; it holds no secret."""
        return {
            **self.plan.cluster,
            "hosts": {
                name: {
                    "address": host.address,
                    "changed": list(self.changed.get(name, ())),
                    **({} if host.size is None else asdict(host.size)),
                    "gpus": list(host.gpus),
                }
                for name, host in self.plan.hosts.items()
            },
            "changed": self.count,
            "seconds": {phase: round(value, 2) for phase, value in self.seconds.items()},
            "verified": None if self.verdict is None else self.verdict.as_json(),
        }


def up_steps(options: UpOptions) -> int:
    """How many steps `up` has, that of reading the inventory among them."""
    proof = 0 if options.check else 3
    return 3 + len(phases("up")) + proof


def up(hosts: Hosts, options: UpOptions, *, steps: Steps) -> Deployed:
    """Bring the cluster up on all hosts of the inventory and prove that it works.

    Raises:
        SparkbundleError: hosts are not as they must be (nothing was changed), another run holds
            the lock, a host failed on the way, or the cluster does not prove itself.
        InterruptedRunError: Ctrl-C or a signal.
    """
    with ExitStack() as stack:
        if not options.check:
            stack.enter_context(_interruptible())
        checked = _check(hosts, stack, steps, command="" if options.check else "up")
        plan = _plan(hosts, checked, steps)
        stale = [
            name
            for name, host in checked.facts.items()
            if options.thorough or not is_as_deployed(host, plan.desired(name))
        ]
        outcome = _play("up", hosts, plan, stale=stale, check=options.check, steps=steps)
        changed = {name: tuple(host.changed) for name, host in outcome.hosts.items()}
        diffs = {name: tuple(host.diffs) for name, host in outcome.hosts.items()}
        if options.check:
            return Deployed(plan=plan, changed=changed, diffs=diffs, verdict=None)
        verdict = _prove(hosts, plan, outcome, stale=stale, steps=steps, timeout=options.timeout)
        return Deployed(
            plan=plan, changed=changed, diffs=diffs, verdict=verdict, seconds=steps.seconds
        )


def _check(hosts: Hosts, stack: ExitStack, steps: Steps, *, command: str) -> Checked:
    with steps.step("check the hosts") as step:
        # Who cannot reach the master sees so in the table of all hosts, not here.
        if command and _reachable(hosts):
            stack.enter_context(locked(hosts, hosts.inventory.master, command=command))
        checked = preflight.check(hosts)
        for name, fingerprint in hosts.learned.items():
            step.say(f"{name:<12} host key learned: {fingerprint}")
        checked.require()
        for problem in checked.problems:
            warn(f"{problem.host}: {problem.what}; {problem.todo}")
        step.done(f"{len(checked.facts)} hosts")
    return checked


def _reachable(hosts: Hosts) -> bool:
    try:
        return hosts.run(hosts.inventory.master, "true", sudo=True).code == 0
    except SparkbundleError:
        return False


def _plan(hosts: Hosts, checked: Checked, steps: Steps) -> ClusterPlan:
    """The plan, with the packages brought together on this machine."""
    inventory = hosts.inventory
    master = checked.facts[inventory.master.name]
    with steps.step("prepare the runtime on this machine") as step:
        packages = wheelhouse.prepare(
            python=master.python, machine=str(master["machine"]), cuda=False, say=step.say
        )
        step.done(f"{packages.digest}, {packages.size >> 20} MiB")
    secrets = read_secrets(hosts) or new_secrets()
    return make_plan(inventory, checked.facts, secrets=secrets, wheelhouse=packages)


def read_secrets(hosts: Hosts) -> Secrets | None:
    """The secrets that the master keeps, or None when there are none (yet).

    Raises:
        SparkbundleError: the master is not reached.
    """
    answer = hosts.run(hosts.inventory.master, f"cat {SECRETS}", sudo=True, timeout=30)
    try:
        value = json.loads(answer.out)
        return Secrets(rpc=value["rpc"], ui_key=value["ui_key"])
    except (ValueError, KeyError, TypeError):
        return None


def _play(
    name: str,
    hosts: Hosts,
    plan: ClusterPlan,
    *,
    stale: Sequence[str],
    check: bool,
    steps: Steps,
) -> Outcome:
    """Run a playbook on the hosts that are not as they shall be, a step for each of its plays."""
    if not stale:
        for title in phases(name):
            with steps.step(title) as step:
                step.done("nothing to do: all hosts are as they shall be")
        return Outcome()
    outcome = play(name, hosts, stale, steps=steps, variables=plan.variables(), check=check)
    master = hosts.inventory.master.name
    if master in outcome.failures or len(outcome.failures) == len(plan.hosts):
        raise failure(
            outcome,
            log=last_log(hosts.inventory, name),
            what=f"{len(outcome.failures)} of {len(plan.hosts)} hosts failed",
            todo="mend what the table says, then run the same command again: it goes on from there",
        )
    return outcome


def _prove(
    hosts: Hosts,
    plan: ClusterPlan,
    outcome: Outcome,
    *,
    stale: Sequence[str],
    steps: Steps,
    timeout: float,
) -> Verdict:
    """Prove what was deployed and record it; hosts that failed on the way are reported last."""
    there = plan.without(outcome.failures)
    verdict = verify(hosts, there, steps=steps, timeout=timeout)
    with steps.step("record what was deployed") as step:
        done = [name for name in stale if name in there.hosts]
        record(hosts, plan, names=done)
        step.done(f"{len(done)} hosts" if done else "nothing to do")
    _report_partly(outcome, hosts)
    return verdict


def _report_partly(outcome: Outcome, hosts: Hosts) -> None:
    """Some workers failed and the cluster works without them: say so, and exit with 7."""
    if not outcome.failures:
        return
    error = failure(
        outcome,
        log=last_log(hosts.inventory, "up"),
        what=f"{', '.join(outcome.failures)} failed; the cluster works without",
        todo="mend what the table says, then run the same command again",
    )
    error.code = PARTLY
    raise error


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; hosts may be half done", todo="run the same command again: it goes on"
        ) from None


def require_hosts(inventory: Inventory, names: Sequence[str]) -> None:
    """Check that the inventory has these hosts.

    Raises:
        PreflightError: it has not.
    """
    known = {host.name for host in inventory.hosts}
    for name in names:
        if name not in known:
            raise PreflightError(
                f"there is no host {name!r} in the inventory",
                where=str(inventory.path),
                todo=f"add it to the group workers there; hosts: {', '.join(sorted(known))}",
            )


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What `down` did: tasks that changed something by host, hosts that could not be reached."""

    changed: Mapping[str, Sequence[str]]
    purged: bool


def down_steps(*, purge: bool) -> int:
    """How many steps `down` has, that of reading the inventory among them."""
    return 2 + len(phases("purge" if purge else "down"))


def down(hosts: Hosts, *, purge: bool, steps: Steps) -> Stopped:
    """Stop all daemons and jobs; with `purge` leave nothing of the cluster behind.

    Raises:
        SparkbundleError: hosts were not reached or failed (7: the others are down).
    """
    name = "purge" if purge else "down"
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        reached, lost = _meet(hosts, stack, steps, command="down")
        outcome = play(name, hosts, reached, steps=steps, variables={})
        _report_lost(outcome, lost, name=name, hosts=hosts)
    if purge:
        remove(cluster_directory(hosts.inventory.name))
    changed = {name: tuple(host.changed) for name, host in outcome.hosts.items()}
    return Stopped(changed=changed, purged=purge)


def restart_steps() -> int:
    """How many steps `restart` has, that of reading the inventory among them."""
    return 3 + len(phases("restart")) + 1


def restart(hosts: Hosts, names: Sequence[str], *, timeout: float, steps: Steps) -> None:
    """Start the daemons anew, the workers one after the other, and wait until all are back.

    Raises:
        SparkbundleError: a host is not reached, fails, or its worker does not come back.
    """
    require_hosts(hosts.inventory, names)
    chosen = list(names) or [host.name for host in hosts.inventory.hosts]
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        checked = _check(hosts, stack, steps, command="restart")
        plan = _plan(hosts, checked, steps)
        outcome = play("restart", hosts, chosen, steps=steps, variables={})
        _report_lost(outcome, {}, name="restart", hosts=hosts)
        with steps.step("wait until every worker is registered") as step:
            wait_ready(hosts, plan, timeout=timeout)
            step.done(f"{len(plan.workers)} workers ALIVE")


def _meet(
    hosts: Hosts, stack: ExitStack, steps: Steps, *, command: str
) -> tuple[list[str], dict[str, SparkbundleError]]:
    """Reach all hosts and take the lock; the names of those reached, the errors of the others.

    Raises:
        SparkbundleError: none is reached, or another run holds the lock.
    """
    inventory = hosts.inventory
    with steps.step("reach the hosts") as step:
        answers = hosts.each(lambda host: hosts.run(host, "true", sudo=True, timeout=30))
        lost = {name: one for name, one in answers.items() if isinstance(one, SparkbundleError)}
        reached = [name for name in answers if name not in lost]
        if not reached:
            raise next(iter(lost.values()))
        if inventory.master.name in reached:
            stack.enter_context(locked(hosts, inventory.master, command=command))
        step.done(f"{len(reached)} of {len(answers)}")
    return reached, lost


def _report_lost(
    outcome: Outcome, lost: Mapping[str, SparkbundleError], *, name: str, hosts: Hosts
) -> None:
    if not outcome.failures and not lost:
        return
    for host, error in lost.items():
        outcome.hosts[host] = HostOutcome(phase="reach", failed="SSH", told=(error.what,))
    error = failure(
        outcome,
        log=last_log(hosts.inventory, name),
        what=f"{name}: {', '.join(outcome.failures)} failed, the other hosts are done",
        todo="mend what the table says, then run the same command again",
    )
    error.code = PARTLY
    raise error


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What `remove` did: the hosts taken out, those of them that could not be cleaned."""

    names: Sequence[str]
    drained: Mapping[str, str]
    not_cleaned: Sequence[str]


def remove_steps() -> int:
    """How many steps `remove` has, that of reading the inventory among them."""
    return up_steps(UpOptions()) + 1 + len(phases("purge"))


def remove_hosts(
    hosts: Hosts, names: Sequence[str], *, timeout: float, drain_seconds: float, steps: Steps
) -> Removed:
    """Take workers out: drain, stop, remove what is there of us, tell the other hosts.

    A host that is not reached is taken out all the same; it is not cleaned then.

    Raises:
        PreflightError: the master, or the last worker, was named.
        SparkbundleError: as `up`, for the hosts that stay.
    """
    inventory = hosts.inventory
    require_hosts(inventory, names)
    leaving = [host for host in inventory.hosts if host.name in names]
    staying = tuple(host for host in inventory.hosts if host.name not in names)
    if any(host.is_master for host in leaving) or not any(host.is_worker for host in staying):
        raise PreflightError(
            "the master and the last worker cannot be taken out",
            where=str(inventory.path),
            todo=f"take the whole cluster down: sparkbundle down -i {inventory.path}",
        )
    with ExitStack() as stack:
        stack.enter_context(_interruptible())
        rest = stack.enter_context(Hosts(replace(inventory, hosts=staying)))
        stack.enter_context(locked(rest, rest.inventory.master, command="remove"))
        with steps.step("drain the workers that leave") as step:
            drained = drain(hosts, leaving, seconds=drain_seconds)
            for name, words in drained.items():
                step.say(f"{name:<12} {words}")
            step.done(f"{len(leaving)} hosts")
        reached = [name for name in names if drained[name] != NOT_REACHED]
        outcome = play("purge", hosts, reached, steps=steps, variables={})
        checked = _check(rest, stack, steps, command="")
        plan = _plan(rest, checked, steps)
        stale = [
            name
            for name, facts in checked.facts.items()
            if not is_as_deployed(facts, plan.desired(name))
        ]
        played = _play("up", rest, plan, stale=stale, check=False, steps=steps)
        _prove(rest, plan, played, stale=stale, steps=steps, timeout=timeout)
    dirty = [name for name in names if name not in reached or name in outcome.failures]
    return Removed(names=tuple(names), drained=drained, not_cleaned=tuple(dirty))
