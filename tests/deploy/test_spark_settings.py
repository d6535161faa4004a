import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkbundle.spark_settings import (
    ClusterSettings,
    Secrets,
    WorkerSize,
    client_settings,
    master_settings,
    new_secrets,
    render_properties,
    worker_settings,
)


def settings(
    secrets: Secrets | None = None, workers: tuple[WorkerSize, ...] = ()
) -> ClusterSettings:
    return ClusterSettings(
        host="10.0.0.5",
        master_port=7077,
        driver_host="10.0.0.9",
        workers=workers or (WorkerSize(cores=4, memory_mib=2048),) * 3,
        worker_hosts=("10.0.0.7", "10.0.0.6", "10.0.0.7"),
        vectors="/var/lib/vectors",
        recovery_directory="/var/lib/recovery",
        python="/opt/python",
        secrets=secrets or new_secrets(),
    )


def test_every_side_authenticates_and_encrypts_with_the_same_secret():
    cluster = settings()
    sides = [
        master_settings(cluster),
        worker_settings(cluster, worker="worker-1"),
        client_settings(cluster),
    ]
    for side in sides:
        assert side["spark.authenticate"] == "true"
        assert side["spark.authenticate.secret"] == cluster.secrets.rpc
        assert side["spark.network.crypto.enabled"] == "true"
        assert side["spark.network.crypto.cipher"] == "AES/GCM/NoPadding"
        assert side["spark.network.crypto.saslFallback"] == "false"
        assert side["spark.ui.filters"] == "org.apache.spark.ui.JWSFilter"
        assert side["spark.ui.killEnabled"] == "false"


def test_daemons_take_no_rest_submission_and_no_other_port():
    cluster = settings()
    for daemon in (master_settings(cluster), worker_settings(cluster, worker="worker-1")):
        assert daemon["spark.master.rest.enabled"] == "false"
        assert daemon["spark.port.maxRetries"] == "0"
    assert "spark.port.maxRetries" not in client_settings(cluster)


def test_master_and_worker_agree_on_when_a_silent_worker_is_lost():
    """A worker's heart beats four times in it; the master waits by its own setting."""
    cluster = settings()
    for daemon in (master_settings(cluster), worker_settings(cluster, worker="worker-1")):
        assert daemon["spark.worker.timeout"] == "30"


def test_what_lay_on_a_lost_host_is_not_waited_for_for_long():
    """Spark's own two minutes are for each try to fetch a block from there."""
    assert client_settings(settings())["spark.shuffle.io.connectionCreationTimeout"] == "15s"


def test_the_master_recovers_and_gives_no_application_everything_unasked():
    master = master_settings(settings())
    assert master["spark.deploy.recoveryMode"] == "FILESYSTEM"
    assert master["spark.deploy.recoveryDirectory"] == "/var/lib/recovery"
    assert master["spark.deploy.defaultCores"] == "4"


def test_an_application_fits_one_executor_on_each_worker():
    client = client_settings(settings())
    assert client["spark.master"] == "spark://10.0.0.5:7077"
    assert client["spark.driver.host"] == client["spark.driver.bindAddress"] == "10.0.0.9"
    assert client["spark.executor.cores"] == "4"
    assert client["spark.cores.max"] == "12"
    assert client["spark.executor.memory"] == "2048m"
    assert client["spark.pyspark.python"] == "/opt/python"


def test_uneven_workers_are_all_used_with_what_the_smallest_has():
    """Spark gives an executor without spark.executor.cores all the cores of its worker."""
    uneven = (WorkerSize(cores=2, memory_mib=4096), WorkerSize(cores=5, memory_mib=1024))
    client = client_settings(settings(workers=uneven))
    assert client["spark.cores.max"] == "7"
    assert client["spark.executor.memory"] == "1024m"
    assert "spark.executor.cores" not in client
    assert master_settings(settings(workers=uneven))["spark.deploy.defaultCores"] == "5"


def test_secrets_are_long_fresh_and_not_shown():
    first, second = new_secrets(), new_secrets()
    assert first.rpc != second.rpc
    assert first.ui_key != second.ui_key
    assert len(bytes.fromhex(first.rpc)) == 32
    assert len(base64.urlsafe_b64decode(first.ui_key)) == 32
    assert first.rpc not in repr(settings(first))
    assert first.ui_key not in repr(first)


READER = """
import java.io.*; import java.util.*;
public class Read { public static void main(String[] a) throws Exception {
  Properties p = new Properties();
  p.load(new InputStreamReader(new FileInputStream(a[0]), "UTF-8"));
  for (String k : new TreeSet<>(p.stringPropertyNames()))
    new PrintStream(System.out, true, "UTF-8").println(k + "\\t" + p.getProperty(k)); } }
"""


def test_java_reads_back_what_was_rendered(tmp_path: Path):
    """Java's own Properties class is the judge, where its compiler is installed; else a parser."""
    values = {
        "spark.a": r"C:\back\slash",
        "spark.b": "with spaces and = and : and #",
        "spark.c": "Grüße/目录",
        "spark.d": "",
    }
    rendered = render_properties(values)
    path = tmp_path / "x.properties"
    path.write_text(rendered, encoding="utf-8")
    source = tmp_path / "Read.java"
    source.write_text(READER)
    java = subprocess.run(
        ["java", str(source), str(path)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if java.returncode == 0:  # a JDK; a runtime alone has no compiler
        found = dict(line.split("\t") for line in java.stdout.splitlines())
    else:
        found = {
            key: value.replace("\\\\", "\\")
            for key, value in (line.split("=", 1) for line in rendered.splitlines())
        }
    assert found == values


@given(st.text(st.characters(codec="utf-8")))
def test_a_value_never_becomes_two_settings(value: str):
    if "\n" in value or "\r" in value:
        with pytest.raises(ValueError, match="line break"):
            render_properties({"spark.a": value})
    else:
        assert len(render_properties({"spark.a": value}).split("\n")) == 2


def test_drivers_are_told_where_word_tables_are_and_on_which_hosts():
    client = client_settings(settings())
    assert client["spark.sparkbundle.hosts"] == "10.0.0.6,10.0.0.7"
    assert client["spark.executorEnv.SPARKBUNDLE_VECTORS"] == "/var/lib/vectors"
