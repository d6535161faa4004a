"""Proves a GPU: products of matrices on it are exact, and as fast as such a card can be.

python gpu_proof.py takes the first GPU that CUDA shows, prints one JSON object, and ends with 0
where all is well, else with 1: then the object has an `error`, or `exact` or `plausible` is false.
`sparkbundle up` sends it to the hosts; it also runs alone. It needs torch, and of this project
nothing. Memory is in MiB, speeds are in TFLOP/s.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import torch

NO_CUDA: Final = "torch's build has no CUDA"
# Multiply-adds in fp32 of a multiprocessor in a clock cycle, by compute capability: the CUDA C++
# Programming Guide, table "Throughput of Native Arithmetic Instructions".
LANES: Final = {
    "7.0": 64, "7.5": 64, "8.0": 64, "8.6": 128, "8.7": 128, "8.9": 128,
    "9.0": 128, "10.0": 128, "12.0": 128,
}  # fmt: skip
# Below: another program is on the card, it is throttled or broken. Above: it did not compute.
SLOWEST: Final = 0.3
FASTEST: Final = 1.1
SIZE: Final = 8192
WARM_SECONDS: Final = 0.3
MEASURE_SECONDS: Final = 1.0
LEAST_RUNS: Final = 3
# Of bf16 the tensor cores are asked: cards before these compute it by other means.
BF16_SINCE: Final = 8
# Whole numbers up to these are exact in the inputs, and so are all sums of 256 of them. The one of
# fp32 has 12 bits: TF32, which has 11, would round it.
LARGEST: Final = {torch.float32: 4001, torch.bfloat16: 1}
TERMS: Final = 256

Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(kw_only=True)
class Proof:
    """What is known of the card; empty or None where it is not.

    `plausible`: None where the card's peak is not known.
    """

    torch: str
    cuda: str
    error: str = ""
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
    def passed(self) -> bool:
        """Whether the card computes, as far as can be told."""
        return not self.error and self.exact is True and self.plausible is not False


def peak_tflops(*, capability: str, multiprocessors: int, clock_mhz: float | None) -> float | None:
    """The most that a card can do in fp32 at this clock, a multiply-add counted as two."""
    lanes = LANES.get(capability)
    if lanes is None or clock_mhz is None:
        return None
    return multiprocessors * lanes * 2 * clock_mhz / 1e6


def is_plausible(measured: float, peak: float | None) -> bool | None:
    """Whether a card with this peak does what was measured; None where the peak is not known."""
    return None if peak is None else SLOWEST <= measured / peak <= FASTEST


def clock_mhz(card: Any) -> float | None:
    """The highest clock of a card's multiprocessors, from torch, else from nvidia-smi."""
    if khz := getattr(card, "clock_rate", 0):  # an older torch does not tell it
        return float(khz) / 1000
    command = [
        "nvidia-smi", f"--id=GPU-{getattr(card, 'uuid', '')}",
        "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def is_exact(kind: torch.dtype, *, device: str = "cuda", multiply: Multiply = torch.matmul) -> bool:
    """Whether a product of matrices of whole numbers is exact, as it is in every order of sums."""
    order = torch.Generator().manual_seed(1)
    largest = LARGEST[kind]
    left = torch.randint(-largest, largest + 1, (1024, TERMS), generator=order)
    right = torch.randint(-1, 2, (TERMS, 1024), generator=order)
    expected = left.double() @ right.double()
    found = multiply(left.to(device, kind), right.to(device, kind))
    return bool(torch.equal(found.cpu().double(), expected))


def measured_tflops(kind: torch.dtype) -> float:
    """The speed of a product of matrices on the GPU, the median of runs of about a second."""
    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=kind) for _ in range(2))
    product = torch.empty_like(left)
    warm_until = time.monotonic() + WARM_SECONDS
    while time.monotonic() < warm_until:
        _seconds(left, right, product)
    runs: list[float] = []
    until = time.monotonic() + MEASURE_SECONDS
    while len(runs) < LEAST_RUNS or time.monotonic() < until:
        runs.append(_seconds(left, right, product))
    return float(2 * SIZE**3 / median(runs) / 1e12)


def _seconds(left: torch.Tensor, right: torch.Tensor, product: torch.Tensor) -> float:
    began, ended = _event(), _event()
    began.record()
    torch.mm(left, right, out=product)
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1000


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def prove(proof: Proof) -> None:
    """Fill a proof in, as far as it goes.

    Raises:
        RuntimeError: CUDA's, or it finds no GPU.
    """
    # Not TF32: it is on where NVIDIA_TF32_OVERRIDE says so, or a default of torch's changes.
    torch.set_float32_matmul_precision("highest")
    card = torch.cuda.get_device_properties(0)
    proof.name, proof.capability = card.name, f"{card.major}.{card.minor}"
    proof.total_mib = card.total_memory >> 20
    proof.free_mib = torch.cuda.mem_get_info(0)[0] >> 20
    proof.peak_tflops = peak_tflops(
        capability=proof.capability,
        multiprocessors=card.multi_processor_count,
        clock_mhz=clock_mhz(card),
    )
    kinds = [torch.float32, *([torch.bfloat16] if card.major >= BF16_SINCE else [])]
    proof.exact = all(is_exact(kind) for kind in kinds)
    proof.fp32_tflops = measured_tflops(torch.float32)
    if torch.bfloat16 in kinds:
        proof.bf16_tflops = measured_tflops(torch.bfloat16)
    proof.plausible = is_plausible(proof.fp32_tflops, proof.peak_tflops)


def explained(error: RuntimeError, proof: Proof) -> str:
    """An error of CUDA's or torch's in one line."""
    text = (str(error).splitlines() or [type(error).__name__])[0]
    if "out of memory" not in text:
        return text if proof.name else f"no device: {text}"
    if proof.free_mib is None:
        return "out of memory: there is no room to start CUDA in"
    return f"out of memory: {proof.free_mib} of {proof.total_mib} MiB were free"


def main() -> int:
    """Prove, print, and tell with the exit code."""
    proof = Proof(torch=str(torch.__version__), cuda=torch.version.cuda or "")
    if not proof.cuda:
        proof.error = NO_CUDA
    else:
        try:
            prove(proof)
        except RuntimeError as error:
            proof.error = explained(error, proof)
    print(json.dumps(asdict(proof)))
    return 0 if proof.passed else 1


if __name__ == "__main__":
    sys.exit(main())
