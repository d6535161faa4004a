#!/usr/bin/python3
"""The NVIDIA GPUs of this host, for Spark's worker.

gpu.py discover                     print {"name": "gpu", "addresses": ["0", "1"]}
gpu.py settings FROM TO auto|none|N write the worker's settings with the number that there is now

A driver that fails or hangs counts as no GPU, with a line on stderr that says so: the worker
starts, offers its cores, and `sparkbundle status` shows what is missing. Format: Spark's
ResourceInformation, as spark.worker.resource.gpu.discoveryScript must print it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

SECONDS = 20


def addresses() -> list[str]:
    """The indices that nvidia-smi shows."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        print(f"no GPU is offered: nvidia-smi: {error}", file=sys.stderr)
        return []
    return done.stdout.split()


def settings(source: str, target: str, wanted: str) -> None:
    """Write `target`: the settings of `source`, and the GPUs that are both wanted and there."""
    found = [] if wanted == "none" else addresses()
    amount = min(len(found), int(wanted)) if wanted.isdecimal() else len(found)
    lines = Path(source).read_text(encoding="utf-8")
    if amount:
        lines += f"spark.worker.resource.gpu.amount={amount}\n"
        lines += f"spark.worker.resource.gpu.discoveryScript={os.path.realpath(__file__)}\n"
    aside = Path(target + ".new")
    aside.touch(mode=0o600)
    aside.write_text(lines, encoding="utf-8")
    aside.rename(target)


if __name__ == "__main__":
    if sys.argv[1:2] == ["settings"]:
        settings(*sys.argv[2:5])
    else:
        print(json.dumps({"name": "gpu", "addresses": addresses()}))
