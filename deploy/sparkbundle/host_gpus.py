"""The GPUs of a host: which of them its worker shall offer, and what is wrong with that.

What a host tells of its GPUs comes from `probe.gpus`, as a JSON object.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkbundle.inventory import Host

Told = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU or a MIG instance; what is not known is None or empty.

    `address`: as CUDA_VISIBLE_DEVICES takes it. `memory_mib`: all of it; `free_mib`: now.
    `utilization`: percent of the last moment in which something ran on it.
    """

    address: str
    uuid: str
    name: str
    driver: str
    memory_mib: int | None
    free_mib: int | None
    utilization: int | None = None


def devices(told: Told) -> tuple[Gpu, ...]:
    """The GPUs that a host has."""
    return tuple(Gpu(**one) for one in told.get("devices", ()))


def offered(host: Host, told: Told) -> tuple[str, ...]:
    """The addresses that a host's worker shall offer, in nvidia-smi's order or the inventory's.

    The same choice is made on the host at every start of the worker: `roles/gpu/files/gpu.py`.
    """
    if host.gpus == "none" or not host.is_worker:
        return ()
    if isinstance(host.gpus, tuple):
        names, chosen = _names(told), dict[str, str]()
        for word in host.gpus:
            if word in names:
                chosen.setdefault(names[word], word)
        return tuple(chosen.values())
    addresses = tuple(told["addresses"])
    return addresses if host.gpus == "auto" else addresses[: int(host.gpus)]


def _names(told: Told) -> dict[str, str]:
    """The address of each GPU by what an inventory may call it: its address, its UUID."""
    uuids = {one.uuid: one.address for one in devices(told)}
    return uuids | {address: address for address in told["addresses"]}


def wanted(host: Host) -> str:
    """The GPUs of the inventory as `gpu.py` takes them: a list of one is no number."""
    if isinstance(host.gpus, tuple):
        return "".join(f"{address}," for address in host.gpus)
    return str(host.gpus)


def wrong(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """Why a host's worker cannot offer what the inventory asks for, and what to do."""
    if not host.is_worker or host.gpus == "none":
        return
    if told["fault"]:
        yield told["fault"], "mend the driver, or say spark_gpus: none"
        return
    there = told["addresses"]
    if isinstance(host.gpus, int) and host.gpus > len(there):
        short = f"spark_gpus is {host.gpus}, nvidia-smi shows {len(there)}"
    elif isinstance(host.gpus, tuple) and (missing := set(host.gpus) - set(_names(told))):
        gone = ", ".join(word for word in host.gpus if word in missing)
        short = f"spark_gpus has {gone}, nvidia-smi shows {', '.join(there) or 'no GPU'}"
    else:
        yield from _twice(host, told)
        return
    if note := told.get("note"):
        yield f"{short}; {note}", "do that, or correct spark_gpus"
    else:
        yield short, "mend the driver, or correct spark_gpus"


def _twice(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """A card that a list has by its number and by its UUID."""
    if isinstance(host.gpus, tuple) and (more := set(host.gpus) - set(offered(host, told))):
        yield f"spark_gpus has a GPU twice: {', '.join(sorted(more))}", "name it once"


def warnings(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """What is worth a look: a card that nobody can use, memory that is taken already."""
    if host.is_worker and host.gpus == "auto" and told.get("note"):
        yield told["note"], "do that, or say spark_gpus: none"
    names, mine = _names(told), offered(host, told)
    addresses = {names[word] for word in mine}
    for gpu in devices(told):
        if gpu.address in addresses and _is_taken(gpu):
            yield (
                f"GPU {gpu.address} ({gpu.name}): {gpu.free_mib} of {gpu.memory_mib} MiB are free, "
                "the rest is somebody's",
                "nvidia-smi there shows whose: a job of this cluster, or another program to stop",
            )


def _is_taken(gpu: Gpu) -> bool:
    """Whether less than half of its memory is free, as far as is known."""
    if gpu.free_mib is None or gpu.memory_mib is None:
        return False
    return 2 * gpu.free_mib < gpu.memory_mib


def shown(addresses: Sequence[str], there: Sequence[Gpu]) -> str:
    """Some GPUs in a few words: 2 × NVIDIA L4; by their addresses where a name is not known."""
    names = {one.uuid: one.name for one in there} | {one.address: one.name for one in there}
    if not addresses:
        return "-"
    if any(address not in names for address in addresses):
        return ",".join(addresses)
    kinds = Counter(names[address] for address in addresses)
    return " + ".join(f"{count} × {name}" for name, count in kinds.items())


def in_use(addresses: Sequence[str], there: Sequence[Gpu], *, held: int) -> str:
    """What is held and used of some GPUs, together: 1 held, 37 % busy, 3.1 of 24.0 GiB.

    Empty, or without what is not known of all of them.
    """
    known = {one.uuid: one for one in there} | {one.address: one for one in there}
    mine = [known[address] for address in addresses if address in known]
    parts = [f"{held} held"] if held else []
    if mine and len(mine) == len(addresses):
        parts += [*_busy(mine), *_memory(mine)]
    return ", ".join(parts)


def _busy(gpus: Sequence[Gpu]) -> Iterator[str]:
    percents = [one.utilization for one in gpus if one.utilization is not None]
    if len(percents) == len(gpus):
        yield f"{sum(percents) / len(gpus):.0f} % busy"


def _memory(gpus: Sequence[Gpu]) -> Iterator[str]:
    pairs = [
        (one.memory_mib - one.free_mib, one.memory_mib)
        for one in gpus
        if one.memory_mib is not None and one.free_mib is not None
    ]
    if len(pairs) == len(gpus):
        used, total = (sum(column) / 1024 for column in zip(*pairs, strict=True))
        yield f"{used:.1f} of {total:.1f} GiB"
