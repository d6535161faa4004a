"""A Java for JVMs that live for seconds: half of what they do is to optimise themselves."""

import tempfile
from functools import cache
from pathlib import Path

from sparkbundle.java import find_java
from tests.conftest import QUICK_JAVA


@cache
def quick_java() -> str:
    """A JAVA_HOME whose Java optimises nothing; what it is called with counts as well."""
    folder = tempfile.TemporaryDirectory(prefix="quick-java-")
    _folders.append(folder)
    program = Path(folder.name) / "bin/java"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {find_java().path} {QUICK_JAVA} "$@"\n')
    program.chmod(0o755)
    return folder.name


_folders: list["tempfile.TemporaryDirectory[str]"] = []
"""They are removed when this process ends."""
