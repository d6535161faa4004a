"""The GPUs of a host: which of them its worker shall offer, and what is wrong with that.

`machine_gpus` chooses with the same words for the cluster on this machine.

What a host tells of its GPUs comes from `probe.gpus`, as a JSON object.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkbundle.inventory import Host

Told = Mapping[str, Any]
Wanted = str | int | tuple[str, ...]
"""auto, none, how many, or which: as `inventory_keys` reads it."""


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
    return chosen(host.gpus, told) if host.is_worker else ()


def chosen(wanted: Wanted, told: Told) -> tuple[str, ...]:
    """The addresses of those that are wanted and there, a card once, as it is asked for."""
    if wanted == "none":
        return ()
    if isinstance(wanted, tuple):
        names, found = named(told), dict[str, str]()
        for word in wanted:
            if word in names:
                found.setdefault(names[word], word)
        return tuple(found.values())
    addresses = tuple(told["addresses"])
    return addresses if wanted == "auto" else addresses[: int(wanted)]


def named(told: Told) -> dict[str, str]:
    """The address of each GPU by what somebody may call it: its address, its UUID."""
    uuids = {one.uuid: one.address for one in devices(told)}
    return uuids | {address: address for address in told["addresses"]}


def written(wanted: Wanted) -> str:
    """What is wanted in one word, as `gpu.py` takes it too: a list of one is no number."""
    if isinstance(wanted, tuple):
        return "".join(f"{address}," for address in wanted)
    return str(wanted)


def wrong(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """Why a host's worker cannot offer what the inventory asks for, and what to do."""
    if host.is_worker:
        yield from lacking(host.gpus, told, key="spark_gpus")


def lacking(wanted: Wanted, told: Told, *, key: str) -> Iterator[tuple[str, str]]:
    """Why what is wanted cannot be had, and what to do; `key` is what the user asked with."""
    if wanted == "none":
        return
    if told["fault"]:
        yield told["fault"], f"mend the driver, or set {key} to none"
        return
    there = told["addresses"]
    if isinstance(wanted, int) and wanted > len(there):
        short = f"{key} is {wanted}, nvidia-smi shows {len(there)}"
    elif isinstance(wanted, tuple) and (missing := set(wanted) - set(named(told))):
        gone = ", ".join(word for word in wanted if word in missing)
        short = f"{key} has {gone}, nvidia-smi shows {', '.join(there) or 'no GPU'}"
    else:
        yield from _twice(wanted, told, key=key)
        return
    if note := told.get("note"):
        yield f"{short}; {note}", f"do that, or correct {key}"
    else:
        yield short, f"mend the driver, or correct {key}"


def _twice(wanted: Wanted, told: Told, *, key: str) -> Iterator[tuple[str, str]]:
    """A card that a list has by its number and by its UUID."""
    if isinstance(wanted, tuple) and (more := set(wanted) - set(chosen(wanted, told))):
        yield f"{key} has a GPU twice: {', '.join(sorted(more))}", "name it once"


def warnings(host: Host, told: Told) -> Iterator[tuple[str, str]]:
    """What is worth a look: a card that nobody can use, memory that is taken already."""
    if host.is_worker and host.gpus == "auto" and told.get("note"):
        yield told["note"], "do that, or say spark_gpus: none"
    names, mine = named(told), offered(host, told)
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
