"""`make bench`, or `python -m tests.bench [--recipe NAME] [--runs N]`."""

import click

from tests.bench import throughput


@click.command()
@click.option("--recipe", default="quick", show_default=True)
@click.option("--runs", default=5, show_default=True)
def main(recipe: str, runs: int) -> None:
    throughput.run(recipe, runs=runs)


main()
