"""The NVIDIA GPUs of this machine, for the cluster on it: which worker offers which.

They are found and named as on hosts (`probe`, `host_gpus`). No two workers offer the same one,
those of other clusters on this machine included.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sparkbundle import host_gpus, inventory_keys, probe
from sparkbundle.errors import PreflightError
from sparkbundle.host_gpus import Told, Wanted
from sparkbundle.state import ClusterPlace

OPTION = "--gpus"
_FILE = "{worker}.gpus.json"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The addresses of the GPUs that the workers shall offer, all together, and why not more.

    `asked`: what they were chosen by. `fault`: why there are none where the driver fails.
    `held`: which were left to other clusters.
    """

    asked: Wanted
    offered: tuple[str, ...] = ()
    fault: str = ""
    held: str = ""


def parse(value: object) -> Wanted:
    """What `--gpus` or a file of settings asks for: auto, none, 2; "0,2" or [0, 2]; "0," is a list.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str) and value not in {"auto", "none"}:
        text = value.strip()
        decimal = text.isascii() and text.isdecimal()
        value = int(text) if decimal else [*map(str.strip, text.removesuffix(",").split(","))]
    elif isinstance(value, tuple):  # it is parsed already
        value = [*value]
    wanted: Wanted = inventory_keys.parse("spark_gpus", value)
    return wanted


def choose(wanted: Wanted, *, place: ClusterPlace) -> Choice:
    """The GPUs for the workers of a cluster. A driver that fails is no error where auto asks.

    Raises:
        PreflightError: there are not so many, or not those; a driver fails, or another cluster
            of this machine offers them.
    """
    if wanted == "none":
        return Choice(asked=wanted)
    told: Told = probe.gpus()
    if wanted == "auto" and (fault := _fault(told)):
        return Choice(asked=wanted, fault=fault)
    for what, todo in host_gpus.lacking(wanted, told, key=OPTION):
        raise PreflightError(what, todo=todo)
    names = host_gpus.named(told)
    held = {names[word]: by for word, by in _held_by_others(place).items() if word in names}
    free = [address for address in told["addresses"] if address not in held]
    _require_free(wanted, names=names, free=free, held=held)
    offered = host_gpus.chosen(wanted, {**told, "addresses": free})
    return Choice(asked=wanted, offered=offered, held=_told_of(held) if wanted == "auto" else "")


def _fault(told: Told) -> str:
    """Why a driver that is there has no GPU. A card without driver is no matter of this cluster."""
    alone = told["note"] if told["note"] == probe.NO_CARD else ""
    return str(told["fault"] or alone)


def _held_by_others(place: ClusterPlace) -> dict[str, str]:
    """The name of the cluster by each GPU that a worker of another cluster here offers.

    The files are read that those workers are given: they are there before the workers start,
    and until `down` has ended them.
    """
    held: dict[str, str] = {}
    for file in sorted(place.directory.parent.glob(f"*/conf/{_FILE.format(worker='*')}")):
        name = file.parents[1].name
        if name != place.name:
            with suppress(OSError, ValueError, KeyError, TypeError):  # just gone, or damaged
                for entry in json.loads(file.read_text(encoding="utf-8")):
                    held |= dict.fromkeys(entry["addresses"], name)
    return held


def _require_free(
    wanted: Wanted, *, names: Mapping[str, str], free: Sequence[str], held: Mapping[str, str]
) -> None:
    if isinstance(wanted, tuple):
        short = any(names[word] in held for word in wanted)
    else:
        short = isinstance(wanted, int) and wanted > len(free)
    if short:
        asked = host_gpus.written(wanted).removesuffix(",")
        raise PreflightError(
            f"{OPTION} is {asked}, but {_told_of(held)}",
            todo=f"ask for others, or: sparkbundle down --name {sorted(held.values())[0]}",
        )


def _told_of(held: Mapping[str, str]) -> str:
    return "; ".join(f"cluster {by!r} offers GPU {address}" for address, by in held.items())


def dealt(gpus: Sequence[str], *, workers: int) -> tuple[tuple[str, ...], ...]:
    """The GPUs of each worker, dealt out like cards: the first to the first worker, and so on."""
    return tuple(tuple(gpus[number::workers]) for number in range(workers))


def resources_file(place: ClusterPlace, worker: str) -> Path:
    """The file from which a worker reads its GPUs when it starts."""
    return place.conf / _FILE.format(worker=worker)


def resources_text(addresses: Sequence[str]) -> str:
    """What is in it: a JSON array of ResourceAllocation.

    Source: Spark, ResourceUtils.parseAllocatedFromJsonFile.
    """
    name = {"componentName": "spark.worker", "resourceName": "gpu"}
    return json.dumps([{"id": name, "addresses": list(addresses)}])
