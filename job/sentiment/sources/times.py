"""Points in time as sources spell them."""

from datetime import UTC, datetime
from typing import Final

_MILLISECONDS_FROM: Final = 1e11
"""Numbers from here on are milliseconds: as seconds they would be after the year 5138."""


def time_of(value: str) -> float | None:
    """Seconds since 1970, UTC; None if it is no point in time.

    Known: ISO 8601 (UTC where it names no zone), and numbers: seconds, or milliseconds, since
    1970.
    """
    value = value.strip()
    try:
        number = float(value)
    except ValueError:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    seconds = number / 1000 if abs(number) >= _MILLISECONDS_FROM else number
    return seconds if abs(seconds) < _MILLISECONDS_FROM else None


def spelt(seconds: float) -> str:
    """A point in time as ISO 8601."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since 1970"
