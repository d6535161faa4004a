"""A session in a JVM that was running before, as in a program that spark-submit has started."""

from pathlib import Path

import pytest

from sentiment.errors import SentimentError
from sentiment.session import Place, spark_session
from tests.job.driver_jvm import DriverJvm


@pytest.fixture
def place(driver_jvm: DriverJvm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place with settings of its own, which the JVM was not started with."""
    monkeypatch.setenv("SPARKBUNDLE_STATE", str(tmp_path / "state"))
    for name, value in driver_jvm.variables.items():
        monkeypatch.setenv(name, value)
    properties = tmp_path / "spark.properties"
    properties.write_text("# a cluster's\nspark.master local[1]\nspark.locality.wait 7s\n")
    return Place("local[1]", "a cluster", properties)


def test_it_has_the_settings_of_its_place_and_leaves_the_jvm_running(place: Place, tmp_path: Path):
    java = []
    for number in (1, 2):
        with spark_session(place, name=f"guest-{number}") as spark:
            context = spark.sparkContext
            assert (context.master, context.appName) == ("local[1]", f"guest-{number}")
            assert context.getConf().get("spark.locality.wait") == "7s"
            assert spark.range(3).rdd.map(lambda row: row["id"]).sum() == 3
            java.append(context._jvm.java.lang.ProcessHandle.current().pid())
    assert java[0] == java[1]
    logs = [path.read_text() for path in (tmp_path / "state/logs").iterdir()]
    assert len(logs) == 2
    assert all("its messages are where it was started" in log for log in logs)


def test_where_spark_does_not_start_the_jvm_stays_for_the_next(place: Place):
    place.properties.write_text("spark.master local[none]\n")
    with (
        pytest.raises(SentimentError, match="Spark did not start"),
        spark_session(place, name="broken"),
    ):
        pass
    place.properties.write_text("spark.master local[1]\n")
    with spark_session(place, name="whole") as spark:
        assert spark.range(5).count() == 5
