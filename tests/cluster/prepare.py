"""python -m tests.cluster.prepare: what the tests of hosts begin with, made before they need it.

Installs the Debian packages, builds the boxes, creates the machines, brings the wheels together and
keeps the installed layer; what is there already stays. Made to run in the background while other
tests run: the tests of hosts wait for it, or make what is missing where it was killed.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.cluster import box, computer, layers, machines


def main() -> int:
    """Prepare; the exit code is 0 where nothing can be prepared, but for continuous integration."""
    started = time.monotonic()
    try:
        computer.install()
        with layers.claimed(), ThreadPoolExecutor(max_workers=1) as pool:
            # Beside the rest, because it waits for the mirror most of its time.
            box_of_debian_13 = pool.submit(box.ensure, machines.MACHINES[machines.DEBIAN_13].suite)
            machines.up()
            layers.ensure()
            box_of_debian_13.result()
            machines.up([machines.DEBIAN_13])
            # Until the tests come, running daemons would only take processors from others.
            machines.halt()
    except computer.Unavailable as error:
        print(f"no test hosts: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    except (AssertionError, box.BuildError, machines.MachineError) as error:
        print(f"error: the test hosts are not prepared: {error}", file=sys.stderr)
        return 1
    print(f"the test hosts are prepared: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
