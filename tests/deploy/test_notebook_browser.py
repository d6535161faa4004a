"""The notebook server as people see it: in Debian's Chromium, driven by playwright."""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from tests.deploy.conftest import CommandLine, wait_until
from tests.deploy.notebook_server import Kernel, Server

TALK = "1-the-talk.ipynb"
ARTEFACTS = Path(__file__).parents[2] / ".artefacts"
SETTINGS = {
    "VECTORS": "--dimensions 50 --min-count 3 --workers 2",
    "TRAINING": "--recipe quick --rounds-per-epoch 4 --learning-rate 0.01 --workers 2 --no-plan",
}
POINTS = """() => Math.max(0, ...[...document.querySelectorAll(".js-plotly-plot")].flatMap(
    (plot) => (plot.data || []).map((line) => (line.x && line.x.length) || 0)))"""

SHOW = 'document.querySelector(".js-plotly-plot")?.scrollIntoView({block: "center"})'


def chromium() -> str:
    """The browser's program; it is installed where that may be, as the tests on hosts do."""
    if found := shutil.which("chromium") or shutil.which("chromium-browser"):
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-oDPkg::Lock::Timeout=120", "-qq"]
        subprocess.run([*apt, "update"], check=True, env=environ, stdout=subprocess.DEVNULL)
        wanted = ("install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core")
        subprocess.run([*apt, *wanted], check=True, env=environ, stdout=subprocess.DEVNULL)
        return "chromium"
    if os.environ.get("CI"):
        pytest.fail("no Chromium, and it cannot be installed here")
    pytest.skip("no Chromium here: sudo apt-get install -y chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    # Chromium's own sandbox is not for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=chromium(), args=arguments)
        context = program.new_context(viewport={"width": 1300, "height": 860})
        context.set_default_timeout(60_000)
        yield context
        program.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, reviews: Path) -> Iterator[Server]:
    """One whose first notebook has the settings that a user in a hurry would give it."""
    run = CommandLine(tmp_path_factory.mktemp("browser"))
    try:
        run("up", "--workers", "2", "--cores-per-worker", "1", "--memory-per-worker", "1g")
        made = Server.begin(run)
        path = run.home / "sparkbundle-notebooks" / TALK
        notebook = json.loads(path.read_text())
        (cell,) = [
            one for one in notebook["cells"] if "parameters" in one["metadata"].get("tags", [])
        ]
        given = {"REVIEWS": str(reviews), **SETTINGS}
        cell["source"] = "\n".join(f"{name} = {value!r}" for name, value in given.items())
        path.write_text(json.dumps(notebook))
        yield made
    finally:
        print((run.directory("default") / "logs" / "notebook.log").read_text()[-5000:])
        run("down", "--purge")


def kept(page: Page, name: str) -> None:
    """A screenshot, to be looked at after the tests."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"{name}.png"))


def test_the_talk_runs_to_its_end_and_its_chart_moves_meanwhile(
    browser: BrowserContext, server: Server
):
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector(".jp-Launcher-body")
    assert "token" not in page.url, "it is not left in the history"
    kept(page, "1-launcher")
    page.goto(f"{server.address}/lab/tree/{TALK}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector("text=PySpark (this cluster) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    status = page.locator(".jp-Notebook-ExecutionIndicator")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="busy"]')
    seen: list[int] = []
    deadline = time.monotonic() + 400
    while status.get_attribute("data-status") != "idle":
        assert time.monotonic() < deadline, f"not at its end: {seen}"
        if (points := page.evaluate(POINTS)) not in seen:
            seen.append(points)
            if 4 <= points <= 8:
                page.evaluate(SHOW)
                kept(page, "2-chart-moves")
        time.sleep(0.3)
    growing = [points for points in seen if points <= 12]
    assert growing == sorted(growing) and len(growing) >= 4, "the chart moved while the cell ran"
    page.keyboard.press("Control+s")
    page.wait_for_selector(".jp-mod-dirty", state="detached")
    kept(page, "3-talk-at-its-end")
    cells = json.loads((server.folder / TALK).read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = "".join("".join(output.get("text", "")) for output in outputs)
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


@pytest.mark.long
def test_the_tiles_show_sparks_pages_and_tensorboard(browser: BrowserContext, server: Server):
    page = browser.new_page()
    page.goto(server.url)
    page.wait_for_selector("#jp-MainLogo")
    page.goto(f"{server.address}/lab?reset")  # else the notebook would be in front
    with browser.expect_page() as coming:
        page.locator(".jp-LauncherCard", has_text="Spark [").click()
    spark = coming.value
    spark.wait_for_selector("text=Workers: 2 Alive")
    kept(spark, "4-spark")
    spark.locator("a", has_text="worker-1").first.click()
    spark.wait_for_selector("text=Spark Worker at 127.0.0.1")
    assert "/spark/at/127.0.0.1:" in spark.url
    with browser.expect_page() as coming:
        page.locator(".jp-LauncherCard", has_text="TensorBoard [").click()
    board = coming.value
    board.wait_for_selector("text=talk/model")
    kept(board, "5-tensorboard")
