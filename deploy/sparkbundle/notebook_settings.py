"""What a notebook server is told: here and on hosts, by the same settings of Jupyter's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sparkbundle.kernels import NAME
from sparkbundle.ports import HOST

START_SECONDS: Final = 60.0
CONFIG_FILE: Final = "jupyter_server_config.json"
LAB_FILE: Final = "labconfig/default_setting_overrides.json"
TILE_FILE: Final = "tile.json"


@dataclass(frozen=True, kw_only=True)
class LabSettings:
    """What differs from one server to the next.

    `python` runs the tiles, `folder` is the one that is shown, `kernels` the names of those that
    may be started. `tile_file` is the tile's `Where`, `tile_path` a folder to import sparkbundle
    from (None: it is installed). `token` is None where $JUPYTER_TOKEN_FILE has it.
    `name`, `certificate` and `key`: at which name the server is published with TLS, and its files.
    """

    port: int
    python: str
    folder: str
    kernels: Sequence[str]
    tile_file: str
    tile_path: str | None = None
    token: str | None = field(default=None, repr=False)
    root: bool = False
    name: str | None = None
    certificate: str | None = None
    key: str | None = None


def server_settings(lab: LabSettings) -> dict[str, Any]:
    """The settings of Jupyter Server, jupyter-server-proxy and JupyterLab."""
    published = {} if lab.name is None else {"certfile": lab.certificate, "keyfile": lab.key}
    return {
        "ServerApp": {
            "ip": HOST,
            "port": lab.port,
            "port_retries": 0,
            "open_browser": False,
            "root_dir": lab.folder,
            # A page of another name that leads to this address is refused.
            "allow_remote_access": False,
            "local_hostnames": ["localhost"] if lab.name is None else ["localhost", lab.name],
            "allow_root": lab.root,
            **published,
        },
        **({} if lab.token is None else {"IdentityProvider": {"token": lab.token}}),
        # A kernel's sockets are open to all users of the machine.
        "KernelManager": {"transport_encryption": "required"},
        "MultiKernelManager": {"default_kernel_name": NAME},
        "KernelSpecManager": {"allowed_kernelspecs": list(lab.kernels)},
        "ServerProxy": {
            "host_allowlist": ["localhost", HOST],
            "servers": {"spark": _spark_tile(lab), "tensorboard": _board_tile(lab)},
        },
        # Nothing is asked of the network.
        "LabApp": {
            "news_url": None,
            "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
            "extension_manager": "readonly",
        },
    }


def lab_settings() -> dict[str, Any]:
    """What JupyterLab's own pages are told, in place of their defaults."""
    return {
        # Nothing is asked of the network.
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
        },
        # Charts that have been scrolled away move on.
        "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    }


def _spark_tile(lab: LabSettings) -> dict[str, Any]:
    program = [lab.python, "-m", "sparkbundle.tile"]
    tile = _tile("Spark", [*program, lab.tile_file, "{unix_socket}", "{base_url}spark"])
    return tile if lab.tile_path is None else {**tile, "environment": {"PYTHONPATH": lab.tile_path}}


def _board_tile(lab: LabSettings) -> dict[str, Any]:
    command = [lab.python, "-m", "sentiment", "board", lab.folder]
    return _tile("TensorBoard", [*command, "--socket", "{unix_socket}"])


def _tile(title: str, command: Sequence[str]) -> dict[str, Any]:
    return {
        "command": list(command),
        "unix_socket": True,
        "timeout": START_SECONDS,
        "new_browser_tab": True,
        "launcher_entry": {"title": title, "category": "Other"},
    }
