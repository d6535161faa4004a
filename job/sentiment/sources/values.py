"""How a value of JSON or Parquet is spelt where a text, a label or a name is looked for."""

from typing import Any


def as_text(value: Any) -> str | None:
    """A value's usual spelling: "true", "7", "abc"; None stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
