#!/usr/bin/env python3
"""Draws what a terminal shows as an SVG: `tmux capture-pane -e -p | terminal-picture.py > x.svg`.

Reads text with SGR escapes (colours, bold, dim, italic, underline, reverse) and nothing else.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass, replace
from html import escape

CELL_WIDTH = 8.4
CELL_HEIGHT = 18
MARGIN = 14
FOREGROUND, BACKGROUND = "#d8dee9", "#1b1f27"
# The sixteen colours of a dark terminal.
PALETTE = [
    "#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9",
    "#7f8794", "#ff7b86", "#b5e08d", "#ffd98a", "#82c7ff", "#dc9bf0", "#7fd7e0", "#ffffff",
]
SGR = re.compile(r"\x1b\[([0-9;:]*)m")
# Selecting a set of characters (`ESC ( B`) and shifting in and out; tmux writes them, nothing is seen.
NOISE = re.compile(r"\x1b[()][0-9A-Za-z]|[\x0e\x0f\r]")


@dataclass(frozen=True)
class Style:
    foreground: str | None = None
    background: str | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False


PLAIN = Style()


def colour(code: int) -> str:
    """One of the 256."""
    if code < 16:
        return PALETTE[code]
    if code >= 232:
        grey = 8 + (code - 232) * 10
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    steps = [0, 95, 135, 175, 215, 255]
    code -= 16
    red, green, blue = steps[code // 36], steps[code // 6 % 6], steps[code % 6]
    return f"#{red:02x}{green:02x}{blue:02x}"


def extended(codes: list[int]) -> str | None:
    """The colour behind a 38 or 48, taken off the list."""
    kind = codes.pop(0) if codes else None
    if kind == 5 and codes:
        return colour(codes.pop(0))
    if kind == 2 and len(codes) >= 3:
        red, green, blue = codes.pop(0), codes.pop(0), codes.pop(0)
        return f"#{red:02x}{green:02x}{blue:02x}"
    return None


def styled(style: Style, parameters: str) -> Style:
    codes = [int(code or 0) for code in re.split("[;:]", parameters)]
    switches = {
        1: {"bold": True}, 2: {"dim": True}, 3: {"italic": True}, 4: {"underline": True},
        7: {"reverse": True}, 22: {"bold": False, "dim": False}, 23: {"italic": False},
        24: {"underline": False}, 27: {"reverse": False}, 39: {"foreground": None},
        49: {"background": None},
    }
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = PLAIN
        elif code in switches:
            style = replace(style, **switches[code])
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = replace(style, foreground=PALETTE[code - (30 if code < 90 else 82)])
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style = replace(style, background=PALETTE[code - (40 if code < 100 else 92)])
        elif code == 38:
            style = replace(style, foreground=extended(codes))
        elif code == 48:
            style = replace(style, background=extended(codes))
    return style


def width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def runs(lines: list[str]) -> list[list[tuple[int, int, str, Style]]]:
    """For each line: column, columns, text and style of what looks alike."""
    style, drawn = PLAIN, []
    for line in lines:
        column, row = 0, []
        parts = SGR.split(line)
        for index, part in enumerate(parts):
            if index % 2:
                style = styled(style, part)
            elif part:
                columns = sum(map(width, part))
                row.append((column, columns, part, style))
                column += columns
        drawn.append(row)
    return drawn


def draw(lines: list[str], columns: int) -> str:
    wide = columns * CELL_WIDTH + 2 * MARGIN
    high = len(lines) * CELL_HEIGHT + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" '
        f'width="{wide:.0f}" height="{high:.0f}" font-size="14" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace">',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
    ]
    for row, line in enumerate(runs(lines)):
        top = MARGIN + row * CELL_HEIGHT
        for column, cells, text, style in line:
            left, long = MARGIN + column * CELL_WIDTH, cells * CELL_WIDTH
            foreground, background = style.foreground or FOREGROUND, style.background
            if style.reverse:
                foreground, background = background or BACKGROUND, foreground
            if background:
                out.append(f'<rect x="{left:.1f}" y="{top}" width="{long:.1f}" '
                           f'height="{CELL_HEIGHT}" fill="{background}"/>')
            if not text.strip():
                continue
            looks = f' fill="{foreground}"'
            looks += ' font-weight="bold"' if style.bold else ""
            looks += ' font-style="italic"' if style.italic else ""
            looks += ' text-decoration="underline"' if style.underline else ""
            looks += ' opacity="0.65"' if style.dim else ""
            out.append(f'<text x="{left:.1f}" y="{top + 13.5}" textLength="{long:.1f}" '
                       f'xml:space="preserve"{looks}>{escape(text)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main() -> None:
    lines = NOISE.sub("", sys.stdin.read()).rstrip("\n").split("\n")
    columns = max(sum(map(width, SGR.sub("", line))) for line in lines)
    sys.stdout.write(draw(lines, max(columns, 40)))


if __name__ == "__main__":
    main()
