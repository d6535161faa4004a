"""Ctrl-C while Spark starts: no JVM is left."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.conftest import Sentiment


def jvms(home: Path) -> list[int]:
    """The JVMs that were started with this state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("SPARKBUNDLE_STATE", "").startswith(str(home))
            if mine and process.name() in ("java", "bash"):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("after", [0.0, 0.5, 1.2, 2.5])
def test_ctrl_c_while_spark_starts_leaves_no_jvm(tmp_path: Path, after: float):
    sentiment = Sentiment(tmp_path)
    words = ("vectors", "list", "--master", "local[1]")
    run = sentiment.popen(*words, start_new_session=True)
    while not jvms(tmp_path):
        assert run.poll() is None
        time.sleep(0.02)
    time.sleep(after)
    os.killpg(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    deadline = time.monotonic() + 5
    while jvms(tmp_path):
        assert time.monotonic() < deadline, "a JVM is left"
        time.sleep(0.1)
