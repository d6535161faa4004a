"""`sentiment films`."""

from pathlib import Path

import click

from sentiment.commands.reading import json_option
from sentiment.errors import InvalidInputError
from sentiment.output import result_json, say


@click.command()
@click.argument("scored", type=click.Path(path_type=Path))
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 1, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the interval of a film's difference.",
)
@click.option(
    "--least",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Leave films out that have fewer reviews with stars.",
)
@json_option
def films(*, scored: Path, confidence: float, least: int, as_json: bool) -> None:
    """List the films whose reviews say other than their stars.

    SCORED is what `sentiment score` wrote of a source that has films and stars, as aclImdb has.
    Of each review both say whether it praises: the model by its verdict, the stars from 7 of ten
    up (4 and below pan; 5 and 6 are left out). A film is listed if the interval of the difference
    leaves zero out. With 0.95, one of twenty films that agree is here by chance.

    \b
    Examples:
      sentiment score --model model aclImdb scores.parquet
      sentiment films scores.parquet
      sentiment films scores.parquet --least 20 --confidence 0.99 --json
    """
    from sentiment.films import disagreeing, films_of, read_scores  # noqa: PLC0415

    told = films_of(read_scores(scored))
    if not told.films:
        raise InvalidInputError(
            f"no review has a film and stars: of {told.rows:,} rows {told.without_film:,} have no "
            f"film, {told.without_stars:,} no stars, {told.neutral:,} neutral ones",
            where=str(scored),
            todo="score a source that has both, as aclImdb with its urls_*.txt",
        )
    large = sum(film.reviews >= least for film in told.films)
    found = disagreeing(told.films, confidence=confidence, least=least)
    used = sum(film.reviews for film in told.films)
    if as_json:
        result_json(
            {
                "rows": told.rows,
                "used": used,
                "without_film": told.without_film,
                "without_stars": told.without_stars,
                "neutral": told.neutral,
                "films": len(told.films),
                "films_compared": large,
                "confidence": confidence,
                "disagreeing": [
                    {
                        "film": film.film,
                        "reviews": film.reviews,
                        "stars": film.stars,
                        "praise_by_stars": film.praise_by_stars,
                        "praise_by_model": film.praise_by_model,
                        "difference": film.difference,
                        "interval": list(interval),
                    }
                    for film, interval in found
                ],
            }
        )
        return
    say(
        f"{used:,} of {told.rows:,} reviews have a film and stars: {len(told.films):,} films, "
        f"{large:,} with {least} reviews or more"
    )
    if not found:
        click.echo("no film's reviews say other than its stars")
        return
    click.echo(
        f"{'film':<12} {'reviews':>7} {'stars':>5} {'praise by stars':>15} {'by model':>8} "
        f"{'difference':>10}  {confidence:.0%} interval"
    )
    for film, (low, high) in found:
        click.echo(
            f"{film.film:<12} {film.reviews:>7} {film.stars:>5.1f} {film.praise_by_stars:>15.0%} "
            f"{film.praise_by_model:>8.0%} {film.difference:>+10.0%}  {low:+.0%} to {high:+.0%}"
        )
