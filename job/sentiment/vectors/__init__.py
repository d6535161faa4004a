"""Word vectors: the word table, and what builds one.

A word table is a directory that every process maps and no process loads; see
docs/word-table.md for its layout.
"""

from sentiment.vectors.chunk import Chunk, Policy
from sentiment.vectors.table import WordTable, open_table, write_table

__all__ = ["Chunk", "Policy", "WordTable", "open_table", "write_table"]
