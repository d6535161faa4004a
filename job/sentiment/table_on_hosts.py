"""Whether the hosts of a job have the word table that it needs: asked before any work."""

from pyspark import SparkContext

from sentiment.errors import InvalidInputError
from sentiment.located import executor_hosts, placed, run_on
from sentiment.table_words import TableWords
from sentiment.vectors.store import SHIP_IT


def require_table(context: SparkContext, needed: TableWords | None) -> None:
    """Stop if a host with executors lacks the table; nothing happens where none is needed.

    Raises:
        InvalidInputError: it lists the hosts that lack the table, or have a changed one.
    """
    if needed is None:
        return
    hosts = executor_hosts(context)
    with placed(context):
        answers = run_on(context, [(host, needed) for host in hosts], _open)
    faults = {answer.host: answer.error.what for answer in answers if answer.error is not None}
    if faults:
        told = "; ".join(f"{host}: {what}" for host, what in sorted(faults.items()))
        raise InvalidInputError(
            f"{len(faults)} of {len(hosts)} hosts cannot use the word table "
            f"{needed.digest[:12]}, which this job needs: {told}",
            todo=SHIP_IT,
        )


def _open(needed: TableWords) -> int:
    return needed.table.rows
