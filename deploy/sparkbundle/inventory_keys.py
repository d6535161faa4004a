"""The keys of an inventory that are ours, and what their values must be.

A parser takes a value as YAML gives it, returns what the cluster uses, and raises
ValueError with the words for the user.
"""

import difflib
import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparkbundle.errors import PreflightError
from sparkbundle.machine import MINIMUM_MIB, parse_size
from sparkbundle.state import cluster_place
from sparkbundle.wheelhouse_lock import BUILDS

_LAST_PORT = 65535
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9._:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][^\s@:/]*")
_SETTING = re.compile(r"spark\.[^\s=:#!\\]+")
_TITLE = re.compile(r"\S(.{0,58}\S)?")
# At least one dot, and no number at the end: an address is no name in a certificate.
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DNS_NAME = re.compile(rf"({_LABEL}\.)+(?!\d+$){_LABEL}")
# The number or UUID of a GPU, the UUID of a MIG instance; MIG-GPU-…/1/0 with older drivers.
_GPU = re.compile(r"0|[1-9]\d{0,2}|(GPU|MIG)-[A-Za-z0-9][A-Za-z0-9/-]{0,90}", re.ASCII)
_UNREADABLE = ("__ansible_vault", "__ansible_unsafe")

# Ansible takes them, too, and would then go where nobody else goes.
OLD_NAMES = {
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
    "ansible_private_key_file": "ansible_ssh_private_key_file",
}

# Beginnings of Spark settings that are refused, with the reason.
_PROTECTION = "it protects the cluster and is always on"
_OURS = "it is set for you"
_REFUSED = {
    "spark.authenticate": _PROTECTION,
    "spark.network.crypto.": _PROTECTION,
    "spark.network.sasl.": _PROTECTION,
    "spark.ui.filters": _PROTECTION,
    "spark.org.apache.spark.ui.JWSFilter.": _PROTECTION,
    "spark.ui.killEnabled": "killing from a web page stays off: it is `cancel` that stops a job",
    "spark.master.rest.": "the REST server asks for no password and stays off",
    "spark.deploy.recovery": _OURS,
    "spark.port.maxRetries": "a port that is taken must be an error",
    "spark.driver.host": _OURS,
    "spark.driver.bindAddress": _OURS,
    "spark.worker.idPattern": "the check after `up` knows workers by it",
    "spark.worker.resource.gpu.": "use spark_gpus",
    "spark.worker.resourcesFile": "use spark_gpus",
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key: its parser, and whether it is one for the whole cluster or for workers only."""

    parse: Callable[[Any], Any]
    whole_cluster: bool = False
    workers_only: bool = False


def known(name: str) -> bool:
    """Whether an inventory may have a variable of this name."""
    return name in KEYS or (name.startswith("ansible_") and name not in OLD_NAMES)


def is_word(text: str) -> bool:
    """Whether a text can be a host's name or a label: letters, digits, - . and _, at most 63."""
    return _WORD.fullmatch(text) is not None


def guess(word: str, words: Iterable[str]) -> str:
    """A question for the nearest of some words, empty if none is near."""
    near = difflib.get_close_matches(word, sorted(words), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def hint(name: str) -> str:
    """What to write instead of an unknown variable."""
    if name in OLD_NAMES:
        return f"write {OLD_NAMES[name]!r}"
    if name.startswith("spark."):
        return "Spark's own settings belong under spark_settings"
    return guess(name, KEYS) or "docs/inventory.md has all of them"


def parse(name: str, value: object) -> Any:
    """The value of one of our keys as the cluster uses it.

    Raises:
        ValueError: it is no such value, or one that only Ansible could read.
        KeyError: the key is not ours.
    """
    if value is None:
        raise ValueError("has no value")
    if _templated(value):
        raise ValueError("a Jinja template is not filled in here: write the plain value")
    if isinstance(value, dict) and any(tag in value for tag in _UNREADABLE):
        raise ValueError("an encrypted or unsafe value cannot be used here: write the plain value")
    return KEYS[name].parse(value)


def parse_setting(name: object, value: object) -> str:
    """The value of one Spark setting as text.

    Raises:
        ValueError: no such setting may be given, or not with this value.
    """
    if not isinstance(name, str) or not _SETTING.fullmatch(name):
        raise ValueError("the name of a setting starts with 'spark.' and has no space, = or :")
    if _templated(name):
        raise ValueError("a Jinja template is not filled in here: write the plain name")
    if name == "spark.master":
        raise ValueError(f"cannot be set: {_OURS}")
    for start, reason in _REFUSED.items():
        if name.startswith(start):
            raise ValueError(f"cannot be set: {reason}")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{_short(value)} is not a number that Spark reads")
    if not isinstance(value, str | int | float):
        raise ValueError(f"{_short(value)} is not a text, a number, true or false")
    if _templated(value):
        raise ValueError("a Jinja template is not filled in here: write the plain value")
    # A control character would end the line in a properties file, or be lost there.
    if not str(value).isprintable():
        raise ValueError("has a line break or another control character in its value")
    return str(value)


def _templated(value: object) -> bool:
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return any(map(_templated, (*value, *value.values())))
    return isinstance(value, list) and any(map(_templated, value))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004


def _settings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{_short(value)} is not a mapping of Spark settings")
    settings = {}
    for name, given in value.items():
        try:
            settings[name] = parse_setting(name, given)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return settings


def _cluster_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is not a text: put it in quotes")
    try:
        cluster_place(value)
    except PreflightError as error:
        raise ValueError(f"{error.what}: {error.todo}") from None
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{_short(value)} is not true or false")
    return value


def _port(value: object) -> int:
    # Ansible takes a port in quotes as well.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:  # noqa: PLR2004
        value = int(value)
    if type(value) is not int or not 1 <= value <= _LAST_PORT:
        raise ValueError(f"{_short(value)} is not a port from 1 to {_LAST_PORT}")
    return value


def _cores(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{_short(value)} is not a number of cores, 1 or more")
    return value


def _memory(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{_short(value)} is not a size such as 6g or 1536m")
    mib = parse_size(value)
    if mib < MINIMUM_MIB:
        raise ValueError(f"{value} is too little: Spark needs {MINIMUM_MIB}m")
    return mib


def _gpus(value: object) -> str | int | tuple[str, ...]:
    if value in ("auto", "none"):
        return str(value)
    if isinstance(value, list):
        return _unique(map(_gpu, value)) or "none"
    if type(value) is not int or value < 0:
        raise ValueError(f"{_short(value)} is not auto, none or a number of GPUs, nor a list")
    return value or "none"


def _torch_build(value: object) -> str:
    if value not in ("auto", *BUILDS):
        raise ValueError(f"{_short(value)} is not auto, {' or '.join(BUILDS)}")
    return str(value)


def _gpu(value: object) -> str:
    address = str(value) if type(value) is int else value
    if not isinstance(address, str) or not _GPU.fullmatch(address):
        raise ValueError(
            f"{_short(value)} is no GPU: write its number or UUID as `nvidia-smi -L` shows it"
        )
    return address


def _unique(values: Iterable[Any]) -> tuple[Any, ...]:
    seen = tuple(values)
    for value in seen:
        if seen.count(value) > 1:
            raise ValueError(f"{value!r} is in the list twice")
    return seen


def _labels(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{_short(value)} is not a list: write [fast, ssd]")
    for word in value:
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise ValueError(f"{_short(word)} is not a word of letters, digits, - . and _")
    return _unique(value)


def _ports(value: object) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{_short(value)} is not a list of ports: write [80, 443]")
    return _unique(map(_port, value))


def _deb(value: object) -> str:
    if not isinstance(value, str) or not value.endswith(".deb") or "://" in value:
        raise ValueError(f"{_short(value)} is not the path of a local .deb file")
    return value


def _host_name(value: object) -> str:
    if not isinstance(value, str) or not _DNS_NAME.fullmatch(value):
        raise ValueError(f"{_short(value)} is not a name such as notebook.example.org")
    return value.lower()


def _file(value: object) -> str:
    if not isinstance(value, str) or not value or "://" in value:
        raise ValueError(f"{_short(value)} is not the path of a local file")
    return value


def _profiles(value: object) -> dict[str, dict[str, str]]:
    if not isinstance(value, dict):
        raise ValueError(f"{_short(value)} is not a mapping of profiles")
    profiles = {}
    for title, given in value.items():
        if not isinstance(title, str) or not _TITLE.fullmatch(title) or not title.isprintable():
            raise ValueError(f"{_short(title)} is not a title of 1 to 60 characters")
        try:
            profiles[title] = _settings(given)
        except ValueError as error:
            raise ValueError(f"{title}: {error}") from None
    return profiles


def _address(value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"{_short(value)} is not an IPv4 address or a host's name")
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        if re.fullmatch(r"[\d.]+", value):
            raise ValueError(f"{value!r} is not an IPv4 address") from None
        return value
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{value} is not the address of one host")
    return value


def _ssh_host(value: object) -> str:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise ValueError(f"{_short(value)} is not an address or a host's name")
    return value


def _ssh_user(value: object) -> str:
    if not isinstance(value, str) or not _USER.fullmatch(value):
        raise ValueError(f"{_short(value)} is not the name of a user")
    return value


def _ssh_key(value: object) -> str:
    # Ansible takes a relative path from wherever it is started.
    if not isinstance(value, str) or not value.startswith(("/", "~")):
        raise ValueError(f"{_short(value)} is not an absolute path, or one that starts with ~")
    try:
        found = Path(value).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no such user, a null byte
        found = False
    if not found:
        raise ValueError(f"there is no file {value}")
    return value


def _ssh_only(value: object) -> str:
    if value != "ssh":
        raise ValueError(f"{_short(value)} is not ssh: only SSH hosts can be used")
    return "ssh"


KEYS = {
    "cluster_name": Key(parse=_cluster_name, whole_cluster=True),
    "spark_settings": Key(parse=_settings, whole_cluster=True),
    "firewall": Key(parse=_truth, whole_cluster=True),
    "firewall_open_ports": Key(parse=_ports, whole_cluster=True),
    "java_deb": Key(parse=_deb, whole_cluster=True),
    "notebook_profiles": Key(parse=_profiles, whole_cluster=True),
    "notebook_name": Key(parse=_host_name, whole_cluster=True),
    "notebook_certificate": Key(parse=_file, whole_cluster=True),
    "notebook_key": Key(parse=_file, whole_cluster=True),
    "spark_cores": Key(parse=_cores, workers_only=True),
    "spark_memory": Key(parse=_memory, workers_only=True),
    "spark_gpus": Key(parse=_gpus, workers_only=True),
    "spark_labels": Key(parse=_labels, workers_only=True),
    "torch_build": Key(parse=_torch_build),
    "spark_address": Key(parse=_address),
    "ansible_host": Key(parse=_ssh_host),
    "ansible_port": Key(parse=_port),
    "ansible_user": Key(parse=_ssh_user),
    "ansible_ssh_private_key_file": Key(parse=_ssh_key),
    "ansible_connection": Key(parse=_ssh_only),
}
