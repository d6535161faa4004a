"""Taking a worker out of service without losing work: no new tasks, its blocks handed on.

Spark's decommissioning (spark.decommission.enabled): SIGPWR to the worker's process. The process
itself stays; whoever drains a worker stops it afterwards.
"""

import time
from collections.abc import Sequence

from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host

NOT_REACHED = "not reached: it is taken out, and not cleaned"
_POLL_SECONDS = 1.0
# The executors are the children of the worker's process that are no zombies.
_COUNT = "systemctl show -P MainPID spark-worker | xargs -r ps -o stat= --ppid | grep -v ^Z"


def drain(hosts: Hosts, leaving: Sequence[Host], *, seconds: float) -> dict[str, str]:
    """Drain workers, all at once; what came of it in words, by host.

    A worker that still has executors after `seconds` is left as it is.
    """

    def one(host: Host) -> str:
        words = "systemctl kill --signal=SIGPWR --kill-whom=main spark-worker"
        if hosts.run(host, words, sudo=True, timeout=30).code != 0:
            return "no worker runs there"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            left = hosts.run(host, _COUNT, timeout=30).out.split()
            if not left:
                return "drained"
            time.sleep(_POLL_SECONDS)
        return f"still has {len(left)} executors after {seconds:.0f} s: they are ended"

    answers = hosts.each(one, leaving)
    return {
        name: NOT_REACHED if isinstance(answer, SparkbundleError) else answer
        for name, answer in answers.items()
    }
