"""Two kinds of plot as SVG text: horizontal bars with their range, and percentile curves."""

import math
import statistics
from html import escape

WIDTH = 720
LABEL_WIDTH = 150
VALUE_WIDTH = 210
BAR_HEIGHT, BAR_GAP = 18, 8
# Told apart also by those who see no red or green; the order of brokers gives the colour.
COLOURS = ("#0072b2", "#56b4e9", "#777777", "#e69f00", "#d9b36c", "#009e73", "#6fbf9f", "#cc79a7", "#d55e00", "#b3a100")


def colours(brokers):
    return {broker: COLOURS[at % len(COLOURS)] for at, broker in enumerate(brokers)}


def bars(series, palette, text):
    """`series`: broker -> values of all rounds; the bar is their median, the line their range.
    `text` makes what is written behind a bar."""
    longest = max((max(values) for values in series.values()), default=0) or 1
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    scale = room / longest
    height = len(series) * (BAR_HEIGHT + BAR_GAP) + BAR_GAP
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    for at, (broker, values) in enumerate(series.items()):
        top = BAR_GAP + at * (BAR_HEIGHT + BAR_GAP)
        middle = top + BAR_HEIGHT / 2
        median, low, high = statistics.median(values), min(values), max(values)
        baseline = f'y="{middle + 4:.1f}" class="text"'
        parts.append(f'<text x="{LABEL_WIDTH - 8}" {baseline} text-anchor="end">{escape(broker)}</text>')
        parts.append(
            f'<rect x="{LABEL_WIDTH}" y="{top}" width="{max(1, median * scale):.1f}" '
            f'height="{BAR_HEIGHT}" fill="{palette[broker]}"/>'
        )
        if high > low:
            parts.append(
                f'<path class="range" d="M{LABEL_WIDTH + low * scale:.1f} {middle}H'
                f'{LABEL_WIDTH + high * scale:.1f}"/>'
            )
        end = LABEL_WIDTH + high * scale + 8
        parts.append(f'<text x="{end:.1f}" {baseline}>{escape(text(values))}</text>')
    return "".join([*parts, "</svg>"])


PLOT_HEIGHT = 300
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_BOTTOM, MARGIN_TOP = 70, 150, 40, 12
# Percentiles with a mark on the axis. The axis counts nines: each one has the same room.
TICKS = (0, 50, 90, 99, 99.9, 99.99)


def nines(percent):
    """0 for 0 %, 1 for 90 %, 2 for 99 %, ... and no more than five."""
    return -math.log10(max(1e-5, 1 - percent / 100))


def curves(series, palette):
    """`series`: broker -> [(percentile, microseconds), ...]; both axes are logarithmic."""
    points = [value for curve in series.values() for _, value in curve if value > 0]
    if not points:
        return ""
    low = math.floor(math.log10(max(1, min(points))))
    high = max(low + 1, math.ceil(math.log10(max(points))))
    inner_width = WIDTH - MARGIN_LEFT - MARGIN_RIGHT
    inner_height = PLOT_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM

    def x(percent):
        return MARGIN_LEFT + inner_width * min(nines(percent), 4.3) / 4.3

    def y(value):
        share = (math.log10(max(value, 10**low)) - low) / (high - low)
        return MARGIN_TOP + inner_height * (1 - share)

    parts = [f'<svg viewBox="0 0 {WIDTH} {PLOT_HEIGHT}" role="img">']
    for exponent in range(low, high + 1):
        level = y(10**exponent)
        parts.append(f'<path class="grid" d="M{MARGIN_LEFT} {level:.1f}h{inner_width}"/>')
        parts.append(
            f'<text x="{MARGIN_LEFT - 6}" y="{level + 4:.1f}" class="text" text-anchor="end">'
            f"{duration(10**exponent)}</text>"
        )
    bottom = PLOT_HEIGHT - MARGIN_BOTTOM
    for percent in TICKS:
        parts.append(f'<path class="grid" d="M{x(percent):.1f} {MARGIN_TOP}V{bottom}"/>')
        parts.append(
            f'<text x="{x(percent):.1f}" y="{bottom + 18}" class="text" text-anchor="middle">'
            f"{percent:g} %</text>"
        )
    for at, (broker, curve) in enumerate(series.items()):
        line = " ".join(f"{x(percent):.1f},{y(value):.1f}" for percent, value in curve)
        parts.append(f'<polyline points="{line}" stroke="{palette[broker]}" class="curve"/>')
        key = MARGIN_TOP + 10 + 18 * at
        left = WIDTH - MARGIN_RIGHT + 12
        parts.append(f'<rect x="{left}" y="{key - 8}" width="12" height="8" fill="{palette[broker]}"/>')
        parts.append(f'<text x="{left + 18}" y="{key}" class="text">{escape(broker)}</text>')
    return "".join([*parts, "</svg>"])


def duration(microseconds):
    """1 µs, 10 ms, 1 s."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:g} {unit}"
    return f"{microseconds:g} µs"
