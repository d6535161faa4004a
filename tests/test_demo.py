"""`sparkbundle demo`, whole, on fewer reviews."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from sparkbundle import demo, embedded
from sparkbundle.demo_report import MISTAKES
from tests.conftest import Sentiment
from tests.quick_java import quick_java

CONTROL = "TF-IDF + logistic regression"


@pytest.fixture
def alone(tmp_path: Path) -> Sentiment:
    """A state directory of its own, so that all processes in it are the demo's."""
    command = Sentiment(tmp_path)
    command.env["JAVA_HOME"] = quick_java()
    return command


def running(command: Sentiment) -> list[psutil.Process]:
    """Processes that work below this state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(command.home / "state")):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.cluster
def test_the_demo_shows_everything_and_leaves_nothing_running(alone: Sentiment, few_reviews: Path):
    done = alone("demo", "--reviews", few_reviews, "--json", program="sparkbundle")
    result = json.loads(done.stdout)
    assert result["accuracy"].keys() == {
        "LSTM, recipe quick",
        "majority class",
        CONTROL,
    }
    assert result["rows"] == pytest.approx(80, abs=5)
    assert len(result["sentences"]) == 5
    steps = [line for line in done.stderr.splitlines() if line.startswith("[")]
    assert [line.split()[0] for line in steps] == [f"[{i}/13]" for i in range(1, 14)]
    for word in ("WARN", "Warning", "Traceback", "incubator"):
        assert word not in done.stderr
    page = (alone.home / result["report"]).read_text()
    accuracy = result["accuracy"]["LSTM, recipe quick"]
    assert f"{accuracy:.1%} of {result['rows']:,} held-out reviews judged right" in page
    assert f"{CONTROL} {result['accuracy'][CONTROL]:.1%} (" in page
    assert json.loads((alone.home / result["model"] / "model.json").read_text())["digest"] in page
    assert f"sparkbundle demo --recipe quick --seed 1 --reviews {few_reviews}" in page
    assert page.count('<div class="mistake') == 2 * MISTAKES
    assert running(alone) == []


@pytest.mark.cluster
def test_an_interrupted_demo_takes_its_cluster_down(alone: Sentiment, few_reviews: Path):
    process = alone.popen("demo", "--reviews", str(few_reviews), program="sparkbundle")
    for line in process.stderr:
        if "smoke job" in line:
            break
    assert running(alone)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert running(alone) == []


@pytest.mark.cluster
def test_an_interrupt_in_the_moment_the_cluster_is_up_takes_it_down_too(
    alone: Sentiment, few_reviews: Path, monkeypatch: pytest.MonkeyPatch
):
    start = embedded.start

    def interrupted(*args, **kwargs):
        start(*args, **kwargs)
        assert running(alone)
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "start", interrupted)
    monkeypatch.setattr(embedded, "_smoke_job", lambda launcher: None)  # it proves other things
    for name in ("SPARKBUNDLE_STATE", "JAVA_HOME"):
        monkeypatch.setenv(name, alone.env[name])
    with pytest.raises(KeyboardInterrupt):
        demo.run(demo.DemoOptions(out=alone.home / "demo", reviews=str(few_reviews)))
    assert running(alone) == []


def test_reviews_that_are_not_there_are_named(alone: Sentiment):
    done = alone("demo", "--reviews", "nowhere.csv", code=3, program="sparkbundle")
    assert "nowhere.csv" in done.stderr
    assert "start the daemons" not in done.stderr
    assert running(alone) == []
