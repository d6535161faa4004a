"""G2: the packages of hosts that are a Debian 13, whose Python is 3.13.

Debian 13 itself, as host and as operator's machine: tests/cluster/test_debian_13.py.
"""

import sys
from pathlib import Path

import pytest

from sparkbundle import resources
from sparkbundle.wheelhouse_lock import MACHINES, Target, read_lock
from sparkbundle.wheelhouse_pip import NotFoundHereError, run_pip
from tests.deploy.tiny_wheels import make_wheel

PYTHON = (3, 13)
# PyTorch's own index of CPU builds has them: torch 2.13.0 for CPython 3.13.
CPU_BUILDS = {
    "x86_64": "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",
    "aarch64": "0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d",
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="G2: hosts get the CUDA build (GBs): the lock has the CPU build of Python 3.11 only",
)
def test_the_cpu_build_of_torch_is_locked(machine: str):
    (torch,) = read_lock(resources.locks().cpu, Target(python=PYTHON, machine=machine))
    assert f"sha256:{CPU_BUILDS[machine]}" in torch.hashes


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.xfail(
    strict=True,
    raises=NotFoundHereError,
    reason="G2: pip is not told of manylinux_2_25, for which nvidia-cuda-cupti has its only wheels",
)
def test_the_cuda_build_is_found_with_what_it_needs(machine: str, tmp_path: Path):
    """By pip's own choice, among wheels that are named as the real ones and hold nothing."""
    target = Target(python=PYTHON, machine=machine)
    tags = {"torch": "cp313-cp313-manylinux_2_28", "nvidia_cuda_cupti": "py3-none-manylinux_2_25"}
    for name, tag in tags.items():
        make_wheel(tmp_path, name, "1.0", tag=f"{tag}_{machine}")
    words = ["download", "--no-index", "--no-deps", "--only-binary=:all:", "--dest", str(tmp_path)]
    words += ["--find-links", str(tmp_path), *target.pip_arguments()]
    run_pip(
        Path(sys.executable),
        [*words, "torch==1.0", "nvidia-cuda-cupti==1.0"],
        scratch=tmp_path,
        log=tmp_path / "pip.log",
        say=print,
        asked_for=target,
    )
