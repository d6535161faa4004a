"""What a worker computes on: which of CUDA's devices an address is, and what a GPU is to do.

Tests marked `gpu` need a real card; `make gpu` runs them.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sentiment import device
from sentiment.device import (
    CPU,
    ON_CPU,
    DeviceConfig,
    GpuError,
    gpu_use,
    index_of,
    moved,
    no_cuda,
    on_device,
)
from sentiment.loop import logits_of, state_from_bytes
from sentiment.rounds import Round, run_round, trained_network

from .test_rounds import separable, small_job

ROOT = Path(__file__).parents[2]
CUDA = DeviceConfig(kind="cuda")
UUID = "GPU-5d5ba0d6-1f2e-4c55-8bba-2d9d2d8b4f10"
WITHOUT = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
WITH = pytest.mark.skipif(not torch.cuda.is_available(), reason=f"no GPU here: {no_cuda()}")


@pytest.mark.parametrize(
    ("addresses", "visible", "index"),
    [
        ([], "", 0),
        ([], "3", 0),
        (["2"], "", 2),
        (["2"], "0,2", 1),
        ([UUID], UUID, 0),
        (["MIG-b", "x"], "MIG-a,MIG-b", 1),
    ],
)
def test_an_address_is_one_of_the_devices_that_cuda_sees(addresses, visible, index):
    assert index_of(addresses, visible=visible) == index


@pytest.mark.parametrize(("address", "visible"), [("1", "0"), (UUID, ""), ("MIG-b", "MIG-a")])
def test_a_process_does_not_take_another_gpu_for_its_own(address: str, visible: str):
    """With CUDA_VISIBLE_DEVICES as it was, cuda:0 would be somebody else's."""
    with pytest.raises(GpuError, match=address):
        index_of([address], visible=visible)


def test_on_the_cpu_nothing_moves_and_nothing_is_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(device.VISIBLE, raising=False)
    ids = torch.arange(3)
    with on_device(CPU, ["1"]) as here:
        assert here == ON_CPU
        assert moved(here, ids)[0] is ids
        assert device.VISIBLE not in os.environ
        assert not torch.are_deterministic_algorithms_enabled()
    assert gpu_use(here) is None


@WITHOUT
def test_without_cuda_it_is_said_and_nothing_stays_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(device.VISIBLE, "7")
    with pytest.raises(GpuError, match=r"build for the CPU|finds no GPU"), on_device(CUDA, ["7"]):
        pytest.fail("there is no GPU")
    assert os.environ[device.VISIBLE] == "7"
    assert not torch.are_deterministic_algorithms_enabled()


def test_where_there_is_torch_and_no_spark_the_loop_and_scoring_are_there():
    """A machine with a card may have no more than torch, numpy, pyarrow and safetensors."""
    absent = ("pyspark", "py4j", "click", "rich", "gensim", "pandas", "psutil")
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); import tests.bench.gpu"
    done = subprocess.run([sys.executable, "-c", program, ""], check=False, cwd=ROOT)
    assert done.returncode == 0


def rounds(config: DeviceConfig, name: str, *, number: int = 3, **changes: object) -> bytes:
    job = replace(small_job(name, learning_rate=0.01, **changes), device=config)
    state = job.first_state()
    with on_device(config) as here:
        for part in range(number):
            which = Round(0, part % job.recipe.train.rounds_per_epoch, listeners=True)
            state, _ = run_round(job, [(0, separable())], which, state=state, device=here)
    return state


@pytest.mark.gpu
@WITH
@pytest.mark.parametrize("name", ["quick", "talk", "best"])
def test_a_gpu_learns_the_same_bytes_twice_and_what_a_cpu_learns(name: str):
    mine = rounds(CUDA, name)
    assert mine == rounds(CUDA, name)
    if name == "quick":  # without dropout, whose chance is another on a GPU
        ours, theirs = (
            state_from_bytes(rounds(config, name, output_dropout=0.0, embedding_dropout=0.0))
            for config in (CUDA, CPU)
        )
        for key, value in theirs.items():
            assert torch.allclose(ours[key], value, atol=1e-3), key


@pytest.mark.gpu
@WITH
def test_a_gpu_scores_as_a_cpu_does():
    job, examples = small_job("best"), separable(500)
    network = trained_network(job, job.first_state())
    expected = logits_of(network, examples)
    with on_device(CUDA) as here:
        found = logits_of(network.to(here), examples)
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.gpu
@WITH
def test_less_precise_products_learn_too():
    job = small_job("quick", learning_rate=0.01)
    state = rounds(replace(CUDA, precision="bfloat16", deterministic=False), "quick", number=8)
    examples = separable(seed=1)
    right = (logits_of(trained_network(job, state), examples) > 0) == (examples.labels == 1)
    assert right.mean() > 0.9


@pytest.mark.gpu
@WITH
def test_a_part_of_a_gpu_has_a_part_of_its_memory():
    total = torch.cuda.get_device_properties(0).total_memory
    with on_device(replace(CUDA, share=0.1)) as here, pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(total // 5, dtype=torch.uint8, device=here)
    with on_device(CUDA) as here:
        torch.empty(total // 5, dtype=torch.uint8, device=here)


@pytest.mark.gpu
@WITH
def test_the_environment_is_as_before_after_a_task():
    before = os.environ.get(device.VISIBLE)
    with on_device(CUDA, ["0"]):
        assert os.environ[device.VISIBLE] == "0"
        assert torch.are_deterministic_algorithms_enabled()
    assert os.environ.get(device.VISIBLE) == before
    use = gpu_use(torch.device("cuda", 0))
    assert use is not None
    assert 0 < use.used_mib <= use.memory_mib
