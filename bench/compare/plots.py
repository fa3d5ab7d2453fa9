"""Plots as SVG, legible on light and dark ground."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 330, 250
COLOURS = {"primacy": "#e0670b", "envoy": "#3b82f6", "limit": "#8a8f98"}
LABELS = {"primacy": "Primacy", "envoy": "Envoy's transcoder", "limit": "axum answering by itself"}
DASHES = {"p50_us": "", "p99_us": "5 3", "p999_us": "1 3"}
NAMES = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}
#: The grey of the text has contrast enough on white and on GitHub's dark ground.
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #7d8590; }
.grid { stroke: #8884; }
.title { font-weight: 600; }
"""


class Panel:
    """A pair of axes: connections below in powers; the left one in powers too, unless it begins at 0."""

    def __init__(self, left, title, connections, low, high):
        self.left, self.connections, self.low, self.high = left, connections, low, high
        self.parts = [text(left, 24, title, "title")]
        self.parts += [text(self.x(count), HEIGHT + 62, f"{count:,}", anchor="middle") for count in connections]
        self.parts.append(text(left + WIDTH / 2, HEIGHT + 82, "connections", anchor="middle"))

    def x(self, value):
        first, last = self.connections[0], self.connections[-1]
        return self.left + WIDTH * math.log(value / first) / math.log(last / first)

    def y(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low) if self.low else value / self.high
        return 40 + HEIGHT * (1 - share)

    def grid(self, value, label):
        y = self.y(value)
        ends = f'x1="{self.left}" x2="{self.left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
        self.parts += [f'<line class="grid" {ends}/>', text(self.left - 6, y + 4, label, anchor="end")]

    def line(self, points, colour, dashes=""):
        places = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline fill="none" {stroke(colour, dashes)} points="{places}"/>')

    def legend(self, entries):
        for row, (label, colour, dashes) in enumerate(entries):
            x, y = self.left + 10, 56 + 16 * row
            ends = f'x1="{x}" x2="{x + 22}" y1="{y - 4}" y2="{y - 4}"'
            self.parts += [f"<line {ends} {stroke(colour, dashes)}/>", text(x + 28, y, label)]


def stroke(colour, dashes):
    return f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'


def text(x, y, words, style="", anchor="start"):
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(width, label, panels):
    parts = "\n".join(part for panel in panels for part in panel.parts)
    size = f'viewBox="0 0 {width} {HEIGHT + 96}" role="img" aria-label="{label}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{parts}\n</svg>\n'


def write(bench, folder):
    (folder / "bench-throughput.svg").write_text(throughput(bench))
    (folder / "bench-latency.svg").write_text(latency(bench))


def series(bench, systems, figure):
    """A figure by the number of connections; of several layouts the one that is best there."""
    names = {count: bench.best("http", systems, count).name for count in bench.plan.connections}
    return [(count, bench.figures("http", name, count)(figure)) for count, name in names.items()]


def throughput(bench):
    systems = {"primacy": [bench.primacy], "envoy": bench.envoys, "limit": bench.limits}
    lines = {name: series(bench, several, "per_second") for name, several in systems.items()}
    step = 25_000
    high = step * math.ceil(1.3 * max(value for points in lines.values() for _, value in points) / step)
    panel = Panel(60, "POST /prime, requests/s", bench.plan.connections, 0, high)
    for value in range(0, high + 1, step):
        panel.grid(value, f"{value // 1000} k")
    for name, points in lines.items():
        panel.line(points, COLOURS[name])
    panel.legend([(LABELS[name], COLOURS[name], "") for name in ("limit", "primacy", "envoy")])
    return svg(WIDTH + 90, "Throughput by the number of connections", [panel])


def latency(bench):
    systems = {"primacy": [bench.primacy], "envoy": bench.envoys}
    panels = []
    for place, (name, several) in enumerate(systems.items()):
        panel = Panel(60 + place * (WIDTH + 70), f"{LABELS[name]}: latency", bench.plan.connections, 10, 1e6)
        for power, label in enumerate(("10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"), start=1):
            panel.grid(10**power, label)
        for figure, dashes in DASHES.items():
            panel.line(series(bench, several, figure), COLOURS[name], dashes)
        panel.legend([(NAMES[figure], COLOURS[name], DASHES[figure]) for figure in reversed(DASHES)])
        panels.append(panel)
    return svg(2 * WIDTH + 150, "Latency by the number of connections", panels)
