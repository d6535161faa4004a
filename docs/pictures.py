"""The pictures of the README, made from real runs.

By hand, in the repository's environment:

    python docs/pictures.py record demo.cast -- sparkbundle demo
    python docs/pictures.py gif demo.cast docs/demo.gif
    python docs/pictures.py page sparkbundle-demo/report.html docs/report.png

A recording is an asciicast of version 2, with the run's own times. The GIF shortens waits and
shows the run's own clock below. `page` stops above the excerpts of reviews, which are not ours.
"""

import codecs
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import click
from PIL import Image, ImageColor, ImageDraw, ImageFont

COLUMNS, ROWS = 94, 30
LONGEST_WAIT = 0.8
"""Seconds that the GIF shows of a time in which nothing but a spinner moves."""
FRAMES_A_SECOND = 6
LAST_FRAME = 6.0
FONTS = Path("/usr/share/fonts/truetype/dejavu")
FONT_FILES = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSans.ttf")
"""For text, for bold text and for the spinner's dots, which the others lack."""
FONT_SIZE, LINE_HEIGHT, MARGIN = 14, 18, 12
PAPER, INK, DIM, BAR = "#14181e", "#e4e8ed", "#8a96a4", "#262d37"
COLOURS = {
    2: DIM,
    31: "#f07178",
    32: "#8fd18a",
    33: "#e6c26a",
    34: "#6aa7ea",
    35: "#c792ea",
    36: "#6fd1d6",
}
"""By the numbers of `ESC [ number m`."""
SHADES = 6
"""Colours from paper to ink."""
BROWSER = "/usr/bin/chromium"
LAST_SECTION = "What it said of the held-out reviews"
PAGE_WIDTH, PAGE_COLOURS = 1000, 96

_CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|\x1b[=>]")
_SPINNER = re.compile("[\u2800-\u28ff]")


@dataclass(frozen=True)
class Cell:
    """A character on the terminal and how it looks."""

    character: str = " "
    colour: str = INK
    bold: bool = False


Screen = tuple[tuple[Cell, ...], ...]


@dataclass
class Terminal:
    """As much of a terminal as lines of text, a spinner and colours need."""

    lines: list[list[Cell]] = field(default_factory=lambda: [_blank() for _ in range(ROWS)])
    row: int = 0
    column: int = 0
    style: Cell = field(default_factory=Cell)

    def feed(self, text: str) -> None:
        """Take what a program writes."""
        place = 0
        while place < len(text):
            if control := _CONTROL.match(text, place):
                self._control(control[1] or "", control[2] or "")
                place = control.end()
            else:
                self._put(text[place])
                place += 1

    def screen(self) -> Screen:
        """What is to be seen now."""
        return tuple(tuple(line) for line in self.lines)

    def _put(self, character: str) -> None:
        if character == "\r":
            self.column = 0
        elif character == "\n":
            self._next_line()
        elif character >= " ":
            if self.column == COLUMNS:
                self.column = 0
                self._next_line()
            self.lines[self.row][self.column] = replace(self.style, character=character)
            self.column += 1

    def _next_line(self) -> None:
        self.row += 1
        if self.row == ROWS:
            self.lines = [*self.lines[1:], _blank()]
            self.row = ROWS - 1

    def _control(self, given: str, name: str) -> None:
        numbers = [int(number) for number in given.split(";") if number.isdigit()]
        if name == "m":
            for number in numbers or [0]:
                self._look(number)
        elif name == "K" and given in ("", "0", "2"):
            start = 0 if given == "2" else self.column
            self.lines[self.row][start:] = _blank()[start:]
        elif name == "A":
            self.row = max(0, self.row - (numbers[0] if numbers else 1))
        elif (given, name) not in (("?25", "l"), ("?25", "h")):
            raise click.ClickException(f"the terminal does not know ESC [ {given} {name}")

    def _look(self, number: int) -> None:
        if number == 0:
            self.style = Cell()
        elif number == 1:
            self.style = replace(self.style, bold=True)
        elif number in COLOURS:
            self.style = replace(self.style, colour=COLOURS[number])


def _blank() -> list[Cell]:
    return [Cell()] * COLUMNS


@click.group()
def cli() -> None:
    """The README's pictures."""


@cli.command()
@click.argument("cast", type=click.Path(path_type=Path))
@click.argument("command", nargs=-1, required=True)
def record(cast: Path, command: tuple[str, ...]) -> None:
    """Run COMMAND on a terminal of its own and write what it shows to CAST."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    decode = codecs.getincrementaldecoder("utf-8")().decode
    with cast.open("w") as file:
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "command": " ".join(command)}
        file.write(json.dumps(header) + "\n")
        while data := _read(ours):
            text = decode(data)
            file.write(json.dumps([round(time.monotonic() - began, 4), "o", text]) + "\n")
            sys.stdout.write(text)
            sys.stdout.flush()
    sys.exit(process.wait())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the program has ended
        return b""


@cli.command()
@click.argument("cast", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
def gif(cast: Path, out: Path) -> None:
    """Draw the recording CAST as the animated picture OUT."""
    header, *events = [json.loads(line) for line in cast.read_text().splitlines()]
    terminal = Terminal()
    terminal.feed(f"$ \x1b[1m{header['command']}\x1b[0m\r\n")
    screens = [(0.0, terminal.screen())]
    for at, _, text in events:
        terminal.feed(text)
        screens.append((at, terminal.screen()))
    whole = screens[-1][0]
    palette = _palette()
    frames = [
        _draw(
            screen, f"{_clock(at)} of {_clock(whole)}   a real run; waits are shortened"
        ).quantize(palette=palette, dither=Image.Dither.NONE)
        for at, screen in _frames(screens)
    ]
    seconds = [*(len(frames) - 1) * [1 / FRAMES_A_SECOND], LAST_FRAME]
    frames[0].save(
        out,
        save_all=True,
        append_images=frames[1:],
        duration=[round(1000 * s) for s in seconds],
        loop=0,
    )
    click.echo(f"{out}: {len(frames)} frames, {sum(seconds):.0f} s, {out.stat().st_size:,} bytes")


def _frames(screens: list[tuple[float, Screen]]) -> Iterator[tuple[float, Screen]]:
    """What is seen at even steps of the GIF's time, with the time of the run."""
    changes = [screens[0][0]]
    for (_, before), (at, after) in pairwise(screens):
        if _still(before) != _still(after):
            changes.append(at)
    number, left = 0, 0.0
    for start, end in zip(changes, [*changes[1:], screens[-1][0]], strict=True):
        shown = min(end - start, LONGEST_WAIT)
        while left < shown:
            at = start + (end - start) * left / shown
            while number + 1 < len(screens) and screens[number + 1][0] <= at:
                number += 1
            yield at, screens[number][1]
            left += 1 / FRAMES_A_SECOND
        left -= shown
    yield screens[-1]


def _still(screen: Screen) -> str:
    """A screen's text without its spinner."""
    lines = ("".join(cell.character for cell in line).rstrip() for line in screen)
    return _SPINNER.sub(" ", "\n".join(lines))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _palette() -> Image.Image:
    """Each ink on its paper, and what is between them at the edges of letters."""
    pairs = [(PAPER, ink) for ink in (INK, *COLOURS.values())] + [(BAR, DIM)]
    mixed = []
    for paper, ink in pairs:
        ends = ImageColor.getrgb(paper), ImageColor.getrgb(ink)
        for part in range(SHADES):
            share = part / (SHADES - 1)
            mixed += [round(a + share * (b - a)) for a, b in zip(*ends, strict=True)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(mixed)
    return palette


def _draw(screen: Screen, caption: str) -> Image.Image:
    plain, bold, spinner = (ImageFont.truetype(FONTS / name, FONT_SIZE) for name in FONT_FILES)
    width = plain.getlength("M")
    below = MARGIN * 2 + ROWS * LINE_HEIGHT
    size = (round(COLUMNS * width) + 2 * MARGIN, below + LINE_HEIGHT + 8)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(screen):
        for column, cell in enumerate(line):
            if cell.character != " ":
                at = (MARGIN + column * width, MARGIN + row * LINE_HEIGHT)
                font = bold if cell.bold else plain
                font = spinner if _SPINNER.match(cell.character) else font
                draw.text(at, cell.character, font=font, fill=cell.colour)
    draw.rectangle((0, below, *size), fill=BAR)
    draw.text((MARGIN, below + 4), caption, font=plain, fill=DIM)
    return picture


@cli.command()
@click.argument("report", type=click.Path(path_type=Path, exists=True))
@click.argument("out", type=click.Path(path_type=Path))
def page(report: Path, out: Path) -> None:
    """Photograph the upper part of the page REPORT as the picture OUT."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - the others need no browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": PAGE_WIDTH, "height": 800})
        tab.goto(report.absolute().as_uri())
        box = tab.locator("section", has_text=LAST_SECTION).bounding_box()
        height = round(box["y"] + box["height"]) + 16
        tab.screenshot(
            path=out, full_page=True, clip={"x": 0, "y": 0, "width": PAGE_WIDTH, "height": height}
        )
        browser.close()
    with Image.open(out) as picture:
        small = picture.convert("RGB").quantize(PAGE_COLOURS, dither=Image.Dither.NONE)
    small.save(out, optimize=True)
    click.echo(f"{out}: {small.width} x {small.height}, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    cli()
