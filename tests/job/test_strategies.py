"""What a session of training is told."""

import subprocess
import sys

from sentiment.session import Place
from sentiment.strategies import settings_for

JAVA = "spark.executor.extraJavaOptions"


def test_what_the_place_says_stays(tmp_path):
    properties = tmp_path / "spark.properties"
    place = Place(master="local[1]", label="here", properties=properties)
    properties.write_text("spark.task.reaper.enabled=false\n")
    told = settings_for(place)
    assert told[JAVA] == "-XX:+UseSerialGC"
    assert "spark.task.reaper.enabled" not in told
    for line in (f"{JAVA}=-Xint\n", f"{JAVA} -Xint\n", f"  {JAVA} = -Xint\n"):
        properties.write_text(line)
        assert JAVA not in settings_for(place)


def test_the_daemon_has_loaded_all_and_computed_nothing():
    """A thread of torch's that is there before a fork is not there after it."""
    code = (
        "import os, sys, sentiment.daemon; threads = len(os.listdir('/proc/self/task'));"
        "sentiment.daemon.load(); more = len(os.listdir('/proc/self/task')) - threads;"
        "before = len(sys.modules); import torch, sentiment.rounds;"
        "torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True);"
        "print(len(sys.modules) - before, more)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]
