"""Options that several of the commands have."""

import click

dtype = click.option(
    "--dtype",
    type=click.Choice(["fp16", "fp32", "int8"]),
    default="fp16",
    show_default=True,
    help="How values are stored. fp16 halves a table of fp32 and changes cosines by 0.0002 at "
    "most, int8 quarters it and changes them by 0.005.",
)
force = click.option("--force", is_flag=True, help="Replace the word table OUT if it exists.")
