"""The program that proves a GPU, and what `up` makes of its answers. The real proof needs a GPU."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sparkbundle import gpu_proof, gpu_verify, host_verify, resources
from sparkbundle.errors import SparkbundleError
from sparkbundle.gpu_verify import GpuProof
from sparkbundle.hosts import Answer
from sparkbundle.output import Steps

SCRIPT = Path(gpu_proof.__file__)
L4 = GpuProof(
    address="0", torch="2.9.0+cu128", cuda="12.8", name="NVIDIA L4", capability="8.9",
    fp32_tflops=14.06, bf16_tflops=58.0, peak_tflops=30.3, exact=True, plausible=True,
)  # fmt: skip
NO_CUDA = GpuProof(address="0", torch="2.9.0+cpu", error=gpu_proof.NO_CUDA)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no GPU here: no card, or a build for CPUs"
)


def run_script(**environment: str) -> "subprocess.CompletedProcess[str]":
    """The script as a host runs it: from the standard input, with nothing of this project."""
    command = [sys.executable, "-P", "-"]
    given = SCRIPT.read_text()
    return subprocess.run(
        command, check=False, input=given, capture_output=True, text=True, env=environment
    )


def test_without_a_gpu_the_script_says_why_and_fails():
    done = run_script(CUDA_VISIBLE_DEVICES="", HOME="/tmp")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    if torch.version.cuda is None:
        assert told["error"] == "torch's build has no CUDA"
    else:
        assert told["error"].startswith("no device: ")
    proof = gpu_verify.parse_proof(
        Answer(host="w", code=done.returncode, out=done.stdout, err=done.stderr), address="1"
    )
    assert proof.fault == told["error"]
    assert proof.lacks_cuda == (torch.version.cuda is None)
    assert proof.torch == torch.__version__


@pytest.mark.gpu
@needs_gpu
def test_a_real_gpu_is_proven():
    done = subprocess.run([sys.executable, SCRIPT], check=False, capture_output=True, text=True)
    told = json.loads(done.stdout)
    print(json.dumps(told, indent=2))
    assert (done.returncode, told["error"]) == (0, "")
    assert told["name"] == torch.cuda.get_device_name(0)
    assert 0 < told["free_mib"] <= told["total_mib"]
    assert told["exact"] is True
    # None for a card that is newer than the table of lanes.
    assert told["plausible"] is (True if told["capability"] in gpu_proof.LANES else None)
    if told["bf16_tflops"] is not None:
        assert told["bf16_tflops"] > told["fp32_tflops"]


# Multiprocessors, capability, boost clock; the fp32 peak of NVIDIA's data sheets.
CARDS = {
    "L4": (58, "8.9", 2040, 30.3),
    "A100": (108, "8.0", 1410, 19.5),
    "H100 SXM": (132, "9.0", 1980, 66.9),
}


@pytest.mark.parametrize(
    ("card", "measured", "plausible"),
    [
        ("L4", 14.0, True),  # 72 W hold its clock down
        ("L4", 28.1, True),
        ("L4", 8.9, False),
        ("A100", 18.9, True),
        ("A100", 5.7, False),
        ("A100", 120.0, False),  # that would be TF32
        ("H100 SXM", 51.0, True),
        ("H100 SXM", 19.0, False),
        ("H100 SXM", 74.0, False),
    ],
)
def test_a_speed_is_held_against_the_peak_of_such_a_card(card: str, measured: float, plausible):
    multiprocessors, capability, clock, peak = CARDS[card]
    found = gpu_proof.peak_tflops(
        capability=capability, multiprocessors=multiprocessors, clock_mhz=clock
    )
    assert found == pytest.approx(peak, rel=0.005)
    assert gpu_proof.is_plausible(measured, found) is plausible


@pytest.mark.parametrize(("capability", "clock"), [("99.0", 2000.0), ("9.0", None)])
def test_a_peak_that_is_not_known_says_nothing(capability: str, clock: float | None):
    peak = gpu_proof.peak_tflops(capability=capability, multiprocessors=100, clock_mhz=clock)
    assert peak is None
    assert gpu_proof.is_plausible(1.0, peak) is None
    assert replace(L4, peak_tflops=None, plausible=None).fault == ""


def test_the_clock_is_torchs_or_nvidia_smis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert gpu_proof.clock_mhz(SimpleNamespace(clock_rate=1980000)) == 1980
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_proof.clock_mhz(SimpleNamespace(uuid="5d5b")) is None
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$1" = --id=GPU-5d5b ] && echo 2040\n')
    program.chmod(0o755)
    assert gpu_proof.clock_mhz(SimpleNamespace(uuid="5d5b")) == 2040
    program.write_text("#!/bin/sh\necho '[N/A]'\n")
    assert gpu_proof.clock_mhz(SimpleNamespace(uuid="5d5b")) is None


def coarse(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A product with inputs of 11 bits, as TF32 has them."""
    bits = left.view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32) @ right


def one_wrong(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    product = left @ right
    product[512, 77] += 1
    return product


def test_a_product_must_be_exact():
    for kind in (torch.float32, torch.bfloat16):
        assert gpu_proof.is_exact(kind, device="cpu")
        assert not gpu_proof.is_exact(kind, device="cpu", multiply=one_wrong)
    assert not gpu_proof.is_exact(torch.float32, device="cpu", multiply=coarse)


@pytest.mark.parametrize(
    ("text", "known", "says"),
    [
        ("CUDA out of memory. Tried to allocate 256.00 MiB. GPU 0 has", True, "out of memory: 100"),
        ("CUDA error: out of memory\nCompile with", False, "out of memory: there is no room"),
        ("No CUDA GPUs are available", False, "no device: No CUDA GPUs are available"),
        ("CUDA error: an illegal memory access was encountered\nmore", True, "CUDA error: an ill"),
    ],
)
def test_errors_of_cuda_are_told_in_a_line(text: str, known: bool, says: str):
    proof = gpu_proof.Proof(torch="2.9", cuda="12.8")
    if known:
        proof.name, proof.free_mib, proof.total_mib = "NVIDIA L4", 100, 23034
    said = gpu_proof.explained(RuntimeError(text), proof)
    assert said.startswith(says)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("proof", "fault"),
    [
        (L4, ""),
        (replace(L4, exact=False), "a product of whole numbers is wrong"),
        (
            replace(L4, fp32_tflops=2.0, plausible=False),
            "2.0 TFLOP/s in fp32, where 30.3 are the most",
        ),
        (GpuProof(address="0", cuda="12.8", torch="2.9", error="CUDA error: x"), "CUDA error: x"),
    ],
)
def test_a_gpu_that_fails_is_a_warning_with_its_host(proof: GpuProof, fault: str):
    assert proof.fault == fault
    assert gpu_verify.to_try_again({"w": [proof]}) == bool(fault)
    found = list(gpu_verify.warnings({"w": [proof]}))
    assert len(found) == bool(fault)
    for text in found:
        assert text.startswith("w: GPU 0" + (" (NVIDIA L4): " if proof.name else ": "))
        assert fault in text


def test_a_build_without_cuda_is_one_warning_a_host_and_not_tried_again():
    proofs = {"w": [NO_CUDA, replace(NO_CUDA, address="1")], "v": [L4]}
    (text,) = gpu_verify.warnings(proofs)
    assert text.startswith("w: torch's build has no CUDA: GPU 0, 1 is given to tasks")
    assert not gpu_verify.to_try_again(proofs)


@pytest.mark.parametrize(
    ("tried", "says"),
    [
        ([], ""),
        ([L4], "1 GPU proven: NVIDIA L4, 14.1 TFLOP/s"),
        (
            [L4, replace(L4, fp32_tflops=13.0), replace(L4, name="Tesla T4", fp32_tflops=4.5)],
            "3 GPUs proven: 2 × NVIDIA L4, 13.0 TFLOP/s or more; Tesla T4, 4.5 TFLOP/s",
        ),
        ([L4, NO_CUDA], "1 of 2 GPUs proven: NVIDIA L4, 14.1 TFLOP/s"),
        ([NO_CUDA], "0 of 1 GPU proven"),
    ],
)
def test_what_is_proven_is_said_in_a_few_words(tried: list[GpuProof], says: str):
    assert gpu_verify.summary({"w": tried}) == says


class Recorded:
    """In place of the hosts: runs the script here, on this machine's torch, and keeps the words."""

    def __init__(self, *, lost: str = "") -> None:
        self.commands: list[tuple[str, str]] = []
        self.lost = lost
        self.inventory = SimpleNamespace(
            master="m", notebook=None, host=lambda name: SimpleNamespace(name=name)
        )

    def run(self, host, command: str, *, given: bytes = b"", **_: object) -> Answer:
        name = getattr(host, "name", host)
        self.commands.append((name, command))
        if name == self.lost:
            raise SparkbundleError("the connection is lost", where=name)
        if "spark-gpu-proof" not in command:
            return Answer(host=name, code=0, out="", err="")
        assert given == SCRIPT.read_bytes()
        done = run_script(CUDA_VISIBLE_DEVICES="", HOME="/tmp")
        return Answer(host=name, code=done.returncode, out=done.stdout, err=done.stderr)

    def each(self, work, hosts):
        return {host.name: work(host) for host in hosts}

    def proofs(self) -> list[tuple[str, str]]:
        return [(name, words) for name, words in self.commands if "spark-gpu-proof" in words]


def plan_with(**gpus: tuple[str, ...]) -> SimpleNamespace:
    workers = {name: SimpleNamespace(gpus=addresses) for name, addresses in gpus.items()}
    return SimpleNamespace(workers=workers, inventory=SimpleNamespace(notebook=None))


def test_every_gpu_that_is_offered_is_tried_and_no_other():
    hosts = Recorded(lost="v")
    plan = plan_with(w=("0", "GPU-5d5b"), v=("1",), u=())
    found = gpu_verify.verify_gpus(hosts, plan, timeout=60)
    assert [one.address for one in found["w"]] == ["0", "GPU-5d5b"]
    assert [one.fault for one in found["v"]] == ["the connection is lost"]
    assert set(found) == {"w", "v"}
    words = [words for name, words in hosts.proofs() if name == "w"]
    assert "--setenv=CUDA_VISIBLE_DEVICES=0 " in words[0]
    assert "--setenv=CUDA_VISIBLE_DEVICES=GPU-5d5b " in words[1]
    assert all("--setenv=CUDA_DEVICE_ORDER=PCI_BUS_ID " in one for one in words)
    assert all("--property=User=sparkjob " in one for one in words)


def test_who_comes_after_a_gpu_that_hangs_is_not_tried():
    hosts = Recorded()
    (one,) = gpu_verify.verify_gpus(hosts, plan_with(w=("0",)), timeout=1.0)["w"]
    assert one.error.startswith("not tried")
    assert hosts.commands == []


def test_a_program_that_says_nothing_has_its_last_words_told():
    answer = Answer(host="w", code=139, out="", err="x\nSegmentation fault\n")
    assert gpu_verify.parse_proof(answer, address="0").fault == "exit code 139: Segmentation fault"
    answer = Answer(host="w", code=0, out="[1]\n", err="")
    assert "it said nothing" in gpu_verify.parse_proof(answer, address="0").fault


@pytest.mark.parametrize(
    ("tried", "written"),
    [
        ({}, True),
        ({"w": [L4]}, True),
        ({"w": [NO_CUDA]}, True),
        ({"w": [replace(L4, exact=False)]}, False),
    ],
)
def test_up_goes_on_whatever_a_gpu_says_and_tries_a_bad_one_again(
    tried, written: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    state = SimpleNamespace(applications=(), worker=lambda _: None)
    monkeypatch.setattr(host_verify, "wait_ready", lambda *_, **__: state)
    monkeypatch.setattr(host_verify, "_starts", lambda *_: {"w": "now"})
    monkeypatch.setattr(host_verify, "_read_verified", lambda _: {})
    monkeypatch.setattr(host_verify, "_smoke", lambda *_, **__: {"w": 1})
    monkeypatch.setattr(host_verify, "verify_gpus", lambda *_, **__: tried)
    hosts = Recorded()
    verdict = host_verify.verify(hosts, plan_with(w=("0",)), steps=Steps(total=2), timeout=1.0)
    assert verdict.proven
    assert verdict.as_json()["gpus"].keys() == tried.keys()
    json.dumps(verdict.as_json())
    assert any(host_verify.VERIFIED in words for _, words in hosts.commands) == written
    assert ("GPU" in capsys.readouterr().err) == bool(tried)


def test_down_ends_what_is_left_of_a_proof():
    text = (resources.roles() / "stopping/tasks/main.yml").read_text()
    assert f"|{gpu_verify._UNIT.name}-') }}}}" in text
