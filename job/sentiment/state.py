"""Where this machine keeps what outlives a command: clusters, logs, word tables."""

import os
from pathlib import Path


def state_directory() -> Path:
    """Where `sparkbundle` keeps the state of the clusters on this machine."""
    if given := os.environ.get("SPARKBUNDLE_STATE"):
        return Path(given)
    xdg = os.environ.get("XDG_STATE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".local" / "state") / "sparkbundle"
