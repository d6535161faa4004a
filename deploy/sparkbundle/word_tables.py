"""Which host has which word tables: as the hosts themselves tell, without Spark."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sparkbundle import preflight, probe
from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.state import vectors_directory

SHORT = 12
"""So much of a digest is shown."""


@dataclass(frozen=True, kw_only=True)
class WordTable:
    """A word table on a host. `whole`: it is as it was when its sha256 was found right."""

    digest: str
    whole: bool
    bytes: int
    rows: int
    dimensions: int
    dtype: str
    source: str

    @property
    def described(self) -> str:
        """What it is, in words."""
        size = f"{self.bytes / 1e6:,.1f} MB"
        return f"{self.rows:,} x {self.dimensions} {self.dtype}, {size}, {self.source}"

    @property
    def fault(self) -> str:
        """What is wrong with it, or nothing."""
        if self.whole:
            return ""
        return f"word table {self.digest[:SHORT]} was changed: ship it again"

    def as_json(self) -> dict[str, Any]:
        """The table as a JSON object."""
        return asdict(self)


def parse_tables(told: Iterable[Mapping[str, Any]]) -> tuple[WordTable, ...]:
    """The tables that a host tells of (`probe.word_tables`)."""
    return tuple(WordTable(**one) for one in told)


def tables_here() -> tuple[WordTable, ...]:
    """The tables of this machine, for the clusters on it."""
    return parse_tables(probe.word_tables(str(vectors_directory())))


def tables_on(hosts: Hosts) -> dict[str, tuple[WordTable, ...] | SparkbundleError]:
    """What each host tells of its tables; the error of one that is not reached.

    Raises:
        SparkbundleError: not a single host is reached.
    """
    told = hosts.each(lambda host: parse_tables(preflight.ask(hosts, host)["word_tables"]))
    errors = [answer for answer in told.values() if isinstance(answer, SparkbundleError)]
    if len(errors) == len(told):
        raise errors[0]
    return told


def spread(tables: Mapping[str, Iterable[WordTable]]) -> list[tuple[str, str, str]]:
    """A line for each table on any of the hosts: digest, what it is, which hosts have it."""
    have: dict[str, list[str]] = {}
    changed: dict[str, list[str]] = {}
    known: dict[str, WordTable] = {}
    for host, found in tables.items():
        for table in found:
            known[table.digest] = table
            (have if table.whole else changed).setdefault(table.digest, []).append(host)
    return [
        (
            digest[:SHORT],
            table.described,
            _where(have.get(digest, []), changed.get(digest, []), list(tables)),
        )
        for digest, table in known.items()
    ]


def _where(having: list[str], changed: list[str], hosts: list[str]) -> str:
    if len(having) == len(hosts):
        return "every host" if len(hosts) > 1 else hosts[0]
    lacking = [host for host in hosts if host not in (*having, *changed)]
    parts = [", ".join(having) or "no host"]
    if changed:
        parts.append(f"CHANGED on {', '.join(changed)}")
    if lacking:
        parts.append(f"NOT on {', '.join(lacking)}")
    return "; ".join(parts)
