"""The story of a cluster of hosts: `up` and `restart`; `remote_down` has its end.

As with `embedded`, its twin on this machine: `up` converges, whatever it finds, and says
"ready" only when a job has run on every worker.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from sparkbundle import gpu_verify, preflight, torch_build, wheelhouse
from sparkbundle.errors import PARTLY, InterruptedRunError, PreflightError, SparkbundleError
from sparkbundle.host_lock import locked
from sparkbundle.host_plan import SECRETS, ClusterPlan, make_plan
from sparkbundle.host_record import is_as_deployed, record, runs_as_planned
from sparkbundle.host_verify import Verdict, verify, wait_ready
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Inventory
from sparkbundle.output import Steps, warn
from sparkbundle.playbook import HostOutcome, Outcome, failure, phases
from sparkbundle.playbook_steps import last_log, play
from sparkbundle.preflight import Checked, Facts
from sparkbundle.spark_settings import Secrets, new_secrets
from sparkbundle.wheelhouse import Wheelhouse


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
                    "torch_build": host.torch_build,
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
            stack.enter_context(interruptible())
        return converge(
            hosts, options, stack=stack, steps=steps, lock="" if options.check else "up"
        )


def converge(
    hosts: Hosts, options: UpOptions, *, stack: ExitStack, steps: Steps, lock: str
) -> Deployed:
    """What `up` does, under a lock for the command `lock`, without one where that is empty."""
    checked = _check(hosts, stack, steps, command=lock)
    plan = _plan(hosts, checked, steps)
    stale = [
        name
        for name, host in checked.facts.items()
        if options.thorough
        or not is_as_deployed(host, plan.desired(name))
        or not runs_as_planned(host, plan.hosts[name])
    ]
    outcome = _play(hosts, plan, stale=stale, check=options.check, steps=steps)
    changed = {name: tuple(host.changed) for name, host in outcome.hosts.items()}
    diffs = {name: tuple(host.diffs) for name, host in outcome.hosts.items()}
    if options.check:
        return Deployed(plan=plan, changed=changed, diffs=diffs, verdict=None)
    verdict = _prove(hosts, plan, outcome, stale=stale, steps=steps, timeout=options.timeout)
    return Deployed(plan=plan, changed=changed, diffs=diffs, verdict=verdict, seconds=steps.seconds)


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
    builds = {
        torch_build.build_of(host, checked.facts[host.name]["gpus"]) for host in inventory.hosts
    }
    with steps.step("prepare the runtime on this machine") as step:
        houses = wheelhouse.prepare_builds(
            python=master.python,
            machine=str(master["machine"]),
            builds=sorted(builds),
            say=step.say,
        )
        step.done(_shown(houses))
    secrets = read_secrets(hosts) or new_secrets()
    return make_plan(inventory, checked.facts, secrets=secrets, wheelhouses=houses)


def _shown(houses: Mapping[str, Wheelhouse]) -> str:
    """Each release with its size; with its build of torch where there are two."""
    sizes = {build: f"{one.digest}, {one.size >> 20} MiB" for build, one in houses.items()}
    if len(sizes) == 1:
        return "".join(sizes.values())
    return "; ".join(f"{build}: {size}" for build, size in sizes.items())


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
    hosts: Hosts, plan: ClusterPlan, *, stale: Sequence[str], check: bool, steps: Steps
) -> Outcome:
    """Run the playbook on the hosts that are not as they shall be, a step for each of its plays."""
    if not stale:
        for title in phases("up"):
            with steps.step(title) as step:
                step.done("nothing to do: all hosts are as they shall be")
        return Outcome()
    outcome = play("up", hosts, stale, steps=steps, variables=plan.variables(), check=check)
    master = hosts.inventory.master.name
    if master in outcome.failures or len(outcome.failures) == len(plan.hosts):
        raise failure(
            outcome,
            log=last_log(hosts.inventory, "up"),
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
        told = record(hosts, plan, names=done)
        step.done(f"{len(done)} hosts" if done else "nothing to do")
    _warn_of_former_settings(told, plan)
    for text in gpu_verify.warnings(verdict.gpus):
        warn(text)
    _report_partly(outcome, hosts)
    return verdict


def _warn_of_former_settings(
    told: Mapping[str, Facts | SparkbundleError], plan: ClusterPlan
) -> None:
    """Say so if a notebook server runs as it was started before: it is not ended under kernels."""
    for name, facts in told.items():
        if isinstance(facts, Facts) and not runs_as_planned(facts, plan.hosts[name]):
            warn(
                f"{name}: the notebook server goes on as it was, since kernels run; when they "
                f"have ended: sparkbundle up -i {plan.inventory.path}"
            )


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
def interruptible() -> Iterator[None]:
    """Say what an interruption leaves behind, and what to do then."""
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
        stack.enter_context(interruptible())
        checked = _check(hosts, stack, steps, command="restart")
        plan = _plan(hosts, checked, steps)
        outcome = play("restart", hosts, chosen, steps=steps, variables={})
        report_lost(outcome, {}, name="restart", hosts=hosts)
        with steps.step("wait until every worker is registered") as step:
            wait_ready(hosts, plan, timeout=timeout)
            step.done(f"{len(plan.workers)} workers ALIVE")


def report_lost(
    outcome: Outcome, lost: Mapping[str, SparkbundleError], *, name: str, hosts: Hosts
) -> None:
    """Hosts that were not reached or failed, the others being done: say so, and exit with 7."""
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
