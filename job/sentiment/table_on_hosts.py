"""Whether the hosts of a job have the word table that it needs: asked before any work."""

from pyspark import SparkContext

from sentiment.errors import InvalidInputError
from sentiment.located import executor_hosts, placed, run_on
from sentiment.table_words import opened
from sentiment.vectors.store import SHIP_IT


def require_table(context: SparkContext, digest: str, *, path: str | None) -> None:
    """Stop if a host with executors has the table neither in its store nor at `path`.

    Raises:
        InvalidInputError: it lists the hosts that lack the table, or have a changed one.
    """
    hosts = executor_hosts(context)
    work = [(host, digest) for host in hosts]
    with placed(context):
        answers = run_on(context, work, lambda wanted: opened(wanted, path).rows)
    faults = {answer.host: answer.error.what for answer in answers if answer.error is not None}
    if faults:
        told = "; ".join(f"{host}: {what}" for host, what in sorted(faults.items()))
        raise InvalidInputError(
            f"{len(faults)} of {len(hosts)} hosts cannot use the word table "
            f"{digest[:12]}, which this job needs: {told}",
            todo=SHIP_IT,
        )
