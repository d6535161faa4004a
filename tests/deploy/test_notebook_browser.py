"""The notebook server as people see it: in Debian's Chromium, driven by playwright."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from sentiment.events import event_log
from tests.browser import TALK, browsing, kept, open_tiles, printed, run_all_cells, with_parameters
from tests.deploy.conftest import wait_until
from tests.deploy.notebook_server import Kernel, Server

SETTINGS = {
    "VECTORS": "--dimensions 50 --min-count 3 --workers 2",
    "TRAINING": "--recipe quick --rounds-per-epoch 4 --learning-rate 0.01 --workers 2 --no-plan",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with browsing() as context:
        yield context


@pytest.fixture
def talk(server: Server, reviews: Path) -> Server:
    """The server; its first notebook has the settings that a user in a hurry would give it."""
    path = server.folder / TALK
    given = {"REVIEWS": str(reviews), **SETTINGS}
    path.write_text(json.dumps(with_parameters(json.loads(path.read_text()), given)))
    return server


@pytest.mark.long
def test_the_talk_runs_to_its_end_and_its_chart_moves_meanwhile(
    browser: BrowserContext, talk: Server
):
    page = browser.new_page()
    page.goto(talk.url)
    page.wait_for_selector(".jp-Launcher-body")
    assert "token" not in page.url, "it is not left in the history"
    kept(page, "1-launcher")
    run_all_cells(page, talk.address, notebook=TALK, shots="2", seconds=400)
    text = printed(json.loads((talk.folder / TALK).read_text()))
    assert re.search(r"[\d.]+% of \d+ reviews are told right", text)
    page.close()


TRAIN = """
import subprocess
from sentiment import charts
command = "sentiment train {folder}/corpus {folder}/again --vectors {folder}/table {training}"
training = subprocess.Popen(command.split(), start_new_session=True)
print("pid", training.pid)
charts.training("{folder}/again.events.jsonl").follow(alive=lambda: training.poll() is None)
"""


@pytest.mark.long
def test_a_training_goes_on_without_its_kernel_and_browser_and_is_drawn_again(
    server: Server,
):
    """After the talk, which has made its corpus and its word table."""
    folder = server.folder / "talk"
    code = TRAIN.format(folder=folder, training=SETTINGS["TRAINING"])
    kernel = Kernel(server)
    kernel.client.execute(code)
    events = folder / "again.events.jsonl"
    wait_until(lambda: events.exists() and '"round"' in events.read_text(), seconds=240)
    kernel.process.kill()
    kernel.client.stop_channels()
    wait_until(lambda: '"event": "end"' in events.read_text(), seconds=240)
    another = Kernel(server)
    shown = another.run(
        f"from sentiment import charts; chart = charts.training('{events}'); chart.follow()\n"
        "print([len(line.x) for line in chart.chart.figure.data])"
    )
    assert shown[0] == "ok" and "[12, " in shown[1]
    another.end()


def test_the_tiles_show_sparks_pages_and_tensorboard(browser: BrowserContext, server: Server):
    events = server.folder / "talk" / "model.events.jsonl"
    if not events.exists():  # the talk, which writes them, is a long test
        events.parent.mkdir(exist_ok=True)
        with event_log(events) as log:
            log.write("start", rounds_made=0, rounds=8)
            # TensorBoard lists a run when it has a figure.
            log.write("round", round=1, train_loss=0.5, train_accuracy=0.75)
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#jp-MainLogo")
    page.goto(f"{server.address}/lab?reset")  # else the notebook would be in front
    open_tiles(browser, page, shots="4", worker="worker-1", host="127.0.0.1")
