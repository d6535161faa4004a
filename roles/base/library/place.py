#!/usr/bin/python
"""Ansible module: make many directories, or write many files, in one go.

`ansible.builtin.file` and `copy` in a loop take half a second a path on each host, most of it for
the start of Python there. `directories` is a list, parents first: `path`, `mode`, and `owner` and
`group` (root). `files` are texts by their names in the directory `into`, with one `owner`, `group`
and `mode`; with `force: false` a file that is there stays as it is. Check mode and differences
are those of `file` and `copy`.
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main():
    """Make what is missing or different; `changed` if there was any such thing."""
    attributes = {
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str"},
    }
    directory = {"path": {"type": "path", "required": True}, **attributes}
    module = AnsibleModule(
        {
            "directories": {"type": "list", "elements": "dict", "options": directory},
            "files": {"type": "dict"},
            "into": {"type": "path"},
            "force": {"type": "bool", "default": True},
            **attributes,
        },
        required_one_of=[("directories", "files")],
        required_by={"files": ("into", "mode")},
        supports_check_mode=True,
    )
    diffs = []
    for entry in module.params["directories"] or ():
        diffs += _make_directory(module, entry)
    for name, content in (module.params["files"] or {}).items():
        path = Path(module.params["into"], name)
        if module.params["force"] or not os.path.lexists(path):
            diffs += _write_file(module, path, content)
    module.exit_json(changed=bool(diffs), diff=diffs)


def _make_directory(module, entry):
    """The differences that it makes."""
    path = Path(entry["path"])
    if path.is_dir():
        return _set_attributes(module, path, entry)
    if os.path.lexists(path):
        module.fail_json(msg=f"{path} is there and is no directory")
    if not module.check_mode:
        path.mkdir()
        _set_attributes(module, path, entry)
    before = {"path": str(path), "state": "absent"}
    return [{"before": before, "after": {"path": str(path), "state": "directory"}}]


def _write_file(module, path, content):
    """The differences that it makes."""
    before = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    if before == content.encode():
        return _set_attributes(module, path, module.params)
    if not module.check_mode:
        # Not in Ansible's own folder, which it would make in root's home and leave there.
        number, aside = tempfile.mkstemp(dir=path.parent, prefix=".")
        with os.fdopen(number, "wb") as file:
            file.write(content.encode())
        module.atomic_move(aside, str(path))
        _set_attributes(module, path, module.params)
    text = (before or b"").decode(errors="replace")
    headers = {"before_header": str(path), "after_header": str(path)}
    return [{"before": text, "after": content, **headers}]


def _set_attributes(module, path, entry):
    """The differences of owner, group and mode."""
    diff = {"before": {}, "after": {}}
    attributes = {name: entry[name] for name in ("owner", "group", "mode")}
    wanted = module.load_file_common_arguments(attributes, path=str(path))
    return [diff] if module.set_fs_attributes_if_different(wanted, False, diff=diff) else []


if __name__ == "__main__":
    main()
