"""Workers that add their gradients up at every step, over torch.distributed's gloo.

They meet at a store that one of them serves, on the address that it has in the cluster; all
of their traffic is on the interfaces of those addresses.
"""

import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist

from sentiment.loop import SumGradients
from sentiment.network import SentimentNetwork

TIMEOUT: Final = timedelta(seconds=60)
"""A worker gives up without a word from a peer for so long; a peer that ends is noticed at once."""
_INTERFACE: Final = "GLOO_SOCKET_IFNAME"
_SIOCGIFADDR: Final = 0x8915
"""netdevice(7): the IPv4 address of an interface."""


@dataclass(frozen=True)
class Meeting:
    """Where the workers of a round meet, and which of how many this one is."""

    address: str
    port: int
    rank: int
    size: int


def listener(address: str) -> socket.socket:
    """A socket on a free port of this address and no other, for the store of a meeting."""
    return socket.create_server((address, 0))


@contextmanager
def met(meeting: Meeting, *, address: str, serving: socket.socket | None) -> Iterator[SumGradients]:
    """What sums gradients with the workers that have come to the meeting.

    `address` is this worker's own; `serving` the first worker's `listener`.

    Raises:
        RuntimeError: a peer does not come, or goes away (torch.distributed).
    """
    os.environ[_INTERFACE] = _interface_of(address)
    store = dist.TCPStore(  # type: ignore[attr-defined]
        meeting.address,
        meeting.port,
        meeting.size,
        is_master=serving is not None,
        timeout=TIMEOUT,
        master_listen_fd=serving.detach() if serving is not None else None,
    )
    dist.init_process_group(
        "gloo", store=store, rank=meeting.rank, world_size=meeting.size, timeout=TIMEOUT
    )
    try:
        yield _sum_gradients
    finally:
        dist.destroy_process_group()


def _sum_gradients(network: SentimentNetwork) -> float:
    """Add every worker's gradients to this network's; the seconds that it took.

    Of the word vectors only rows travel that a review of the step has, on whichever worker.
    """
    started = time.perf_counter()
    vectors = network.embedding.weight
    others = [p for p in network.parameters() if p.requires_grad and p is not vectors]
    parts = [_gradient(p).flatten() for p in others]
    rows = _rows_in_use(vectors) if vectors.requires_grad else None
    if rows is not None:
        parts.append(_gradient(vectors)[rows].flatten())
    together = torch.cat(parts)
    dist.all_reduce(together)
    start = 0
    for parameter in others:
        end = start + parameter.numel()
        _gradient(parameter).copy_(together[start:end].view_as(parameter))
        start = end
    if rows is not None:
        _gradient(vectors)[rows] = together[start:].view(len(rows), -1)
    return time.perf_counter() - started


def _rows_in_use(vectors: torch.nn.Parameter) -> torch.Tensor:
    """The rows of word vectors that have a gradient on any worker, int64."""
    used = _gradient(vectors).any(dim=1).to(torch.uint8)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    return used.nonzero().flatten()


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
