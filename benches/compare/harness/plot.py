"""The rates as bars on a logarithmic scale, as an SVG that needs nothing but itself."""

import math
from xml.sax.saxutils import escape

from .paths import PLOT
from .results import median
from .scenarios import FIGURES
from .table import number

WIDTH, LEFT, RIGHT, TOP = 860, 330, 110, 46
BAR, GAP, GROUP = 15, 3, 50
COLOURS = {"Millpond": "#1f6f8b", "RabbitMQ": "#e07a3f"}


def write(results):
    """Draws every figure that is a rate."""
    groups = []
    for figure in FIGURES:
        samples = results["samples"].get(figure.name)
        if samples is not None and figure.unit == "/s":
            groups.append((figure.title, {name: median(samples[name]) for name in COLOURS}))
    values = [value for _, pair in groups for value in pair.values() if value]
    if not values:
        return
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    bottom = TOP + GROUP * len(groups)

    def x(value):
        return LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{bottom + 40}" fill="#ffffff"/>',
    ]
    for place, (name, colour) in enumerate(COLOURS.items()):
        left = LEFT + 130 * place
        parts.append(f'<rect x="{left}" y="14" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{left + 20}" y="26">{name}</text>')
    for power in range(low, high + 1):
        at = x(10**power)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP - 6}" x2="{at:.1f}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555555">{10**power:,}</text>')
    parts.append(f'<text x="{LEFT}" y="{bottom + 35}" fill="#555555">messages a second, logarithmic</text>')
    for row, (title, pair) in enumerate(groups):
        top = TOP + GROUP * row
        parts.append(f'<text x="{LEFT - 8}" y="{top + 22}" text-anchor="end">{escape(title)}</text>')
        for place, (name, value) in enumerate(pair.items()):
            y = top + 2 + place * (BAR + GAP)
            end = x(value) if value else LEFT
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" fill="{COLOURS[name]}"/>')
            parts.append(f'<text x="{end + 6:.1f}" y="{y + 12}">{number(value)}</text>')
    parts.append("</svg>")
    PLOT.write_text("\n".join(parts) + "\n")
