"""Ctrl-C while Spark starts: no JVM is left."""

import inspect
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from py4j import clientserver, java_gateway
from py4j.protocol import Py4JError

from sentiment.session import _NO_NEWS, _is_news, interruption
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


def test_an_error_that_ctrl_c_left_behind_is_ctrl_c():
    """Py4j cancels the call that was cut, and may fail at that."""
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise Py4JError("Gateway must be connected to send cancel cmd.")  # noqa: B904
    except Py4JError as error:
        assert interruption(error)
    assert not interruption(Py4JError("the connection is lost"))


@pytest.mark.parametrize("command", ["sentiment", "sparkbundle"])
@pytest.mark.parametrize("after", [0.01, 0.05])
def test_ctrl_c_while_python_loads_the_command_shows_no_traceback(command: str, after: float):
    """A clock in the process itself: before Python has started, it is nobody's to catch."""
    code = (
        f"import signal; from {command}.__main__ import main;"
        "signal.signal(signal.SIGALRM, signal.default_int_handler);"
        f"signal.setitimer(signal.ITIMER_REAL, {after}); main()"
    )
    words = [sys.executable, "-c", code, "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", _NO_NEWS)
def test_what_py4j_logs_of_a_cut_call_is_no_news_and_all_else_is(words: str):
    """And this py4j does log it, in these words."""
    sources = inspect.getsource(clientserver) + inspect.getsource(java_gateway)
    assert words in re.sub(r'"\s+"', "", sources), "a message stands over two lines there"
    assert not _is_news(logging.makeLogRecord({"msg": f"Exception {words}"}))
    assert _is_news(logging.makeLogRecord({"msg": "Could not authenticate connection."}))
