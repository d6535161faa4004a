"""Debian's Chromium, driven by playwright, and a notebook in it."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, TimeoutError, sync_playwright

ARTEFACTS = Path(__file__).parents[1] / ".artefacts"
TALK = "1-the-talk.ipynb"
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
        return str(shutil.which("chromium"))  # its path: playwright does not look for it
    if os.environ.get("CI"):
        pytest.fail("no Chromium, and it cannot be installed here")
    pytest.skip("no Chromium here: sudo apt-get install -y chromium")


@contextmanager
def browsing() -> Iterator[BrowserContext]:
    """A browser, as long as the block lasts."""
    # Chromium's own sandbox is not for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=chromium(), args=arguments)
        context = program.new_context(viewport={"width": 1300, "height": 860})
        context.set_default_timeout(60_000)
        yield context
        program.close()


def kept(page: Page, name: str) -> None:
    """A screenshot, to be looked at after the tests."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTEFACTS / f"{name}.png"))


def with_parameters(notebook: Any, parameters: dict[str, Any]) -> Any:
    """A notebook whose cell of settings is another."""
    (cell,) = [one for one in notebook["cells"] if "parameters" in one["metadata"].get("tags", [])]
    cell["source"] = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    return notebook


def run_all_cells(page: Page, address: str, *, notebook: str, shots: str, seconds: float) -> None:
    """Open a notebook and run it to its end, while the points of its first chart must grow."""
    page.goto(f"{address}/lab/tree/{notebook}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.wait_for_selector("text=PySpark (this cluster) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    status = page.locator(".jp-Notebook-ExecutionIndicator")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="busy"]')
    seen: list[int] = []
    deadline = time.monotonic() + seconds
    while status.get_attribute("data-status") != "idle":
        assert time.monotonic() < deadline, f"not at its end: {seen}"
        if (points := page.evaluate(POINTS)) not in seen:
            seen.append(points)
            if 4 <= points <= 8:
                page.evaluate(SHOW)
                kept(page, f"{shots}-chart-moves")
        time.sleep(0.3)
    growing = [points for points in seen if points <= 12]
    assert growing == sorted(growing) and len(growing) >= 4, "the chart moved while the cell ran"
    save(page)
    kept(page, f"{shots}-talk-at-its-end")


def save(page: Page, *, seconds: float = 120) -> None:
    """Save the notebook until nothing is left to save.

    plotly adds a picture of each chart to its output a while after it is drawn (toImage), and that
    changes the notebook again.
    """
    deadline = time.monotonic() + seconds
    while page.locator(".jp-mod-dirty").count():
        assert time.monotonic() < deadline, "the notebook is not saved"
        page.keyboard.press("Control+s")
        with suppress(TimeoutError):  # playwright's
            page.wait_for_selector(".jp-mod-dirty", state="detached", timeout=10_000)


def printed(notebook: Any) -> str:
    """All that the cells of a notebook have printed; an error among the outputs is one here."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return "".join("".join(output.get("text", "")) for output in outputs)


def open_tiles(browser: BrowserContext, page: Page, *, shots: str, worker: str, host: str) -> None:
    """From the launcher to Spark's pages, as far as a worker's, and to TensorBoard."""
    with browser.expect_page() as coming:
        page.locator(".jp-LauncherCard", has_text="Spark [").click()
    spark = coming.value
    spark.wait_for_selector("text=Workers: 2 Alive")
    kept(spark, f"{shots}-spark")
    spark.locator("a", has_text=worker).first.click()
    spark.wait_for_selector(f"text=Spark Worker at {host}")
    assert f"/spark/at/{host}:" in spark.url
    with browser.expect_page() as coming:
        page.locator(".jp-LauncherCard", has_text="TensorBoard [").click()
    board = coming.value
    board.wait_for_selector("text=talk/model")
    kept(board, f"{shots}-tensorboard")
