"""What a deploy left on a host, file for file and unit for unit: recorded there, compared later.

With it a second deploy sees in one look at each host that there is nothing to do, and `status`
tells what somebody has changed since.
"""

import json
from collections.abc import Sequence
from typing import Any

from sparkbundle import preflight
from sparkbundle.errors import SparkbundleError
from sparkbundle.host_plan import ClusterPlan, HostPlan
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host
from sparkbundle.preflight import Facts

DEPLOYED = "/var/lib/sparkbundle/deployed.json"


def is_as_deployed(facts: Facts, desired: str) -> bool:
    """Whether a host is, file for file and unit for unit, as a deploy of `desired` left it."""
    deployed = facts["deployed"]
    return bool(deployed) and deployed == _picture(facts, desired)


def runs_as_planned(facts: Facts, plan: HostPlan) -> bool:
    """Whether the notebook server, if one shall be here, was started with its settings of today.

    A deploy leaves it as it is while kernels run; a later one starts it anew.
    """
    notebook = plan.variables["notebook"]
    return not notebook or bool(facts["notebook_config"] == notebook["config"])


def drift(facts: Facts) -> list[str]:
    """What is not as the last deploy left it, in words; nothing where it is, or there was none."""
    deployed = facts["deployed"]
    if not deployed:
        return ["the last deploy has not ended here"]
    now = _picture(facts, deployed["desired"])
    paths = sorted(
        path
        for path in {*now["files"], *deployed["files"]}
        if now["files"].get(path) != deployed["files"].get(path)
    )
    others = [key for key in now if key not in ("files", "units") and now[key] != deployed[key]]
    return [*(f"{path} has changed" for path in paths), *(f"{key} has changed" for key in others)]


def _picture(facts: Facts, desired: str) -> dict[str, Any]:
    """What is compared: everything that a deploy makes, but which start of a unit it is."""
    units = {
        name: {"active": unit["active"], "enabled": unit["enabled"]}
        for name, unit in facts["units"].items()
    }
    return {
        "desired": desired,
        "files": facts["files"],
        "units": units,
        "release": facts["release"],
        "firewall": facts["firewall"],
        "java": facts.java_will_do,
        "users": facts["users"],
    }


def record(
    hosts: Hosts, plan: ClusterPlan, *, names: Sequence[str]
) -> dict[str, Facts | SparkbundleError]:
    """Leave on hosts the picture of what a deploy made them; what they told of themselves."""

    def one(host: Host) -> Facts:
        facts = preflight.ask(hosts, host)
        picture = _picture(facts, plan.desired(host.name))
        given = json.dumps(picture, indent=1).encode()
        hosts.run(host, f"install -m 0600 /dev/stdin {DEPLOYED}", sudo=True, given=given)
        return facts

    return hosts.each(one, [hosts.inventory.host(name) for name in names])
