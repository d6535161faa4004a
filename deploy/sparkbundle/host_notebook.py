"""What the role `notebook` is given: the notebook server of a cluster of hosts."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import yaml

from sparkbundle.inventory import Inventory
from sparkbundle.kernels import kernel_file, kernel_specs, profiles
from sparkbundle.notebook_settings import (
    CONFIG_FILE,
    LAB_FILE,
    TILE_FILE,
    LabSettings,
    lab_settings,
    server_settings,
)
from sparkbundle.preflight import NOTEBOOK_PORTS, NOTEBOOK_PUBLIC_PORT
from sparkbundle.resources import roles
from sparkbundle.tile import Where

(PORT,) = NOTEBOOK_PORTS
SETTINGS: Final = "/etc/sparkbundle/notebook"
HOME: Final = "/var/lib/sparkbundle/notebook"
TOKEN: Final = f"{SETTINGS}/token"
RUNTIME: Final = "/run/spark-notebook"
UNIT: Final = "spark-notebook"
PUBLIC_UNIT: Final = "spark-notebook-public.socket"
_PROGRAMS: Final = "/opt/sparkbundle/libexec/notebook"
_PACKAGE: Final = Path(__file__).parent


def variables(
    inventory: Inventory, where: Where, *, cores: int, python: str, release: str
) -> dict[str, Any]:
    """The variables of the role; `cores` those of one worker, `release` the runtime's digest."""
    publication = inventory.publication
    specs = kernel_specs(profiles(cores=cores, own=inventory.notebook_profiles), python=python)
    lab = LabSettings(
        port=PORT,
        python=python,
        folder=f"{HOME}/notebooks",
        kernels=list(specs),
        tile_file=f"{SETTINGS}/{TILE_FILE}",
        tile_path=_PROGRAMS,
        name=publication.name if publication else None,
        certificate=f"{SETTINGS}/certificate.pem" if publication else None,
        key=f"{SETTINGS}/key.pem" if publication else None,
    )
    contents = {
        CONFIG_FILE: server_settings(lab),
        LAB_FILE: lab_settings(),
        TILE_FILE: asdict(where),
        **{kernel_file(name): spec for name, spec in specs.items()},
    }
    files = {name: json.dumps(content, indent=1) + "\n" for name, content in contents.items()}
    # What is around the PEM blocks may be in any encoding.
    certificate = publication.certificate.read_text("ascii", "replace") if publication else ""
    key = publication.key.read_text("ascii", "replace") if publication else ""
    started_with = (*files.values(), certificate, key, programs_text(), release, where.own)
    return {
        "files": files,
        "config": hashlib.sha256("\0".join(started_with).encode()).hexdigest()[:32],
        "port": PORT,
        "public_port": NOTEBOOK_PUBLIC_PORT if publication else 0,
        "certificate": certificate,
        "key": key,
    }


def programs_text() -> str:
    """All that the role brings along and the server runs: the modules of the tile, the units."""
    role = roles() / "notebook"
    names = yaml.safe_load((role / "vars" / "main.yml").read_text("utf-8"))["notebook_modules"]
    sandbox = roles() / "base" / "templates" / "sandbox.conf.j2"
    files = [*(_PACKAGE / name for name in names), *sorted((role / "templates").iterdir()), sandbox]
    return "\0".join(path.read_text("utf-8") for path in files)
