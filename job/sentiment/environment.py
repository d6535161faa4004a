"""The environment of this process, changed for a while."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restored(name: str) -> Iterator[None]:
    """When the block ends, however it does, this variable is again what it was before."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
