"""A notebook server and its kernels, asked as a browser, a stranger or a cell would."""

import http.client
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from jupyter_client import BlockingKernelClient

from tests.deploy.conftest import CommandLine


@dataclass
class Server:
    """A notebook server, asked as a browser or a stranger would."""

    run: CommandLine
    port: int
    token: str

    def ask(
        self, path: str, *, method: str = "GET", body: Any = None, token: str = "", host: str = ""
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Host": host or f"127.0.0.1:{self.port}"}
        if token:
            headers["Authorization"] = f"token {token}"
        text = None if body is None else json.dumps(body)
        connection.request(method, path, body=text, headers=headers)
        with connection.getresponse() as answer:
            return answer.status, answer.read()

    def json(self, path: str, *, method: str = "GET", body: Any = None) -> Any:
        status, text = self.ask(path, method=method, body=body, token=self.token)
        assert status < 300, text
        return json.loads(text) if text else None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.address}/lab?token={self.token}"

    @property
    def folder(self) -> Path:
        return self.run.home / "sparkbundle-notebooks"

    @classmethod
    def begin(cls, run: CommandLine) -> "Server":
        """The server of the default cluster of `run`, begun if it does not run."""
        opened = run.json("open", "notebook", "--no-browser")
        return cls(run, opened["port"], opened["url"].partition("token=")[2])

    def processes(self) -> list[psutil.Process]:
        return self.run.processes("default", "notebook")


class Kernel:
    """A kernel of the server's; `run` is a cell."""

    def __init__(self, server: Server, name: str = "sparkbundle") -> None:
        self.server = server
        self.id = server.json("/api/kernels", method="POST", body={"name": name})["id"]
        directory = server.run.directory("default") / "conf" / "notebook" / "run"
        (file,) = directory.glob(f"kernel-{self.id}.json")
        self.client = BlockingKernelClient(connection_file=str(file))
        self.client.load_connection_file()
        self.client.start_channels(hb=False)  # a slow machine would count as dead
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> tuple[str, str]:
        """The status of a cell, and all that it shows."""
        shown: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            data = content.get("data", {}).get("text/plain", "")
            shown.append(content.get("text") or data or "\n".join(content.get("traceback", [])))

        reply = self.client.execute_interactive(code, output_hook=hear, timeout=120)
        return reply["content"]["status"], "".join(shown)

    def end(self) -> None:
        """It may have ended with its server already."""
        self.client.stop_channels()
        with suppress(ConnectionError):
            self.server.ask(f"/api/kernels/{self.id}", method="DELETE", token=self.server.token)

    @property
    def process(self) -> psutil.Process:
        """The kernel's own process, whatever cells have started beside it."""
        every = self.server.run.processes("default", "kernel")
        (found,) = [
            one
            for one in every
            if "ipykernel_launcher" in one.cmdline() and self.id in one.cmdline()[-2]
        ]
        return found
