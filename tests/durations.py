"""How long the tests take: kept for each lane, shown at its end, and held to a budget.

    pytest --lane job tests/job       keeps tests/.durations/job.json, and ends with a line about it
    python -m tests.durations         a line for each lane that was kept
    python -m tests.durations keep    writes them to tests/durations.json, for the repository

A lane is what one run of pytest takes on, such as the job's tests. With CI set, a lane that takes a
fifth more than its budget fails: two cores are CI's, and a slower machine is nobody's fault.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import pytest

BUDGETS: Final = {"quick": 240, "job": 1080, "deploy": 1080, "hosts": 1200}
"""Seconds that a lane of `make quick` and `make test` may take on two cores, the lanes job and
deploy beside each other. Others, such as those of `make long`, have no budget."""
TOLERANCE: Final = 1.2
LATEST: Final = Path(__file__).with_name(".durations")
KEPT: Final = Path(__file__).with_name("durations.json")
LEAST: Final = 0.1
"""Seconds: what takes less is counted, and not listed by name."""


@dataclass
class Lane:
    """What was measured of a lane, in seconds; `fixtures` are the slow ones' set-ups by name."""

    name: str
    date: str = ""
    cores: int = 0
    number: int = 0
    seconds: float = 0.0
    tests: dict[str, float] = field(default_factory=dict)
    fixtures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The lane that `write` kept."""
        return cls(**json.loads(path.read_text()))

    def write(self, folder: Path) -> None:
        """Keep it as NAME.json."""
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    @property
    def too_long(self) -> bool:
        """Whether it took a fifth more than its budget."""
        return self.seconds > BUDGETS.get(self.name, float("inf")) * TOLERANCE

    def line(self) -> str:
        """How many tests, how long, and the ten dearest."""
        budget = f" of {BUDGETS[self.name]}" if self.name in BUDGETS else ""
        costs = Counter(self.tests) + Counter({f"[{k}]": v for k, v in self.fixtures.items()})
        dearest = (f"{_short(name)} {cost:.0f}" for name, cost in costs.most_common(10))
        total = f"{self.number} tests, {self.seconds:.0f}{budget} s"
        return f"lane {self.name}: {total}; the dearest, in s: {', '.join(dearest)}"


def _short(test: str) -> str:
    return test.rpartition("/")[2].removeprefix("test_").replace(".py::test_", "::")


class Recorder:
    """Measures a lane: a plugin of pytest. A test's set-up and tear-down are counted with it,
    but for the set-up of fixtures that several tests share."""

    def __init__(self, lane: str) -> None:
        self._lane = Lane(lane, cores=len(os.sched_getaffinity(0)))
        self._began = time.monotonic()
        self._shared = 0.0
        self._tests: Counter[str] = Counter()
        self._fixtures: Counter[str] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        """Measure a shared fixture without those that it builds on."""
        began, before = time.monotonic(), self._shared
        result = yield
        if fixturedef.scope != "function":
            own = time.monotonic() - began - (self._shared - before)
            self._fixtures[f"{fixturedef.baseid}::{fixturedef.argname}"] += own
            self._shared += own
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a phase of a test."""
        self._tests[report.nodeid] += report.duration
        if report.when == "setup":
            self._tests[report.nodeid] -= self._shared
            self._shared = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep the lane; fail where it has passed its budget."""
        lane = self._lane
        lane.date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        lane.number, lane.seconds = len(self._tests), round(time.monotonic() - self._began, 1)
        lane.tests, lane.fixtures = _listed(self._tests), _listed(self._fixtures)
        lane.write(LATEST)
        if lane.too_long and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line about the lane."""
        terminalreporter.write_line(self._lane.line())
        if self._lane.too_long:
            terminalreporter.write_line(
                f"ERROR: lane {self._lane.name} has passed its budget of "
                f"{BUDGETS[self._lane.name]} s (tests/durations.py) by more than a fifth"
            )


def _listed(costs: Counter[str]) -> dict[str, float]:
    return {name: round(cost, 2) for name, cost in costs.most_common() if cost >= LEAST}


def main(words: list[str]) -> None:
    """Show the lanes that were measured last, or keep them for the repository."""
    lanes = [Lane.read(path) for path in sorted(LATEST.glob("*.json"))]
    for lane in lanes:
        print(lane.line())
    if words == ["keep"]:
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        kept |= {lane.name: asdict(lane) for lane in lanes}
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
