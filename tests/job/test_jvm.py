"""The options of the driver's JVM and the archive of its classes."""

import subprocess

import pytest

from sentiment import jvm


def test_the_set_up_has_kept_the_classes():
    assert jvm.ARCHIVE.is_file(), "make setup makes it"
    assert f"-XX:SharedArchiveFile={jvm.ARCHIVE}" in jvm.options(local=False)


def test_only_short_lived_drivers_do_without_the_optimising_compiler():
    assert "-XX:TieredStopAtLevel=1" in jvm.options(local=True)
    assert "-XX:TieredStopAtLevel=1" not in jvm.options(local=False)


def test_without_an_archive_nothing_is_asked_of_java(monkeypatch, tmp_path):
    monkeypatch.setattr(jvm, "ARCHIVE", tmp_path / "none.jsa")
    assert jvm.options(local=False) == ()


@pytest.mark.parametrize("content", [b"", b"not an archive" * 1000])
def test_an_archive_that_does_not_fit_is_no_news(monkeypatch, tmp_path, content):
    """Of another Java, or cut: Java starts as ever and says nothing of it."""
    (tmp_path / "bad.jsa").write_bytes(content)
    monkeypatch.setattr(jvm, "ARCHIVE", tmp_path / "bad.jsa")
    command = ["java", *jvm.options(local=True), "-version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    plain = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True)
    assert (done.returncode, done.stdout) == (0, "")
    expected = [line for line in plain.stderr.splitlines() if "Server VM" not in line]
    assert [line for line in done.stderr.splitlines() if "Server VM" not in line] == expected


def test_an_archive_that_cannot_be_made_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    target = tmp_path / "share" / "classes.jsa"
    with pytest.raises(subprocess.CalledProcessError):
        jvm.make_archive(target)
    assert list(target.parent.iterdir()) == []
