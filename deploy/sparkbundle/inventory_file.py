"""The text of an inventory: which key stands on which line, and what cannot stand there.

Ansible decides which value holds for a host. It passes over typing errors in silence, though,
and knows no lines, so the files are also read here, without filling anything in.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from sparkbundle import inventory_keys as keys

ROLES = ("master", "workers", "notebook")
_BUILT_IN = ("all", "ungrouped")
_SECTIONS = ("hosts", "vars", "children")
# In the order in which Ansible looks for the file of a group or a host. It takes the first.
_EXTENSIONS = ("", ".yml", ".yaml", ".json")
_MOST_HOSTS = 1000
_STR, _MERGE, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("str", "merge", "null"))
_RANGE = re.compile(r"\[(\w{0,9}):(\w{1,9})(?::\d{1,9})?\]")
_PORT = re.compile(r"(?<=[^:]):\d+$")
_INI_LINE = re.compile(r"\[[^\[\]{}]*\]|[^\s:#]+(\s+\w+=\S+)+")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: in which file and line, what, and what to write instead."""

    where: str
    what: str
    todo: str = ""

    @property
    def line(self) -> str:
        """The problem on one line."""
        return f"{self.where}: {self.what}" + (f": {self.todo}" if self.todo else "")

    @property
    def order(self) -> tuple[str, int, str]:
        """By file, then line."""
        file, _, line = self.where.rpartition(":")
        return (file, int(line), self.what) if line.isdigit() else (self.where, 0, self.what)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A key of ours in a file; `owner` is a group, or a host as it is written there."""

    key: str
    owner: str
    of_host: bool
    where: str


@dataclass(kw_only=True)
class Scan:
    """What the files say, and what is wrong with them.

    `hosts` (as written: worker-[1:3]) and `groups` have the place where each is met
    first, in the file's order; `children` are pairs of a group and the one above it.
    `flagged` are the keys that a problem is about. Without `readable` there is nothing
    to go on with.
    """

    path: Path
    readable: bool = True
    problems: list[Problem] = field(default_factory=list)
    flagged: set[str] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    children: list[tuple[str, str]] = field(default_factory=list)

    def report(self, where: str | Path, what: str, todo: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(where=str(where), what=what, todo=todo))

    def refuse(self, what: str, todo: str = "") -> "Scan":
        """Note that the file is no inventory at all."""
        self.report(self.path, what, todo)
        self.readable = False
        return self

    def position(self, host: str) -> int:
        """Where a host comes in the file, among the others."""
        matches = (n for n, pattern in enumerate(self.hosts) if covers(pattern, host))
        return next(matches, len(self.hosts))

    def where(self, host: str) -> str:
        """The file and line of a host."""
        places = (place for pattern, place in self.hosts.items() if covers(pattern, host))
        return next(places, str(self.path))


def covers(pattern: str, host: str) -> bool:
    """Whether a host is one of those that a pattern such as w[1:3] or w1:2222 stands for."""
    pattern = _PORT.sub("", pattern)
    literals = [re.escape(text) for text in _RANGE.split(pattern)[::3]]
    found = re.fullmatch(r"([A-Za-z0-9]{1,9}?)".join(literals), host)
    if found is None:
        return False
    for value, (first, last) in zip(found.groups(), _RANGE.findall(pattern), strict=True):
        if value.isdecimal() and last.isdecimal():
            if not _number(first) <= int(value) <= int(last):
                return False
        elif not first <= value <= last:
            return False
    return True


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def scan(path: Path) -> Scan:
    """Read an inventory file and the group_vars and host_vars beside it."""
    found = Scan(path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        return found.refuse("is a directory", "name the inventory file in it")
    except FileNotFoundError:
        return found.refuse("there is no such file", "see inventory/example.yml, and write one")
    except UnicodeDecodeError:
        return found.refuse("is not a text in UTF-8", "write YAML, see inventory/example.yml")
    except OSError as error:
        return found.refuse(f"cannot be read: {error.strerror}")
    found = scan_text(path, text)
    if found.readable:
        for folder, of_host in (("group_vars", False), ("host_vars", True)):
            try:
                _scan_folder(found, path.parent / folder, of_host=of_host)
            except OSError as error:
                found.report(path.parent / folder, f"cannot be read: {error.strerror}")
    return found


def scan_text(path: Path, text: str) -> Scan:
    """Read the text of an inventory file, and nothing else."""
    found = Scan(path=path)
    if refusal := _not_yaml(path, text):
        return found.refuse(*refusal)
    root = _compose(found, path, text)
    if root is None:
        found.readable = False
        return found if found.problems else found.refuse("is empty", "see inventory/example.yml")
    pairs = _pairs(found, path, root, what="an inventory")
    if any(name == "plugin" for name, _, _ in pairs):
        return found.refuse("is a dynamic inventory (plugin)", "write the hosts themselves")
    for name, where, node in pairs:
        if name in _SECTIONS:
            found.report(where, f"{name!r} is outside of any group", "write it under 'all:'")
        else:
            _scan_group(found, name, where=where, node=node)
    _report_strange_groups(found)
    return found


def _not_yaml(path: Path, text: str) -> tuple[str, str] | None:
    """What is wrong with a file that is no YAML inventory and does not want to be one."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    if text.startswith("#!"):
        return "is a program (a dynamic inventory)", "save what it prints as a YAML inventory"
    if path.suffix in (".ini", ".cfg") or _INI_LINE.fullmatch(first):
        return "this is an INI inventory", "write YAML, see inventory/example.yml"
    if path.suffix not in _EXTENSIONS:
        return "is not a file that Ansible reads", "let its name end in .yml"
    if text.startswith("$ANSIBLE_VAULT;"):
        return "is encrypted", "encrypt a file in group_vars instead"
    return None


def _scan_group(found: Scan, name: str, *, where: str, node: yaml.Node) -> None:
    found.groups.setdefault(name, where)
    for section, place, content in _pairs(found, found.path, node, what=f"the group {name!r}"):
        if section == "vars":
            _scan_variables(found, found.path, content, owner=name, of_host=False)
        elif section == "children":
            for child, at, below in _pairs(
                found, found.path, content, what=f"the children of {name!r}"
            ):
                found.children.append((child, name))
                _scan_group(found, child, where=at, node=below)
        elif section == "hosts":
            for host, at, variables in _pairs(
                found, found.path, content, what=f"the hosts of {name!r}"
            ):
                found.hosts.setdefault(host, at)
                _refuse_long_range(found, host, at)
                _scan_variables(found, found.path, variables, owner=host, of_host=True)
        elif keys.known(section):
            found.report(place, f"{section!r} is not a part of a group", "write it under 'vars:'")
        else:
            todo = keys.guess(section, _SECTIONS) or "a group has hosts, vars and children"
            found.report(place, f"{section!r} is not a part of a group", todo)


def _refuse_long_range(found: Scan, host: str, where: str) -> None:
    # Ansible would fill the memory with them, one by one.
    sizes = (
        abs(_number(last) - _number(first)) + 1 if len(last) < 10 else math.inf  # noqa: PLR2004
        for first, last in re.findall(r"\[(\w{0,9}):(\w+)", host)
    )
    if math.prod(sizes) > _MOST_HOSTS:
        found.report(where, f"{host!r} stands for more than {_MOST_HOSTS} hosts")
        found.readable = False


def _report_strange_groups(found: Scan) -> None:
    """Report the groups that are neither ours nor below one of ours."""
    good = set(ROLES)
    while more := {child for child, parent in found.children if parent in good} - good:
        good |= more
    for name, where in found.groups.items():
        if name not in good and name not in _BUILT_IN:
            todo = keys.guess(name, ROLES) or "a group of your own belongs under workers: children:"
            found.report(where, f"unknown group {name!r}", todo)


def _scan_variables(found: Scan, file: Path, node: yaml.Node, *, owner: str, of_host: bool) -> None:
    for name, where, value in _pairs(found, file, node, what=f"the variables of {owner!r}"):
        if not keys.known(name):
            found.report(where, f"unknown variable {name!r}", keys.hint(name))
            found.flagged.add(name)
        elif name in keys.KEYS:
            found.entries.append(Entry(key=name, owner=owner, of_host=of_host, where=where))
            if of_host and keys.KEYS[name].whole_cluster:
                todo = "write it under 'all: vars:'"
                found.report(where, f"{name!r} holds for the whole cluster", todo)
            _check_value(found, file, name, where=where, node=value)


def _check_value(found: Scan, file: Path, name: str, *, where: str, node: yaml.Node) -> None:
    before = len(found.problems)
    if name == "spark_settings" and isinstance(node, yaml.MappingNode):
        for setting, at, value in _pairs(found, file, node, what=name):
            try:
                keys.parse_setting(setting, _plain(value))
            except ValueError as error:
                found.report(at, f"{setting}: {error}")
    else:
        try:
            keys.parse(name, _plain(node))
        except ValueError as error:
            found.report(where, f"{name}: {error}")
    if len(found.problems) > before:
        found.flagged.add(name)


def _plain(node: yaml.Node) -> object:
    """The value of a node.

    Raises:
        ValueError: it has none without Ansible's help, or none at all.
    """
    try:
        return yaml.SafeLoader("").construct_document(node)
    except yaml.constructor.ConstructorError as error:
        if node.tag.startswith("!"):
            raise ValueError(f"{node.tag} cannot be used here: write the plain value") from error
        raise ValueError(f"cannot be read: {error.problem}") from error


def _scan_folder(found: Scan, folder: Path, *, of_host: bool) -> None:
    """Read group_vars or host_vars: NAME, NAME.yml or all files in the directory NAME."""
    if not folder.is_dir():
        return
    by_owner: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (_extension(path), path.name)):
        if not _hidden(path):
            owner = path.name.removesuffix(_EXTENSIONS[_extension(path)])
            by_owner.setdefault(owner, []).append(path)
    for owner, (first, *others) in by_owner.items():
        if not _belongs(found, owner, of_host=of_host):
            _report_stray(found, first, owner, of_host=of_host)
            continue
        for path in others:
            found.report(path, "is not read", f"Ansible takes {first.name} instead: join them")
        for file in _files(first):
            root = _read_node(found, file)
            if root is not None:
                _scan_variables(found, file, root, owner=owner, of_host=of_host)


def _extension(path: Path) -> int:
    return 0 if path.is_dir() or path.suffix not in _EXTENSIONS else _EXTENSIONS.index(path.suffix)


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith("~")


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for below in sorted(path.iterdir()):
        if not _hidden(below) and (below.is_dir() or below.suffix in _EXTENSIONS):
            yield from _files(below)


def _belongs(found: Scan, owner: str, *, of_host: bool) -> bool:
    if of_host:
        return any(covers(pattern, owner) for pattern in found.hosts)
    return owner in found.groups or owner in _BUILT_IN


def _report_stray(found: Scan, path: Path, owner: str, *, of_host: bool) -> None:
    # Several inventories in one directory share these folders.
    others = {p for p in found.path.parent.glob("*.y*ml") if p.name != found.path.name}
    if not others:
        known = found.hosts if of_host else [*found.groups, "all"]
        kind = "host" if of_host else "group"
        found.report(
            path, f"there is no {kind} {owner!r} in {found.path}", keys.guess(owner, known)
        )


def _read_node(found: Scan, file: Path) -> yaml.Node | None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found.report(file, f"cannot be read: {error}")
        return None
    # Ansible opens it; what is in it is checked later, without lines.
    return None if text.startswith("$ANSIBLE_VAULT;") else _compose(found, file, text)


def _compose(found: Scan, file: Path, text: str) -> yaml.Node | None:
    """The root of a YAML text; None, with or without a problem, if there is nothing to use."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        column = f" (column {mark.column + 1})" if mark else ""
        found.report(place, f"is not YAML: {error.problem or error.context}{column}")
        return None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = f"column {len(before) - before.rfind(chr(10))}"
        place = f"{file}:{before.count(chr(10)) + 1}"
        found.report(place, f"is not YAML: a character that cannot be in it ({column})")
        return None
    except RecursionError:
        found.report(file, "is nested too deeply")
        return None
    if root is None or root.tag == _NULL:
        return None
    return root if _sound(found, file, root, above=(), seen=set()) else None


def _sound(
    found: Scan, file: Path, node: yaml.Node, *, above: tuple[yaml.Node, ...], seen: set[yaml.Node]
) -> bool:
    """Report keys that are there twice; false if an alias goes round in a circle."""
    if node in above:
        found.report(_place(file, node), "an alias contains itself")
        return False
    if node in seen or isinstance(node, yaml.ScalarNode):
        return True
    seen.add(node)
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        _report_double_keys(found, file, node)
        parts = [part for pair in node.value for part in pair]
    above = (*above, node)
    # A list, so that every part is looked at.
    good = [_sound(found, file, part, above=above, seen=seen) for part in parts]
    return all(good)


def _report_double_keys(found: Scan, file: Path, node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        first = lines.get((key.tag, key.value))
        if first is not None:
            what = f"{key.value!r} is there twice, first in line {first}"
            found.report(_place(file, key), what, "only the last would count: remove one")
        lines[key.tag, key.value] = first or key.start_mark.line + 1


def _place(file: Path, node: yaml.Node) -> str:
    return f"{file}:{node.start_mark.line + 1}"


def _pairs(
    found: Scan, file: Path, node: yaml.Node, *, what: str
) -> list[tuple[str, str, yaml.Node]]:
    """The keys of a mapping with their places and values, those of `<<:` included."""
    if node.tag == _NULL:
        return []
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        todo = "write 'name:'" + (" instead of '- name'" if kind == "a list" else "")
        found.report(_place(file, node), f"{what} must be a mapping, not {kind}", todo)
        return []
    merged: dict[str, tuple[str, str, yaml.Node]] = {}
    own: dict[str, tuple[str, str, yaml.Node]] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in reversed(sources):
                pairs = _pairs(found, file, source, what="what '<<' takes in")
                merged |= {pair[0]: pair for pair in pairs}
        elif key.tag == _STR and isinstance(key, yaml.ScalarNode):
            own[key.value] = (key.value, _place(file, key), value)
        else:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "this key"
            found.flagged.add(name)
            found.report(_place(file, key), f"{name} is not a text", "put the key in quotes")
    return list((merged | own).values())
