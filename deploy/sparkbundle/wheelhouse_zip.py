"""Wheels that are the same bytes wherever they were built."""

import hashlib
import zipfile
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)
_EXECUTABLE = 0o111
_BLOCK = 1 << 20


def normalise(wheel: Path, target: Path) -> None:
    """Write a wheel again: sorted, without times and owners, and not compressed.

    What is compressed depends on the compressor, which differs between Pythons. Spark's jars
    are compressed already: pyspark's wheel grows by a tenth, and unpacks the faster.

    Raises:
        zipfile.BadZipFile: it is no whole wheel.
    """
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as normal,
    ):
        for old in sorted(source.infolist(), key=_order):
            if old.is_dir():
                continue
            new = zipfile.ZipInfo(old.filename, _EPOCH)
            new.create_system = 3  # modes are those of Unix
            executable = (old.external_attr >> 16) & _EXECUTABLE
            new.external_attr = (0o100755 if executable else 0o100644) << 16
            new.file_size = old.file_size
            with source.open(old) as content, normal.open(new, "w") as copy:
                while block := content.read(_BLOCK):
                    copy.write(block)


def _order(member: zipfile.ZipInfo) -> tuple[bool, str]:
    # The metadata last, as the format of wheels asks for.
    return ".dist-info/" in member.filename, member.filename


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
