"""Proof that the GPUs of a cluster's workers compute: a program on each of them, in torch."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sparkbundle.errors import SparkbundleError
from sparkbundle.host_plan import ClusterPlan
from sparkbundle.host_proof import Unit, run_as
from sparkbundle.hosts import Answer, Hosts
from sparkbundle.inventory import Host

_SCRIPT: Final = Path(__file__).with_name("gpu_proof.py")
# In the sandbox that the worker and its executors have.
_UNIT: Final = Unit(user="sparkjob", name="spark-gpu-proof")
_PATH: Final = "/opt/sparkbundle/current/bin:/usr/local/bin:/usr/bin:/bin"
_LEAST_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class GpuProof:
    """What `gpu_proof.py` found of the GPU at an address; see its `Proof`."""

    address: str
    error: str = ""
    torch: str = ""
    cuda: str = ""
    name: str = ""
    capability: str = ""
    total_mib: int | None = None
    free_mib: int | None = None
    fp32_tflops: float | None = None
    bf16_tflops: float | None = None
    peak_tflops: float | None = None
    exact: bool | None = None
    plausible: bool | None = None

    @property
    def lacks_cuda(self) -> bool:
        """Whether nothing is known of the GPU, as torch on its host was built without CUDA."""
        return bool(self.torch) and not self.cuda

    @property
    def fault(self) -> str:
        """What is wrong with it, empty where it is proven."""
        if self.error:
            return self.error
        if not self.exact:
            return "a product of whole numbers is wrong"
        if self.plausible is False:
            return (
                f"{self.fp32_tflops:.1f} TFLOP/s in fp32, where {self.peak_tflops:.1f} are the most"
            )
        return ""


Proofs = Mapping[str, Sequence[GpuProof]]


def verify_gpus(hosts: Hosts, plan: ClusterPlan, *, timeout: float) -> dict[str, list[GpuProof]]:
    """Try every GPU that a worker offers, by host: hosts at once, their GPUs one by one.

    Each host has `timeout` seconds. What fails is in the proofs, and is no error.
    """
    offering = [hosts.inventory.host(name) for name, host in plan.workers.items() if host.gpus]

    def of_host(host: Host) -> list[GpuProof]:
        until = time.monotonic() + timeout
        return [_prove(hosts, host, one, until=until) for one in plan.workers[host.name].gpus]

    found: dict[str, list[GpuProof]] = {}
    for name, told in (hosts.each(of_host, offering) if offering else {}).items():
        assert not isinstance(told, SparkbundleError)
        found[name] = told
    return found


def _prove(hosts: Hosts, host: Host, address: str, *, until: float) -> GpuProof:
    seconds = until - time.monotonic()
    if seconds < _LEAST_SECONDS:
        return GpuProof(address=address, error="not tried: those before it took all the time")
    environment = {
        "PATH": _PATH,
        "HOME": "/tmp",  # noqa: S108 - the unit's own
        "CUDA_VISIBLE_DEVICES": address,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }
    try:
        answer = run_as(
            hosts,
            host,
            ["-"],
            unit=_UNIT,
            script=_SCRIPT.read_bytes(),
            environment=environment,
            timeout=seconds,
        )
    except SparkbundleError as error:
        return GpuProof(address=address, error=error.what)
    if answer.code and time.monotonic() >= until:
        return GpuProof(address=address, error=f"no answer within {seconds:.0f} s")
    return parse_proof(answer, address=address)


def parse_proof(answer: Answer, *, address: str) -> GpuProof:
    """What the program said, or that it said nothing: it crashed, or was ended."""
    try:
        return GpuProof(address=address, **json.loads(answer.out.splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        last = (answer.err.strip().splitlines() or ["it said nothing"])[-1]
        return GpuProof(address=address, error=f"exit code {answer.code}: {last}")


def summary(proofs: Proofs) -> str:
    """How many are proven, and how fast each kind is: 2 GPUs proven: 2 × NVIDIA L4, 14.1 TFLOP/s.

    Of some of a kind the slowest counts. Empty where there are none.
    """
    tried = [one for each in proofs.values() for one in each]
    proven = [one for one in tried if not one.fault]
    if not tried:
        return ""
    kinds: dict[str, list[float]] = {}
    for one in proven:
        kinds.setdefault(one.name, []).append(one.fp32_tflops or 0.0)
    speeds = "; ".join(_kind(name, all_of_it) for name, all_of_it in kinds.items())
    count = str(len(proven)) if len(proven) == len(tried) else f"{len(proven)} of {len(tried)}"
    return f"{count} {'GPU' if len(tried) == 1 else 'GPUs'} proven" + (speeds and f": {speeds}")


def _kind(name: str, speeds: Sequence[float]) -> str:
    if len(speeds) == 1:
        return f"{name}, {speeds[0]:.1f} TFLOP/s"
    return f"{len(speeds)} × {name}, {min(speeds):.1f} TFLOP/s or more"


def warnings(proofs: Proofs) -> Iterator[str]:
    """What to tell of GPUs that are not proven, each with its host and what to do."""
    for host, tried in proofs.items():
        lacking = [one.address for one in tried if one.lacks_cuda]
        if lacking:
            yield (
                f"{host}: torch's build has no CUDA: GPU {', '.join(lacking)} is given to tasks, "
                "but torch there computes on the CPU"
            )
        for one in tried:
            if one.fault and not one.lacks_cuda:
                named = f" ({one.name})" if one.name else ""
                yield (
                    f"{host}: GPU {one.address}{named}: {one.fault}; see nvidia-smi and dmesg "
                    "there; the next up tries it again"
                )


def to_try_again(proofs: Proofs) -> bool:
    """Whether a GPU failed that may do better next time: one that torch can use as it is built."""
    return any(one.fault and not one.lacks_cuda for each in proofs.values() for one in each)
