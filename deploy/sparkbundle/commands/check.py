"""`sparkbundle check`."""

from dataclasses import asdict
from pathlib import Path

import click

from sparkbundle import inventory as inventories
from sparkbundle import preflight
from sparkbundle.commands.options import json_option, required_inventory_option
from sparkbundle.hosts import Hosts
from sparkbundle.output import Steps, next_steps, print_json, print_rows
from sparkbundle.preflight import Checked


@click.command()
@required_inventory_option
@json_option
@click.pass_context
def check(context: click.Context, *, inventory: Path, as_json: bool) -> None:
    """Look at every host of an inventory: can it be deployed to? Changes nothing there.

    All hosts are asked at once, and all problems are shown in one go. A host's key
    is learned when it is met for the first time. Exit code 3, 4 or 6 with problems.

    \b
    Examples:
      sparkbundle check -i hosts.yml
      sparkbundle check -i hosts.yml --json
    """
    steps = Steps(total=2)
    with steps.step("read the inventory"):
        loaded = inventories.load(inventory)
    with Hosts(loaded) as hosts, steps.step("check the hosts") as step:
        found = preflight.check(hosts)
        for name, fingerprint in hosts.learned.items():
            step.say(f"{name}: host key learned: {fingerprint}")
        step.done(f"{len(found.errors)} problems on {len(loaded.hosts)} hosts")
    if as_json:
        print_json(_as_json(found, [host.name for host in loaded.hosts]))
    else:
        print_rows(("HOST", "CHECK", "RESULT"), _rows(found, [host.name for host in loaded.hosts]))
        if not found.errors:
            next_steps(f"sparkbundle up -i {inventory}")
    if found.errors:
        context.exit(max(problem.code for problem in found.errors))


def _rows(found: Checked, names: list[str]) -> list[tuple[str, str, str]]:
    rows = []
    for name in names:
        mine = [problem for problem in found.problems if problem.host == name]
        if not mine:
            rows.append((name, "all", f"ok: {_summary(found, name)}"))
        for problem in mine:
            word = "warning" if problem.warning else "PROBLEM"
            rows.append((name, problem.check, f"{word}: {problem.what}"))
            rows.append(("", "", f"do: {problem.todo}"))
    return rows


def _summary(found: Checked, name: str) -> str:
    facts = found.facts[name]
    system = facts["os"].get("PRETTY_NAME", facts["os"].get("ID", ""))
    gpus = f", {len(facts.gpus)} GPUs" if facts.gpus else ""
    java = "Java there" if facts.java_will_do else "Java will be installed"
    return (
        f"{facts['address']}, {system}, {facts['cores']} cores, {facts['memory_mib']} MiB, "
        f"Python {facts.python[0]}.{facts.python[1]}, {java}{gpus}"
    )


def _as_json(found: Checked, names: list[str]) -> dict[str, object]:
    return {
        "ok": not found.errors,
        "hosts": {
            name: {
                "problems": [asdict(one) for one in found.problems if one.host == name],
                "facts": _facts(found, name),
            }
            for name in names
        },
    }


def _facts(found: Checked, name: str) -> dict[str, object] | None:
    if name not in found.facts:
        return None
    facts = found.facts[name]
    keys = ("address", "cores", "memory_mib", "free_mib", "python", "machine", "os", "gpus", "java")
    return {key: facts[key] for key in keys} | {"clock_skew_seconds": round(facts.skew, 2)}
