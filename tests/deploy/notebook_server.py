"""A notebook server and its kernels, asked as a browser, a stranger or a cell would."""

import http.client
import json
import uuid
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import websocket
from jupyter_client import BlockingKernelClient

if TYPE_CHECKING:
    from tests.deploy.conftest import CommandLine


@dataclass
class Asked:
    """A notebook server at a port of this machine, asked as a browser or a stranger would."""

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

    def cell(self, kernel: str, code: str, *, timeout: float = 180) -> tuple[str, str]:
        """The status of a cell in a kernel, by the websocket that browsers use, and what it shows.

        Source: jupyter-client, "Messaging in Jupyter".
        """
        header = {"msg_id": uuid.uuid4().hex, "session": uuid.uuid4().hex, "username": ""}
        request = {
            "header": {**header, "msg_type": "execute_request", "version": "5.3", "date": ""},
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False, "allow_stdin": False},
            "channel": "shell",
        }
        path = f"/api/kernels/{kernel}/channels?session_id={header['session']}"
        socket = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}{path}",
            timeout=timeout,
            header=[f"Authorization: token {self.token}"],
        )
        shown, status, idle = [], "", False
        with closing(socket):
            socket.send(json.dumps(request))
            while not (status and idle):  # they come by two ways, in any order
                message = json.loads(socket.recv())
                if message["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                content = message["content"]
                if message["msg_type"] == "execute_reply":
                    status = content["status"]
                elif "execution_state" in content:
                    idle = content["execution_state"] == "idle"
                else:
                    shown.append(text_of(content))
        return status, "".join(shown)


def text_of(content: dict[str, Any]) -> str:
    """What a message of a kernel shows."""
    data = content.get("data", {}).get("text/plain", "")
    return str(content.get("text") or data or "\n".join(content.get("traceback", [])))


@dataclass
class Server(Asked):
    """The server of the default cluster of `run`, on this machine."""

    run: "CommandLine"

    @property
    def folder(self) -> Path:
        return self.run.home / "sparkbundle-notebooks"

    @classmethod
    def begin(cls, run: "CommandLine") -> "Server":
        """The server of the default cluster of `run`, begun if it does not run."""
        opened = run.json("open", "notebook", "--no-browser")
        return cls(opened["port"], opened["url"].partition("token=")[2], run)

    def processes(self) -> list[psutil.Process]:
        return self.run.processes("default", "notebook")


class Kernel:
    """A kernel of the server's; `run` is a cell."""

    def __init__(self, server: Server, name: str = "sparkbundle") -> None:
        self.server = server
        self.id = server.json("/api/kernels", method="POST", body={"name": name})["id"]
        directory = server.run.directory("default") / "conf" / "notebook" / "run"
        (self.file,) = directory.glob(f"kernel-{self.id}.json")
        self.client = BlockingKernelClient(connection_file=str(self.file))
        self.client.load_connection_file()
        self.client.start_channels(hb=False)  # a slow machine would count as dead
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> tuple[str, str]:
        """The status of a cell, and all that it shows."""
        shown: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            shown.append(text_of(message["content"]))

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
