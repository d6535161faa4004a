"""From what was asked for to the command line that is run."""

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .records import FORMAT, AgentError, JobFolder, now_text
from .settings import Settings

SENTIMENT = "sentiment"


def make_record(
    request: Mapping[str, Any], *, folder: JobFolder, settings: Settings
) -> dict[str, Any]:
    """The content of job.json: what is run, with which environment, and what `jobs` shows.

    Raises:
        AgentError: what is to be run is not installed.
    """
    return {
        "format": FORMAT,
        "app": request["app"],
        "command": make_command(request, folder=folder, settings=settings),
        "environment": settings.for_job(folder),
        "started": now_text(),
        "user": request.get("user") or getpass.getuser(),
        "memory_mib": settings.memory_mib and (request.get("memory_mib") or settings.memory_mib),
        "release": settings.release,
    }


def make_command(request: Mapping[str, Any], *, folder: JobFolder, settings: Settings) -> list[str]:
    """The words of the command; those that name something shipped become its path.

    Raises:
        AgentError: what is to be run is not installed.
    """
    files = folder.directory / "files"
    words = [_word(word, files) for word in request["arguments"]]
    if request["kind"] == SENTIMENT:
        return [_installed(settings.programs / SENTIMENT), *words]
    # The settings are in a file: other users of the host can read a command line.
    given = folder.directory / "conf" / "job.properties"
    command = [
        _installed(settings.spark_home / "bin" / "spark-submit"),
        "--load-spark-defaults", "--properties-file", str(given),
    ]  # fmt: skip
    for option, key in (("--py-files", "py_files"), ("--files", "files")):
        if names := request.get(key):
            command += [option, ",".join(str(files / name) for name in names)]
    return [*command, str(files / request["main"]), *words]


def record_again(
    record: Mapping[str, Any], words: Sequence[str], *, folder: JobFolder, settings: Settings
) -> dict[str, Any]:
    """The content of job.json for another run of the same job, with more words behind its own.

    It runs with what is installed now: the release of its first run may be gone.

    Raises:
        AgentError: what is to be run is not installed, or the record cannot be read.
    """
    if not record.get("command"):
        raise AgentError("its description cannot be read", where=str(folder.record))
    program = settings.programs / SENTIMENT
    if record["app"] != SENTIMENT:
        program = settings.spark_home / "bin" / "spark-submit"
    _, *given = record["command"]
    return {
        **record,
        "command": [_installed(program), *given, *words],
        "environment": settings.for_job(folder),
        "started": now_text(),
        "release": settings.release,
    }


def write_settings(request: Mapping[str, Any], *, folder: JobFolder, settings: Settings) -> None:
    """Write the Spark settings of the job, if it has some, and link those of the cluster."""
    conf = folder.directory / "conf"
    given = dict(request.get("conf", {}))
    if request["kind"] != SENTIMENT:
        given = {**_quiet(settings), **given}
    if given:
        path = conf / "job.properties"
        path.touch(mode=0o600)
        path.write_text("".join(f"{_escape(k)}={_escape(v)}\n" for k, v in given.items()))
    if settings.defaults is not None:
        (conf / "spark-defaults.conf").symlink_to(settings.defaults)


def _quiet(settings: Settings) -> dict[str, str]:
    """Without it Spark prints a hundred lines around each line of the job."""
    configuration = Path(settings.environment.get("SPARK_CONF_DIR", ""))
    defaults = settings.defaults or configuration / "spark-defaults.conf"
    try:
        said = "spark.log.level" in defaults.read_text(encoding="utf-8")
    except OSError:
        said = False
    return {} if said else {"spark.log.level": "WARN"}


def _escape(text: str) -> str:
    """As java.util.Properties reads it, in Spark's UTF-8."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return text.replace("=", "\\=").replace(":", "\\:").replace(" ", "\\ ")


def _word(word: str | Mapping[str, str], files: Path) -> str:
    if isinstance(word, str):
        return word
    return word.get("before", "") + str(files / word["file"])


def _installed(program: Path) -> str:
    if not program.is_file():
        raise AgentError("is not installed", where=str(program), up=True)
    return str(program)
