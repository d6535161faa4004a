"""Workers that add their gradients up at every step, over torch.distributed: gloo, or NCCL.

They meet at a store that the driver serves, on the address at which executors reach it; all
of their traffic is on the interfaces of the addresses that they have in the cluster.
"""

import fcntl
import itertools
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import torch
import torch.distributed as dist

from sentiment.device import ON_CPU
from sentiment.loop import SumGradients
from sentiment.network import SentimentNetwork

TIMEOUT: Final = timedelta(seconds=60)
"""A worker gives up without a word from a peer for so long; a peer that ends is noticed at once."""
_INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_SIOCGIFADDR: Final = 0x8915
"""netdevice(7): the IPv4 address of an interface."""


@dataclass(frozen=True)
class Meeting:
    """Where the workers of a round meet: the driver's address, and a name that is used once.

    `nccl`: each has a GPU of its own, and they add up what is there.
    """

    address: str
    port: int
    name: str
    size: int
    nccl: bool = False


class MeetingPlace:
    """The store that the driver serves, on one address and a free port."""

    def __init__(self, address: str, *, bind: str | None = None) -> None:
        """Serve until this object is gone.

        `address`: where workers reach the driver; `bind`: its own address, if that is another.

        Raises:
            OSError: the address to bind is not this host's.
        """
        self._address = address
        bind = bind or address
        with socket.create_server((bind, 0)) as listener:
            self._port = listener.getsockname()[1]
            self._store = dist.TCPStore(  # type: ignore[attr-defined]
                bind,
                self._port,
                is_master=True,
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            )
        self._names = itertools.count()

    def meeting(self, size: int, *, nccl: bool = False) -> Meeting:
        """A new one, of so many workers."""
        return Meeting(self._address, self._port, str(next(self._names)), size, nccl)


@contextmanager
def met(
    meeting: Meeting, *, rank: int, address: str, device: torch.device = ON_CPU
) -> Iterator[SumGradients]:
    """What sums gradients with the workers that have come to the meeting.

    `rank`: which of them this one is; `address`: its own; `device`: where its gradients are.

    Raises:
        RuntimeError: a peer does not come, or goes away (torch.distributed).
    """
    interface = _interface_of(address)
    os.environ.update(dict.fromkeys(_INTERFACES, interface))
    served = dist.TCPStore(  # type: ignore[attr-defined]
        meeting.address, meeting.port, is_master=False, timeout=TIMEOUT
    )
    store = dist.PrefixStore(meeting.name, served)  # type: ignore[attr-defined]
    dist.init_process_group(
        "nccl" if meeting.nccl else "gloo",
        store=store,
        rank=rank,
        world_size=meeting.size,
        timeout=TIMEOUT,
        device_id=device if meeting.nccl else None,
    )
    try:
        yield _sum_gradients
    finally:
        dist.destroy_process_group()


def _sum_gradients(network: SentimentNetwork) -> float:
    """Add every worker's gradients to this network's; the seconds that it took.

    Of the word vectors and n-grams only rows travel that a review of the step has, on whichever
    worker.
    """
    started = time.perf_counter()
    sparse = [module.weight for module in (network.embedding, network.ngrams) if module is not None]
    rows = {id(p): _rows_in_use(p) for p in sparse if p.requires_grad}
    parameters = [p for p in network.parameters() if p.requires_grad]
    parts = [_gradient(p)[rows.get(id(p), slice(None))] for p in parameters]
    together = _summed(torch.cat([part.flatten() for part in parts]))
    sums = torch.split(together, [part.numel() for part in parts])
    for parameter, part, summed in zip(parameters, parts, sums, strict=True):
        _gradient(parameter)[rows.get(id(parameter), slice(None))] = summed.view_as(part)
    return time.perf_counter() - started


def _summed(values: torch.Tensor) -> torch.Tensor:
    """The sum of every worker's values, where these are. gloo's travel by the CPU's memory."""
    there = values if _on_gpus() else values.cpu()
    dist.all_reduce(there)
    return there.to(values.device)


def _rows_in_use(weights: torch.nn.Parameter) -> torch.Tensor:
    """The rows that have a gradient on any worker, int64. What travels is a bit a row.

    With NCCL, which knows no OR of bits, a byte.
    """
    used = _gradient(weights).any(dim=1)
    if _on_gpus():
        there = used.to(torch.uint8)
        dist.all_reduce(there, op=dist.ReduceOp.MAX)
        return there.nonzero().flatten()
    bits = np.packbits(used.cpu().numpy())
    dist.all_reduce(torch.from_numpy(bits), op=dist.ReduceOp.BOR)
    rows = np.flatnonzero(np.unpackbits(bits, count=len(weights)))
    return torch.from_numpy(rows).to(weights.device)


def _on_gpus() -> bool:
    return str(dist.get_backend()) == "nccl"


def _gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _interface_of(address: str) -> str:
    """The name of the network interface that has this address.

    Raises:
        RuntimeError: none has it.
    """
    wanted = socket.inet_aton(socket.gethostbyname(address))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                told = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if told[20:24] == wanted:
                    return name
    raise RuntimeError(f"no network interface of this host has the address {address}")
