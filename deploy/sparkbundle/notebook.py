"""The notebook server of the cluster on this machine: JupyterLab, begun when it is first opened.

It is a process of the cluster, and ends with it. Only this machine reaches it, with its token.
"""

import http.client
import importlib.util
import json
import os
import secrets
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sparkbundle import ports, state
from sparkbundle.daemons import ROLE_VARIABLE, clean_environment, last_lines, start_daemon
from sparkbundle.errors import PreflightError, SparkbundleError
from sparkbundle.files import make_private_directory, write_private
from sparkbundle.notebook_folder import fill
from sparkbundle.output import Step
from sparkbundle.ports import HOST
from sparkbundle.runtime import find_spark
from sparkbundle.state import ClusterPlace

ROLE: Final = "notebook"
_KERNEL: Final = "kernel"
_START_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_LAB_SETTINGS: Final = {
    # Nothing is asked of the network.
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    # Charts that have been scrolled away move on.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
}
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


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
        return f"{self.address}/lab?token={self.token}"

    def answers(self) -> bool:
        """Whether it is there, and it is this very server: it takes the token."""
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/api/status",
            headers={"Authorization": f"token {self.token}"},
        )
        try:
            with _OPENER.open(request, timeout=5.0) as answer:
                return bool(answer.status == http.client.OK)
        except (OSError, http.client.HTTPException):
            return False


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
    if state.read_record(place) is None:
        raise state.not_up(name)
    with state.lock(place, "open notebook"):
        found = server_of(place)
        if found is not None and found.answers():
            _require_same(found, folder, port)
            step.done(f"it runs already, in {found.folder}")
            return found
        _require_jupyter()
        folder = fill(folder or default_folder(), step=step)
        if port is not None:
            ports.require_free(port, option="--port")
        server = NotebookServer(
            port=port or ports.choose_free(), token=secrets.token_urlsafe(32), folder=str(folder)
        )
        _start(place, server)
        step.done(f"JupyterLab in {server.folder}")
        return server


def default_folder() -> Path:
    """Where notebooks are kept, if the user names no other place."""
    return Path.home() / "sparkbundle-notebooks"


def redirect_file(place: ClusterPlace, server: NotebookServer) -> Path:
    """A private page that leads to the server: on a command line others could read the token."""
    path = _directory(place) / "open.html"
    text = f'<!doctype html><meta http-equiv="refresh" content="0;url={server.url}">\n'
    write_private(path, text)
    return path


def _require_same(found: NotebookServer, folder: Path | None, port: int | None) -> None:
    asked = {"--folder": folder and str(folder.resolve()), "--port": port}
    is_now = {"--folder": found.folder, "--port": found.port}
    for option, value in asked.items():
        if value is not None and value != is_now[option]:
            raise PreflightError(
                f"the notebook server runs already, with {option} {is_now[option]}",
                todo=f"leave {option} out, or end the cluster first: sparkbundle down",
            )


def _require_jupyter() -> None:
    for module in ("jupyterlab", "jupyter_server_proxy", "ipykernel"):
        if importlib.util.find_spec(module) is None:
            raise PreflightError(
                f"{module} is not installed",
                where=sys.prefix,
                todo="install it: pip install 'sentiment[notebook]'",
            )


def _record(place: ClusterPlace) -> Path:
    return place.conf / "notebook.json"


def _directory(place: ClusterPlace) -> Path:
    return place.conf / "notebook"


def _start(place: ClusterPlace, server: NotebookServer) -> None:
    directory = _directory(place)
    for part in (directory, directory / "data", directory / "run", directory / "labconfig"):
        make_private_directory(part)
    kernels = write_kernels(place, directory / "data")
    settings = server_settings(place, server, kernels=kernels)
    write_private(directory / "jupyter_server_config.json", json.dumps(settings, indent=1))
    lab = directory / "labconfig" / "default_setting_overrides.json"
    write_private(lab, json.dumps(_LAB_SETTINGS, indent=1))
    write_private(_record(place), json.dumps(asdict(server)))
    process = start_daemon(
        place,
        role=ROLE,
        environment={
            **clean_environment(place, role=ROLE, spark=find_spark()),
            **_where(place),
            "JUPYTER_CONFIG_DIR": str(directory),
            "JUPYTER_DATA_DIR": str(directory / "data"),
            "JUPYTER_RUNTIME_DIR": str(directory / "run"),
            "IPYTHONDIR": str(directory / "ipython"),
        },
        command=[sys.executable, "-m", "jupyterlab"],
    )
    deadline = time.monotonic() + _START_SECONDS
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            log = place.log(ROLE)
            last = "\n".join(last_lines(log))
            process.terminate()
            raise SparkbundleError(
                f"the notebook server did not start\n{last}", where=str(log), todo=f"read {log}"
            )
        time.sleep(_POLL_SECONDS)


def write_kernels(place: ClusterPlace, data: Path) -> list[str]:
    """Write the kernels: one that takes executors when it needs them, and one with a worker.

    Returns their names.
    """
    from sentiment.kernel import ON_DEMAND, TITLE  # noqa: PLC0415 - its imports take seconds
    from sentiment.kernel import write_kernels as write  # noqa: PLC0415

    record = state.read_record(place)
    assert record is not None
    page = {"spark.ui.enabled": "true", "spark.ui.port": "0"}
    return write(
        data,
        profiles={
            TITLE: {**page, **ON_DEMAND},
            "PySpark (one worker)": {**page, "spark.cores.max": str(record.cores)},
        },
        environment={ROLE_VARIABLE: _KERNEL},
    )


def _where(place: ClusterPlace) -> dict[str, str]:
    """What tells commands in notebooks and terminals which cluster is meant."""
    return {
        "SPARKBUNDLE_CLUSTER": place.name,
        "SPARKBUNDLE_STATE": str(state.state_directory()),
        "SPARKBUNDLE_VECTORS": str(state.vectors_directory()),
    }


def server_settings(
    place: ClusterPlace, server: NotebookServer, *, kernels: list[str]
) -> dict[str, Any]:
    """The settings of Jupyter Server, jupyter-server-proxy and JupyterLab."""
    return {
        "ServerApp": {
            "ip": HOST,
            "port": server.port,
            "port_retries": 0,
            "open_browser": False,
            "root_dir": server.folder,
            # A page of another name that leads to this address is refused.
            "allow_remote_access": False,
            "allow_root": os.getuid() == 0,
        },
        "IdentityProvider": {"token": server.token},
        "KernelSpecManager": {"allowed_kernelspecs": kernels},
        "ServerProxy": {
            "host_allowlist": ["localhost", HOST],
            "servers": {"spark": _spark_tile(place.name), "tensorboard": _board_tile(server)},
        },
        # Nothing is asked of the network.
        "LabApp": {
            "news_url": None,
            "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
            "extension_manager": "readonly",
        },
    }


def _spark_tile(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "sparkbundle.tile", name, "{unix_socket}", "{base_url}spark"]
    return _tile("Spark", command)


def _board_tile(server: NotebookServer) -> dict[str, Any]:
    command = [sys.executable, "-m", "sentiment", "board", server.folder]
    return _tile("TensorBoard", [*command, "--socket", "{unix_socket}"])


def _tile(title: str, command: list[str]) -> dict[str, Any]:
    return {
        "command": command,
        "unix_socket": True,
        "timeout": _START_SECONDS,
        "new_browser_tab": True,
        "launcher_entry": {"title": title, "category": "Other"},
    }
