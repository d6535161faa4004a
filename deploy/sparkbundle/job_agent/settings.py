"""What a job gets from where it runs: the release, the master, its environment."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .records import AgentError, JobFolder

CURRENT = Path("/opt/sparkbundle/current")
CONFIGURATION = Path("/etc/sparkbundle")
VECTORS = "/var/lib/sparkbundle/vectors"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ANSWER_SECONDS = 3.0
DEFAULT_MEMORY_MIB = 4096


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where a job's programs are, which master it has, and what is added to its environment.

    `memory_mib` is the most memory of a job that names none (None: it is not limited).
    `programs` is the folder of python and sentiment. `release` is the folder that all of it is
    from (empty on one machine). `defaults` is a file of Spark settings that is linked into the
    job's folder; None where `environment` names a folder with spark-defaults.conf already.
    """

    programs: Path
    spark_home: Path
    master: str
    environment: Mapping[str, str] = field(default_factory=dict)
    release: str = ""
    defaults: Path | None = None
    memory_mib: int | None = None

    def for_job(self, folder: JobFolder) -> dict[str, str]:
        """The environment of one job, on top of what its parent process has."""
        own = {"SPARKBUNDLE_ROLE": f"job-{folder.id}", "SPARKBUNDLE_JOB": folder.id}
        if self.defaults is not None:
            return {**self.environment, **own, "SPARK_CONF_DIR": str(folder.directory / "conf")}
        cache = folder.directory / "cache"
        return {
            **self.environment,
            **own,
            "HOME": str(folder.work),
            "SPARKBUNDLE_STATE": str(folder.directory / "state"),
            "XDG_CACHE_HOME": str(cache),
            "SPARK_LOCAL_DIRS": str(cache / "spark"),
        }


def host_settings(*, current: Path = CURRENT, configuration: Path = CONFIGURATION) -> Settings:
    """Those of a host: its cluster.json, and the release that is current at this moment.

    Raises:
        AgentError: this host is no master of a cluster, or has no release.
    """
    try:
        cluster: dict[str, Any] = json.loads((configuration / "cluster.json").read_text())
        master, address = str(cluster["master"]), str(cluster["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AgentError(
            "this host is no master of a sparkbundle cluster",
            where=str(configuration / "cluster.json"),
            up=True,
        ) from error
    try:
        # Resolved now: an upgrade, which moves the link, does not change a job that runs.
        release = current.resolve(strict=True)
    except OSError as error:
        raise AgentError("this host has no release", where=str(current), up=True) from error
    return Settings(
        programs=release / "bin",
        spark_home=release / "spark",
        master=master,
        release=release.name,
        memory_mib=DEFAULT_MEMORY_MIB,
        environment={
            "PATH": f"{release / 'bin'}:{_SYSTEM_PATH}",
            "SPARK_HOME": str(release / "spark"),
            "SPARK_CONF_DIR": str(configuration),
            "PYSPARK_PYTHON": str(release / "bin" / "python"),
            "SPARK_LOCAL_IP": address,
            "SPARK_PUBLIC_DNS": address,
            "SPARKBUNDLE_MASTER": master,
            "SPARKBUNDLE_VECTORS": VECTORS,
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
        },
    )


def own_settings() -> Settings:
    """Those of a cluster on this machine, from the environment that its processes have.

    Raises:
        AgentError: a part is missing.
    """
    try:
        python = Path(os.environ["PYSPARK_PYTHON"])
        return Settings(
            programs=python.parent,
            spark_home=Path(os.environ["SPARK_HOME"]),
            master=os.environ["SPARKBUNDLE_MASTER"],
            environment={"PYTHONUNBUFFERED": "1"},
            defaults=Path(os.environ["SPARK_CONF_DIR"]) / "client.properties",
        )
    except KeyError as error:
        raise AgentError(f"{error.args[0]} is not set") from error


def check_master(settings: Settings) -> None:
    """Check that something listens where the master should.

    Raises:
        AgentError: nothing does.
    """
    address = urlsplit(settings.master)
    try:
        with socket.create_connection(
            (address.hostname or "", address.port or 7077), timeout=_ANSWER_SECONDS
        ):
            return
    except (OSError, ValueError) as error:
        raise AgentError("the master does not answer", where=settings.master, up=True) from error
