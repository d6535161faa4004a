"""The kernels of a notebook server: what Jupyter needs to know of each.

`sentiment.kernel` is what runs in them. Source: jupyter-client, "Kernel specs".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sparkbundle.files import write_private

NAME: Final = "sparkbundle"
"""Of the first kernel's folder, and in notebooks."""
TITLE: Final = "PySpark (this cluster)"
_EXTENSION: Final = "sentiment.kernel"
# As sentiment.kernel reads it; that package is not always installed beside this one.
_SETTINGS_VARIABLE: Final = "SENTIMENT_SPARK_SETTINGS"
_PAGE: Final = {"spark.ui.enabled": "true", "spark.ui.port": "0"}
ON_DEMAND: Final = {
    # A notebook is idle most of the time: others have the cores then. Shuffle files on an
    # executor keep it (there is no shuffle service), and so does what is cached there. Those of
    # a query end with it; others are made anew, if they are asked for a minute later.
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.timeout": "60s",
    "spark.sql.classic.shuffleDependency.fileCleanup.enabled": "true",
    "spark.dynamicAllocation.executorIdleTimeout": "20s",
    "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
    # There is none to wait for at the start.
    "spark.scheduler.minRegisteredResourcesRatio": "0",
}
"""Settings of a session that takes executors when a cell has work for them, and gives them back."""


def profiles(
    *, cores: int, own: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, dict[str, str]]:
    """The Spark settings of kernels, by their titles.

    The first takes executors when it needs them, the second holds the `cores` of one worker; the
    user's `own` follow, on top of the first one's settings. Each has a page of Spark's.
    """
    return {
        TITLE: {**_PAGE, **ON_DEMAND},
        "PySpark (one worker)": {**_PAGE, "spark.cores.max": str(cores)},
        **{title: {**_PAGE, **ON_DEMAND, **given} for title, given in (own or {}).items()},
    }


def kernel_specs(
    profiles: Mapping[str, Mapping[str, str]],
    *,
    python: str,
    environment: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """The content of each kernel's kernel.json, by the name of its folder: one for each profile.

    The first is the notebooks' own, NAME. `environment` is that of all of them.
    """
    launched = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return {
        f"{NAME}-{number + 1}" if number else NAME: {
            "argv": [*launched, f"--IPKernelApp.extra_extensions={_EXTENSION}"],
            "display_name": title,
            "language": "python",
            "metadata": {"supported_encryption": "curve"},
            "env": {**(environment or {}), _SETTINGS_VARIABLE: json.dumps(dict(settings))},
        }
        for number, (title, settings) in enumerate(profiles.items())
    }


def kernel_file(name: str) -> str:
    """Where a kernel's specification is, below one of Jupyter's data folders."""
    return f"kernels/{name}/kernel.json"


def write_kernels(folder: Path, specs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write kernels below `folder`, which is one of Jupyter's data folders."""
    for name, spec in specs.items():
        path = folder / kernel_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, json.dumps(spec, indent=1))
