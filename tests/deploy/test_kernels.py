"""The kernels of a notebook server, here and on hosts."""

import json
import stat
from importlib import import_module
from pathlib import Path

from sparkbundle import kernels
from sparkbundle.kernels import NAME, kernel_specs, profiles, write_kernels


def test_what_runs_in_them_is_named_as_it_is():
    """sparkbundle does not import sentiment, which is not always installed beside it."""
    extension = import_module(kernels._EXTENSION)
    assert callable(extension.load_ipython_extension)
    assert extension.SETTINGS_VARIABLE == kernels._SETTINGS_VARIABLE


def test_each_profile_is_a_kernel_and_the_first_is_that_of_the_notebooks():
    specs = kernel_specs(
        {"a": {"spark.cores.max": "1"}, "b": {}}, python="/py", environment={"PLACE": "here"}
    )
    assert list(specs) == [NAME, f"{NAME}-2"]
    first = specs[NAME]
    assert (first["display_name"], first["language"]) == ("a", "python")
    assert first["argv"][:3] == ["/py", "-m", "ipykernel_launcher"]
    assert "{connection_file}" in first["argv"]
    assert first["env"]["PLACE"] == "here"
    assert json.loads(first["env"][kernels._SETTINGS_VARIABLE]) == {"spark.cores.max": "1"}
    folder = Path(__file__).parents[2] / "job/notebooks"
    for notebook in folder.glob("*.ipynb"):
        assert json.loads(notebook.read_text())["metadata"]["kernelspec"]["name"] == NAME, notebook


def test_every_session_has_a_page_at_a_port_of_its_own():
    for title, settings in profiles(cores=2, own={"mine": {"spark.cores.max": "1"}}).items():
        assert (settings["spark.ui.enabled"], settings["spark.ui.port"]) == ("true", "0"), title


def test_kernels_are_files_of_this_user_alone(tmp_path: Path):
    specs = kernel_specs(profiles(cores=2), python="/py")
    write_kernels(tmp_path, specs)
    found = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("*.json")}
    assert found == specs
    for path in tmp_path.rglob("kernel.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
