"""The notebook server of the cluster on this machine: JupyterLab, begun when it is first opened.

It is a process of the cluster, and ends with it. Only this machine reaches it, with its token.
"""

import http.client
import json
import os
import secrets
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from sparkbundle import ports, state
from sparkbundle.daemons import ROLE_VARIABLE, clean_environment, last_lines, start_daemon
from sparkbundle.errors import PreflightError, SparkbundleError
from sparkbundle.files import make_private_directory, write_private
from sparkbundle.kernels import kernel_specs, profiles, write_kernels
from sparkbundle.notebook_client import ask_status, sign_in_url
from sparkbundle.notebook_folder import fill
from sparkbundle.notebook_settings import (
    CONFIG_FILE,
    LAB_FILE,
    START_SECONDS,
    TILE_FILE,
    LabSettings,
    lab_settings,
    server_settings,
)
from sparkbundle.opening import where_here
from sparkbundle.output import Step
from sparkbundle.ports import HOST
from sparkbundle.runtime import find_spark, require_notebook
from sparkbundle.state import ClusterPlace, ClusterRecord

ROLE: Final = "notebook"
_KERNEL_ROLE: Final = {ROLE_VARIABLE: "kernel"}
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class NotebookServer:
    """A server that was begun: where it listens, its token, and the folder that it shows."""

    port: int
    token: str = field(repr=False)
    folder: str

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        """The address that signs a browser in."""
        return sign_in_url(self.address, token=self.token)

    def answers(self) -> bool:
        """Whether it is there, and it is this very server: it takes the token."""
        return ask_status(self.port, token=self.token) == http.client.OK


def server_of(place: ClusterPlace) -> NotebookServer | None:
    """The server that was begun last, None where none was."""
    try:
        return NotebookServer(**json.loads(_record(place).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def ensure(name: str, *, folder: Path | None, port: int | None, step: Step) -> NotebookServer:
    """The server of the cluster: the one that runs, else one that is begun now.

    Raises:
        PreflightError: the cluster is not up, JupyterLab is not installed, the port is taken, or a
            server runs with another folder or port.
        SparkbundleError: it does not start.
    """
    place = state.cluster_place(name)
    record = state.read_record(place)
    if record is None:
        raise state.not_up(name)
    with state.lock(place, "open notebook"):
        found = server_of(place)
        if found is not None and found.answers():
            _require_same(found, folder, port, name=name)
            step.done(f"it runs already, in {found.folder}")
            return found
        require_notebook("jupyterlab", "jupyter_server_proxy", "ipykernel")
        if port is not None:
            ports.require_free(port, option="--port")
        folder = fill(folder or default_folder(), step=step)
        server = NotebookServer(
            port=port or ports.choose_free(), token=secrets.token_urlsafe(32), folder=str(folder)
        )
        _start(place, server, cluster=record)
        step.done(f"JupyterLab in {server.folder}")
        return server


def default_folder() -> Path:
    """Where notebooks are kept, if the user names no other place."""
    return Path.home() / "sparkbundle-notebooks"


def redirect_file(place: ClusterPlace) -> Path:
    """Where the private page is that leads a browser to the server."""
    return _directory(place) / "open.html"


def _require_same(
    found: NotebookServer, folder: Path | None, port: int | None, *, name: str
) -> None:
    asked = {"--folder": folder and str(folder.resolve()), "--port": port}
    is_now = {"--folder": found.folder, "--port": found.port}
    for option, value in asked.items():
        if value is not None and value != is_now[option]:
            raise PreflightError(
                f"the notebook server runs already, and its {option} is {is_now[option]}",
                todo=f"leave {option} out, or end the cluster first: "
                f"sparkbundle down{state.by_name(name)}",
            )


def _record(place: ClusterPlace) -> Path:
    return place.conf / "notebook.json"


def _directory(place: ClusterPlace) -> Path:
    return place.conf / "notebook"


def _start(place: ClusterPlace, server: NotebookServer, *, cluster: ClusterRecord) -> None:
    directory = _directory(place)
    for part in (directory, directory / "data", directory / "run", directory / "labconfig"):
        make_private_directory(part)
    specs = kernel_specs(
        profiles(cores=cluster.cores), python=sys.executable, environment=_KERNEL_ROLE
    )
    write_kernels(directory / "data", specs)
    lab = LabSettings(
        port=server.port,
        python=sys.executable,
        folder=server.folder,
        kernels=list(specs),
        tile_file=str(directory / TILE_FILE),
        token=server.token,
        root=os.getuid() == 0,
    )
    for name, content in (
        (CONFIG_FILE, server_settings(lab)),
        (LAB_FILE, lab_settings()),
        (TILE_FILE, asdict(where_here(place, cluster))),
    ):
        write_private(directory / name, json.dumps(content, indent=1))
    write_private(_record(place), json.dumps(asdict(server)))
    process = start_daemon(
        place,
        role=ROLE,
        environment={
            **clean_environment(place, role=ROLE, spark=find_spark()),
            **_environment(place),
            "JUPYTER_CONFIG_DIR": str(directory),
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(directory / "run"),
            "IPYTHONDIR": str(directory / "ipython"),
        },
        command=[sys.executable, "-m", "jupyterlab"],
    )
    deadline = time.monotonic() + START_SECONDS
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            log = place.log(ROLE)
            last = "\n".join(last_lines(log))
            process.terminate()
            raise SparkbundleError(
                f"the notebook server did not start\n{last}", where=str(log), todo=f"read {log}"
            )
        time.sleep(_POLL_SECONDS)


def _environment(place: ClusterPlace) -> dict[str, str]:
    """What tells commands in notebooks and terminals which cluster is meant."""
    return {
        "SPARKBUNDLE_CLUSTER": place.name,
        "SPARKBUNDLE_STATE": str(state.state_directory()),
        "SPARKBUNDLE_VECTORS": str(state.vectors_directory()),
    }
