"""Runs a cell in a new kernel of the notebook server on this host, and prints what it came to.

`sparkbundle up` sends it to the host, where it runs as the user of notebooks; arguments: the
server's address, the kernel's name, the cell. It needs jupyter-client, and of this project nothing.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

READY_SECONDS = 60
CELL_SECONDS = 120


def ask(address: str, path: str, *, method: str, body: Any = None) -> Any:
    """What the server answers, with its token."""
    token = Path(os.environ["JUPYTER_TOKEN_FILE"]).read_text(encoding="ascii").strip()
    request = urllib.request.Request(  # noqa: S310 - an address of this host's
        f"{address}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
    )
    # It is on this host's loopback address: its certificate, if it has one, is for another name.
    context = ssl._create_unverified_context()  # noqa: S323
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(request, timeout=READY_SECONDS) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait_for(address: str) -> None:
    """Wait until the server answers: it may have been started a moment ago."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            ask(address, "/api/status", method="GET")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def run(kernel: str, code: str) -> tuple[str, str]:
    """A cell's status and all that it shows."""
    shown: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        content = message["content"]
        data = content.get("data", {}).get("text/plain", "")
        shown.append(content.get("text") or data or "\n".join(content.get("traceback", [])))

    runtime = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels(hb=False)
    try:
        client.wait_for_ready(timeout=READY_SECONDS)
        reply = client.execute_interactive(code, output_hook=hear, timeout=CELL_SECONDS)
    finally:
        client.stop_channels()
    return reply["content"]["status"], "".join(shown)


def main() -> None:
    """Start a kernel, run the cell, end the kernel."""
    address, name, code = sys.argv[1:]
    wait_for(address)
    kernel = ask(address, "/api/kernels", method="POST", body={"name": name})["id"]
    try:
        status, shown = run(kernel, code)
    finally:
        ask(address, f"/api/kernels/{kernel}", method="DELETE")
    print(json.dumps({"status": status, "shown": shown}))


main()
