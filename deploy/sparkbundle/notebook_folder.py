"""The folder of notebooks that the server shows, with those that the bundle brings along."""

import shutil
from pathlib import Path

from sparkbundle import resources
from sparkbundle.files import cannot_write
from sparkbundle.output import Step


def fill(folder: Path, *, step: Step) -> Path:
    """Make the folder and put the bundle's notebooks there; one that is there stays as it is.

    Raises:
        PreflightError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for notebook in sorted(resources.notebooks().glob("*.ipynb")):
            target = folder / notebook.name
            if not target.exists():
                shutil.copyfile(notebook, target)
                step.say(f"new: {target}")
    except OSError as error:
        raise cannot_write(folder, error, elsewhere="--folder DIRECTORY") from error
    return folder.resolve()
