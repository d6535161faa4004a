"""`sentiment score`."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.commands.reading import (
    device_option,
    json_option,
    master_option,
    model_option,
    reading_options,
    say_place,
    table_for,
    table_option,
    time_option,
)
from sentiment.errors import INVALID_INPUT, PARTLY, USAGE, InvalidInputError, SentimentError
from sentiment.output import next_pull, next_step, result_json, result_table, say
from sentiment.sources import SourceOptions, cut_files, find_source

if TYPE_CHECKING:
    from sentiment.gpus import Wanted
    from sentiment.score import Scores
    from sentiment.score_parts import ScoreParts
    from sentiment.sources import Source


@click.command()
@click.argument("source", required=False)
@click.argument("out", required=False, type=click.Path(path_type=Path))
@model_option
@click.option("--text", "texts", multiple=True, help="Score this text; may be repeated.")
@table_option
@time_option
@reading_options
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@device_option
@master_option
@json_option
def score(
    *,
    source: str | None,
    out: Path | None,
    model: str,
    texts: tuple[str, ...],
    table: str | None,
    time_column: str | None,
    reading: SourceOptions,
    force: bool,
    device: "Wanted",
    master: str | None,
    as_json: bool,
) -> int:
    """Say of each review how probable it is that it praises.

    With --text, or with - for SOURCE (one review a line on standard input), the
    scores are printed, one JSON object a line with --json. Else SOURCE is
    anything that `sentiment ingest` reads, labelled or not, and OUT is the file
    to write: .jsonl, .csv or .parquet. Rows that cannot be scored go to
    OUT.quarantine.jsonl with the reason. A run that was interrupted keeps its
    scores in OUT.parts; the same command goes on with them.

    \b
    Examples:
      sentiment score --model model --text "Not a minute too long."
      head reviews.txt | sentiment score --model model - --json
      sentiment score --model model reviews.csv scores.parquet
    """
    if texts and source:
        raise click.UsageError("give --text or SOURCE, not both")
    if device == "cuda" and (texts or source == "-"):
        raise click.UsageError("--text and - are scored here, on the CPU: not with --device cuda")
    if texts:
        return _print_scores(model, list(texts), table=table, as_json=as_json)
    if source == "-":
        if out is not None:
            raise click.UsageError("- is scored to standard output: leave OUT out")
        return _print_scores(model, _standard_input(), table=table, as_json=as_json)
    if source is None or out is None:
        raise click.UsageError("give --text, or - for standard input, or SOURCE and OUT")
    return _score_source(
        source,
        out,
        model,
        table=table,
        reading=replace(reading, need_labels=False, time_column=time_column),
        force=force,
        device=device,
        master=master,
        as_json=as_json,
    )


def _standard_input() -> list[str]:
    """Lines of standard input; bytes that are not UTF-8 become U+FFFD, which is said."""
    lines = sys.stdin.buffer.read().splitlines()
    texts = [line.decode(errors="replace") for line in lines]
    damaged = [n for n, line in enumerate(texts, start=1) if "\N{REPLACEMENT CHARACTER}" in line]
    if damaged:
        say(f"not UTF-8, read with replacement characters: line {', '.join(map(str, damaged))}")
    return texts


def _print_scores(model: str, texts: list[str], *, table: str | None, as_json: bool) -> int:
    from sentiment.model import model_from_files, read_model_files  # noqa: PLC0415
    from sentiment.score import score_texts  # noqa: PLC0415

    files = read_model_files(Path(model))
    path = table_for(files, table, model=model)
    scores = score_texts(model_from_files(files, where=model, table=path), texts)
    if as_json:
        for line in _json_lines(texts, scores):
            result_json(line)
    else:
        for text, probability, reason in zip(texts, scores.probability, scores.reason, strict=True):
            click.echo(_line(text, float(probability), reason))
    refused = sum(reason is not None for reason in scores.reason)
    if refused or not texts:
        say(f"{len(texts) - refused} of {len(texts)} texts scored, {refused} not")
    if refused and refused == len(texts):
        return INVALID_INPUT
    return PARTLY if refused else 0


def _line(text: str, probability: float, reason: str | None) -> str:
    from sentiment.score import verdict  # noqa: PLC0415

    if reason is not None:
        return f"  -            {text}  ({reason})"
    return f"{probability:.4f} {verdict(probability):<6} {text}"


def _json_lines(texts: list[str], scores: "Scores") -> list[dict[str, Any]]:
    from sentiment.score import verdict  # noqa: PLC0415

    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts):
        reason = scores.reason[number]
        probability = None if reason else float(scores.probability[number])
        lines.append(
            {
                "text": text,
                "probability": probability,
                "verdict": None if probability is None else verdict(probability),
                "tokens": int(scores.tokens[number]),
                "known": float(scores.known[number]),
                "reason": reason,
            }
        )
    return lines


def _score_source(
    spec: str,
    out: Path,
    model: str,
    *,
    table: str | None,
    reading: SourceOptions,
    force: bool,
    device: "Wanted",
    master: str | None,
    as_json: bool,
) -> int:
    from sentiment.score_parts import (  # noqa: PLC0415
        SUFFIXES,
        parts_directory,
        quarantine_of,
        run_of,
        score_parts,
    )

    if out.suffix not in SUFFIXES:
        raise SentimentError(
            f"what to write is told by its suffix: one of {', '.join(SUFFIXES)}",
            where=str(out),
            code=USAGE,
        )
    source = find_source(spec, reading)
    for note in source.notes:
        say(note)
    from sentiment.files import refuse_existing  # noqa: PLC0415
    from sentiment.model import model_from_files, read_model_files  # noqa: PLC0415

    refuse_existing(out, replace=force and not out.is_dir())
    _refuse_own_source(source, spec, out)
    if not parts_directory(out).is_dir():
        refuse_existing(quarantine_of(out), replace=force)
    files = read_model_files(Path(model))
    path = table_for(files, table, model=model)
    digest = model_from_files(files, where=model).digest
    source = cut_files(source)  # it reads large files once: not before what is cheap to refuse
    run = run_of(source, model_digest=digest)
    with score_parts(out, run, replace=force) as parts:
        if parts.done:
            scored = parts.counts().rows
            say(f"goes on where an interrupted run ended: {scored:,} reviews are scored")
        if parts.done < len(source.tasks):
            _score_rest(source, parts, files, table=path, device=device, master=master)
        counts = parts.counts()
        quarantine = parts.finish(model_digest=digest)
    told = {
        "out": str(out),
        "rows": counts.rows,
        "quarantined": counts.quarantined,
        "quarantine": str(quarantine) if quarantine else None,
        "quarantine_reasons": counts.reasons,
        "model_digest": digest,
    }
    if as_json:
        result_json(told)
    else:
        result_table(
            f"scores {out}",
            [
                ("rows read", f"{counts.rows + counts.quarantined:,}"),
                ("scored", f"{counts.rows:,}"),
                ("quarantined", f"{counts.quarantined:,}"),
                *((f"  {reason}", f"{n:,}") for reason, n in counts.reasons.items()),
            ],
        )
    if not next_pull(out) and quarantine:
        next_step(f"look at what was not scored: {quarantine}")
    return 0


def _say_largest(source: "Source", portion: int) -> None:
    """A .gz and a row group of Parquet are not cut: an interruption begins a large one anew."""
    task = max(source.tasks, key=lambda one: one.size)
    if task.size > portion:
        say(
            f"{task.parts[0].name} ({task.size >> 20:,} MiB) is scored in one go; unpacked, as "
            f".jsonl or .csv, it shows how far it is, and goes on after an interruption"
        )


def _refuse_own_source(source: "Source", spec: str, out: Path) -> None:
    """In the place of the reviews OUT would be their end; among them it would be read next."""
    target = out.resolve()
    read = {Path(part.path).resolve() for task in source.tasks for part in task.parts}
    if target in read or (Path(spec).is_dir() and target.is_relative_to(Path(spec).resolve())):
        raise InvalidInputError(
            "is one of the files that are scored" if target in read else "lies in SOURCE",
            where=str(out),
            todo="name another place for OUT",
        )


def _score_rest(
    source: "Source",
    parts: "ScoreParts",
    files: dict[str, bytes],
    *,
    table: str | None,
    device: "Wanted",
    master: str | None,
) -> None:
    """Score what an interrupted run has left to do, and say how far it is."""
    from sentiment.device import CPU  # noqa: PLC0415
    from sentiment.gpus import gpus_for  # noqa: PLC0415
    from sentiment.scoring import PORTION_BYTES, Scoring, score_source  # noqa: PLC0415
    from sentiment.session import cores, find_place, spark_session  # noqa: PLC0415

    place = find_place(master)
    say_place(place, source.path)
    began, rows, last = time.monotonic(), 0, len(source.tasks)
    counts = parts.counts()
    before = counts.rows + counts.quarantined

    def said(more: int, done: int) -> None:
        nonlocal rows
        rows += more
        if parts.done < last:
            rate = rows / (time.monotonic() - began)
            say(f"{done / source.size:4.0%}  {before + rows:,} rows, {rate:,.0f} a second")

    try:
        with spark_session(place, name="sentiment-score") as spark:
            _say_largest(source, PORTION_BYTES * cores(spark))
            gpus = gpus_for(spark.sparkContext, CPU, device, warn=say)
            scoring = Scoring(spark, files, table=table, gpus=gpus)
            score_source(scoring, source, parts, said=said)
    except (KeyboardInterrupt, SentimentError):
        if parts.done:
            say("what is scored is kept: the same command goes on with it")
        raise
