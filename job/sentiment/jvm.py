"""Options of a job's JVMs, and the archive of loaded classes that halves its start.

Spark loads some ten thousand classes before its first job. Java 17 can keep them as
they lie in memory ("application class data sharing", JEP 350) and map them at the
next start. The archive fits one Java and one pyspark; where it does not fit, or is
missing, Java loads the classes as ever. `python -m sentiment.jvm` makes it.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

ARCHIVE: Final = Path(sys.prefix) / "share" / "sentiment" / f"spark-{version('pyspark')}.jsa"
DEFAULT_OPTIONS: Final = "spark.driver.defaultJavaOptions"
"""The setting to give them in: unlike --driver-java-options it leaves the user's in force."""
EXECUTOR_DEFAULT_OPTIONS: Final = "spark.executor.defaultJavaOptions"
# In one process of minutes the optimising compiler costs more than it gains.
_SHORT_LIVED: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_SECONDS: Final = 180
_REHEARSAL: Final = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").getOrCreate()
rows = spark.createDataFrame([(i, f"text {i}") for i in range(9)], "n long, text string")
rows.repartition(2).write.mode("overwrite").parquet(sys.argv[1])
again = spark.read.parquet(sys.argv[1])
again.mapInArrow(lambda batches: batches, again.schema).groupBy("n").count().orderBy("n").toArrow()
again.rdd.map(lambda row: (row["n"], 1)).partitionBy(2).count()
spark.sparkContext.broadcast([1]).destroy()
spark.stop()
"""


def options(*, local: bool, settings: str = "") -> tuple[str, ...]:
    """Java's options for a driver; `local`: it runs the tasks too, and not for long.

    The short-lived options do not go with a cluster: without its optimising compiler
    Java 17 encrypts five times slower. `settings` is the text of the driver's properties
    file. Who sets DEFAULT_OPTIONS there gets none of these, which only save time; who
    chooses a garbage collector gets no second one, with which Java would not start.
    """
    if _is_set(DEFAULT_OPTIONS, settings):
        return ()
    short_lived = local and not re.search(r"\+Use\w+GC\b", settings)
    return (*(_SHORT_LIVED if short_lived else ()), *_archive_options())


def executor_options(*, settings: str = "") -> tuple[str, ...]:
    """Java's options for the executors on this machine; none over those of the user's `settings`.

    The archive is of use where no folder with files is in their class path, as on a worker of
    an embedded cluster.
    """
    return () if _is_set(EXECUTOR_DEFAULT_OPTIONS, settings) else _archive_options()


def _is_set(key: str, settings: str) -> bool:
    return re.search(rf"^\s*{re.escape(key)}\b", settings, re.MULTILINE) is not None


def _archive_options() -> tuple[str, ...]:
    if not ARCHIVE.is_file():
        return ()
    # An archive of another Java is no news: -Xshare:auto goes on without it.
    return (f"-XX:SharedArchiveFile={ARCHIVE}", "-Xshare:auto", "-Xlog:cds*=off")


def make_archive(target: Path = ARCHIVE) -> None:
    """Run a small job once and keep the classes it loaded at `target`, whole or not at all.

    Raises:
        subprocess.SubprocessError: Spark or Java fails.
        OSError: the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        made = Path(scratch) / "classes.jsa"
        java = " ".join([*_SHORT_LIVED, f"-XX:ArchiveClassesAtExit={made}", "-Xlog:cds*=off"])
        conf = "--conf spark.ui.enabled=false --conf spark.driver.bindAddress=127.0.0.1"
        arguments = f'{conf} --driver-java-options "{java}" pyspark-shell'
        subprocess.run(
            [sys.executable, "-c", _REHEARSAL, str(Path(scratch) / "rows")],
            env=os.environ
            | {"PYSPARK_SUBMIT_ARGS": arguments, "PYSPARK_PYTHON": sys.executable}
            | {"SPARK_LOCAL_IP": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_SECONDS,
        )
        made.replace(target)


if __name__ == "__main__":
    try:
        make_archive()
    except (subprocess.SubprocessError, OSError) as problem:
        said = (getattr(problem, "stderr", None) or b"").decode(errors="replace").splitlines()
        sys.exit(said[-1] if said else str(problem))
