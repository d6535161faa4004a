"""A JVM in which the drivers of the tests have their Spark, one after the other.

The start of a JVM and the first use of Spark's classes cost five seconds of a core; the next Spark
in the same JVM costs one. Drivers find the JVM by $PYSPARK_GATEWAY_PORT, as pyspark has it. What is
read at the start of a JVM (its options, spark-defaults.conf, the environment and the folder that
local Python workers inherit) is the same for all of them: tests of these, and those that kill a
driver or have two at a time, take the fixture `own_jvm`.
"""

import os
import subprocess
from pathlib import Path

from py4j.java_gateway import JavaGateway
from pyspark import SparkContext
from pyspark.java_gateway import launch_gateway

from sentiment.environment import restored
from sentiment.session import _submit_arguments, this_process

STATE = "SPARKBUNDLE_STATE"


class DriverJvm:
    """A JVM with a gateway, with the options of a local driver; it ends with this process."""

    VARIABLES = ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")

    def __init__(self, folder: Path) -> None:
        with (
            (folder / "jvm.log").open("wb") as log,
            _submit_arguments(this_process("a test")),
            restored(STATE),
        ):
            os.environ[STATE] = str(folder / "state")  # local workers do not know their driver's
            streams = {"stdout": subprocess.DEVNULL, "stderr": log}
            self._gateway: JavaGateway = launch_gateway(popen_kwargs={"cwd": folder, **streams})

    @property
    def variables(self) -> dict[str, str]:
        """With these in its environment a driver uses the JVM."""
        parameters = self._gateway.gateway_parameters
        return dict(zip(self.VARIABLES, (str(parameters.port), parameters.auth_token), strict=True))

    def stop_strays(self) -> None:
        """Stop the Spark of a driver that was killed; a second one beside it could not start."""
        if SparkContext._active_spark_context is None:
            companion = getattr(self._gateway.jvm.org.apache.spark, "SparkContext$")
            active = getattr(companion, "MODULE$").getActive()
            if active.isDefined():
                active.get().stop()

    def end(self) -> None:
        self._gateway.shutdown()
        self._gateway.proc.stdin.close()
        self._gateway.proc.wait(timeout=60)
