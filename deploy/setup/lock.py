"""Write the lock files: every package of job, deploy, the builder and tests with its hashes.

Run by `make lock`. One resolution serves all of them: each later file is
constrained by the ones before, so that they can be installed together.

torch comes in two builds of one version: the registry's, which needs the CUDA
libraries (gigabytes), and the CPU build, which pip finds only where it is
configured with a place that holds it. Each build has a lock of its own,
requirements-cuda.lock and requirements-cpu.lock; a machine installs one of them.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Not nvidia-ml-py, which asks a driver, where there is one: it goes with both builds.
CUDA = re.compile(r"^(torch==|nvidia-(?!ml-py)|cuda-|triton)")
# The CPU build for CPython 3.11 on x86_64.
TORCH_CPU_HASH = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"


def requirements_of(project: Path) -> list[str]:
    """The dependencies that a pyproject.toml declares, those of the notebook included."""
    declared = tomllib.loads(project.read_text())["project"]
    optional: list[str] = declared.get("optional-dependencies", {}).get("notebook", [])
    return [*declared["dependencies"], *optional]


def listed(path: Path) -> list[str]:
    """The requirements of a file, without its comments."""
    lines = path.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def compile_lock(requirements: list[str], *, constraints: list[Path]) -> str:
    """Resolve with uv for Python 3.11 and later on every platform."""
    command = ["uv", "pip", "compile", "-", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    for constraint in constraints:
        command += ["--constraint", str(constraint)]
    done = subprocess.run(
        command, input="\n".join(requirements), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"uv could not resolve {requirements}:\n{done.stderr}")
    return done.stdout


def blocks(lock: str) -> list[str]:
    """A lock's entries: a requirement with its hash lines."""
    return re.findall(r"^\S.*(?:\n[ ].*)*", lock, flags=re.MULTILINE)


def cpu_torch(cuda: list[str]) -> str:
    """The entry of the CPU build, in the version of the registry's."""
    for entry in cuda:
        if match := re.match(r"torch==([\d.]+)", entry):
            return f"torch=={match[1]}+cpu \\\n    --hash={TORCH_CPU_HASH}"
    sys.exit("the resolution holds no torch")


def main() -> None:
    """Write the lock files."""
    job_lock = ROOT / "job/requirements.lock"
    deploy_lock = ROOT / "deploy/requirements.lock"
    entries = blocks(compile_lock(requirements_of(ROOT / "job/pyproject.toml"), constraints=[]))
    job = [entry for entry in entries if not CUDA.match(entry)]
    cuda = [entry for entry in entries if CUDA.match(entry)]
    job_lock.write_text("\n".join(job) + "\n")
    (ROOT / "job/requirements-cuda.lock").write_text("\n".join(cuda) + "\n")
    (ROOT / "job/requirements-cpu.lock").write_text(cpu_torch(cuda) + "\n")
    deploy_lock.write_text(
        compile_lock(requirements_of(ROOT / "deploy/pyproject.toml"), constraints=[job_lock])
    )
    # What builds and installs the wheels for hosts; the tests use the same.
    builder_lock = ROOT / "deploy/requirements-builder.lock"
    builder = listed(ROOT / "deploy/requirements-builder.in")
    builder_lock.write_text(compile_lock(builder, constraints=[job_lock, deploy_lock]))
    tests = listed(ROOT / "tests/requirements.in")
    (ROOT / "tests/requirements.lock").write_text(
        compile_lock(tests, constraints=[job_lock, deploy_lock, builder_lock])
    )


if __name__ == "__main__":
    main()
