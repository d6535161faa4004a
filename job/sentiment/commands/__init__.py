"""One click command a file: options, one call, the result."""
