"""A small world of packages: wheels and a source of some hundred bytes, with locks for them."""

import base64
import hashlib
import io
import os
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from sparkbundle import resources

MANY = "manylinux_2_17_x86_64"
VERSION = "python_full_version"


def make_wheel(folder: Path, name: str, version: str, *, tag: str = "py3-none-any", **files: bytes):
    """Write a wheel whose package `name` holds the files (`x_py` for x.py)."""
    content = {f"{name}/__init__.py": f"VERSION = {version!r}\n".encode()}
    content |= {f"{name}/{key.replace('_py', '.py')}": value for key, value in files.items()}
    return write_wheel(folder, name, version, tag, content)


def write_wheel(folder: Path, name: str, version: str, tag: str, content: dict[str, bytes]) -> Path:
    info = f"{name}-{version}.dist-info"
    content = content | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    record = "".join(f"{path},{_record_hash(data)},{len(data)}\n" for path, data in content.items())
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for file, data in content.items():
            wheel.writestr(zipfile.ZipInfo(file), data)
    return path


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def installed_as_wheel(folder: Path, name: str) -> Path:
    """The wheel that an installed package came from, near enough to be installed again."""
    installed = distribution(name)
    path = folder / f"{name}-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in installed.files or []:
            if ".." not in file.parts and file.suffix != ".pyc" and file.locate().is_file():
                wheel.write(file.locate(), str(file))
    return path


def make_source(folder: Path) -> Path:
    """A package called pyspark that is there as source only, like the real one."""
    setup = (
        "from setuptools import setup\n"
        "setup(name='pyspark', version='1.0', packages=['pyspark'],\n"
        "      package_data={'pyspark': ['jars/*']}, scripts=['bin/spark-it'])\n"
    )
    files = {
        "setup.py": setup.encode(),
        "PKG-INFO": b"Metadata-Version: 2.1\nName: pyspark\nVersion: 1.0\n",
        "pyspark/__init__.py": b"HOME = 1\n",
        "pyspark/jars/spark.jar": b"\x00jar" * 50,
        "bin/spark-it": b"#!/bin/sh\necho spark\n",
    }
    path = folder / "pyspark-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"pyspark-1.0/{name}")
            member.size = len(data)
            member.mode = 0o775 if name.startswith("bin/") else 0o664
            tar.addfile(member, io.BytesIO(data))
    return path


def entry(path: Path, name: str, version: str, *more: Path, marker: str = "") -> str:
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, *more)]
    lines = [f"{name}=={version}{' ; ' + marker if marker else ''}"]
    return " \\\n".join([*lines, *(f"    --hash=sha256:{h}" for h in hashes)]) + "\n"


def make_world(root: Path, *, real_uv: bool = False) -> "TinyWorld":
    """Write packages, locks and a job below an empty or missing folder."""
    world = TinyWorld(root)
    for folder in (world.links, world.locks, world.job / "sentiment"):
        folder.mkdir(parents=True)
    (world.job / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "sentiment"\nversion = "0.1.0"\n'
        '[tool.setuptools]\npackages = ["sentiment"]\n'
    )
    (world.job / "sentiment/__init__.py").write_text("A = 1\n")
    links, locks = world.links, world.locks
    library = make_wheel(links, "nvidia", "1.0", tag=f"py3-none-{MANY}")
    (locks / "job").write_text(
        entry(make_wheel(links, "alpha", "1.0", more_py=b"MORE = 1\n"), "alpha", "1.0")
        + entry(make_wheel(links, "beta", "1.0"), "beta", "1.0", marker=f"{VERSION} < '3.12'")
        + entry(make_wheel(links, "beta", "2.0"), "beta", "2.0", marker=f"{VERSION} >= '3.12'")
        + entry(make_wheel(links, "gone", "1.0"), "gone", "1.0", marker="sys_platform == 'win32'")
        + entry(make_source(links), "pyspark", "1.0")
    )
    cpu = make_wheel(links, "torch", "1.0+cpu", tag=f"cp311-cp311-{MANY}", big_py=b"X = 1\n" * 50)
    (locks / "cpu").write_text(entry(cpu, "torch", "1.0+cpu"))
    cuda = [make_wheel(links, "torch", "1.0", tag=f"cp{v}-cp{v}-{MANY}") for v in (311, 312)]
    (locks / "cuda").write_text(
        entry(cuda[0], "torch", "1.0", cuda[1])
        + entry(library, "nvidia", "1.0", marker="platform_machine == 'x86_64'")
    )
    (locks / "builder").write_text(
        entry(
            installed_as_wheel(links, "setuptools"),
            "setuptools",
            distribution("setuptools").version,
        )
        + entry(_uv_wheel(links, real=real_uv), "uv", "1.0")
    )
    return world


class TinyWorld:
    """The packages, their locks and the job's source below one folder."""

    def __init__(self, root: Path) -> None:
        self.links = root / "links"
        self.locks = root / "locks"
        self.job = root / "job"

    def link(self, pattern: str) -> Path:
        """The one wheel with such a name."""
        (path,) = self.links.glob(pattern)
        return path

    @property
    def variables(self) -> dict[str, str]:
        """pip with these packages and no others."""
        links = str(self.links)
        return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "PIP_CONFIG_FILE": os.devnull}

    def use(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        """Let sparkbundle take the locks and the job of this world, and a cache of its own."""
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        for name, value in self.variables.items():
            patch.setenv(name, value)
        patch.setenv("XDG_CACHE_HOME", str(cache))
        found = resources.Locks(
            job=self.locks / "job",
            cpu=self.locks / "cpu",
            cuda=self.locks / "cuda",
            builder=self.locks / "builder",
        )
        patch.setattr(resources, "locks", lambda: found)
        patch.setattr(resources, "sentiment_wheel_or_source", lambda: self.job)


def _uv_wheel(folder: Path, *, real: bool) -> Path:
    program = Path(sys.executable).with_name("uv").read_bytes() if real else b"#!/bin/sh\n"
    tag = f"py3-none-{MANY}"
    return write_wheel(folder, "uv", "1.0", tag, {"uv-1.0.data/scripts/uv": program})
