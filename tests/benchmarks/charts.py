"""The pictures of ``docs/performance.md``, from the same rows as its tables: ``docs/images/bench_*.svg``.

Text stays text in them, and the same rows give the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.size": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "jdocr",
}

from matplotlib import pyplot as plt  # noqa: E402 - after the settings
from matplotlib.patches import Patch  # noqa: E402

from tests.benchmarks.rows import Found, Row  # noqa: E402

WIDTH_INCHES = 8.0
OURS, THEIRS = "#1a6fb5", ("#b8b8b8", "#9a9a9a", "#7c7c7c", "#c9b79c", "#ab977a", "#d3c4d8", "#b39fbb")
PARTS = ("#1a6fb5", "#4d94cf", "#86b9e3", "#e0a63b", "#c97f1e", "#9bbf85", "#6c9a55")


def draw(name: str, found: Found, path: Path) -> None:
    """Draws the picture of a benchmark; `CHARTS` says which have one."""
    figure = CHARTS[name](found)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def rate(found: Found) -> Any:
    """For each cell the share of the rate that each uses."""
    cells = list(dict.fromkeys((row["qps"], row["window"], row["latency"]) for row in found.rows))
    people = list(dict.fromkeys(row["who"] for row in found.rows))
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 3.4))
    wide = 0.85 / len(people)
    for place, who in enumerate(people):
        rows = [found.the(who=who, qps=qps, window=window, latency=latency) for qps, window, latency in cells]
        left = [cell + place * wide for cell in range(len(cells))]
        shares = [100 * row["share"] if row else 0.0 for row in rows]
        colour = OURS if who == "ours" else THEIRS[(place - 1) % len(THEIRS)]
        axes.bar(left, shares, wide * 0.9, color=colour, label=who, align="edge")
    axes.axhline(100, color="#c0392b", linewidth=0.8, linestyle="--")
    axes.set_xticks(
        [cell + 0.42 for cell in range(len(cells))],
        [f"{qps:g} a second\n{window}, {latency:g} s" for qps, window, latency in cells],
    )
    axes.set_ylabel("answered, % of the allowed rate")
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def cpu(found: Found) -> Any:
    """A bar for each way; ours in parts."""
    rows = [row for row in found.rows if not row.get("qps")]
    names = [row["case"] if row["case"] != "ours" else f"ours, {row['server']}" for row in rows]
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 0.42 * len(rows) + 1.2))
    parts = list(next((row["parts_ms"] for row in rows if row["case"] == "ours"), {}))
    for place, row in enumerate(rows):
        if row["case"] != "ours":
            axes.barh(place, row["cpu_ms"], color=THEIRS[0])
            continue
        left = 0.0
        for part, colour in zip(parts, PARTS, strict=True):
            axes.barh(place, row["parts_ms"][part], left=left, color=colour)
            left += row["parts_ms"][part]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("ms of processor time a picture of 300 KB")
    handles = [Patch(color=colour) for colour in PARTS[: len(parts)]]
    axes.legend(handles, parts, ncols=len(parts), loc="upper center", bbox_to_anchor=(0.4, -0.22))
    return figure


def loading(found: Found) -> Any:
    """Documents a second while a warehouse grows."""
    return _lines(
        found.having(case="growth"),
        ("documents", "documents in the warehouse"),
        ("documents_a_second", "documents a second"),
    )


def scale(found: Found) -> Any:
    """A re-run over everything, both axes logarithmic: a line of slope one is linear."""
    figure = _lines(
        found.rows, ("images", "images in the ledger"), ("seconds", "seconds of a re-run over all")
    )
    axes = figure.axes[0]
    axes.set_ylim(auto=True)
    axes.set_xscale("log")
    axes.set_yscale("log")
    return figure


def service(found: Found) -> Any:
    """Memory of the local service over the pictures that it read."""
    curve = found.the(case="memory of the service") or {"megabytes": []}
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 2.4))
    axes.plot(*zip(*curve["megabytes"], strict=True), color=OURS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("pictures read")
    axes.set_ylabel("MB held by the service")
    return figure


def _lines(rows: Sequence[Row], across: tuple[str, str], up: tuple[str, str]) -> Any:
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 2.8))
    for server, colour in zip(
        dict.fromkeys(row["server"] for row in rows), (OURS, PARTS[3], PARTS[6]), strict=False
    ):
        points = sorted((row[across[0]], row[up[0]]) for row in rows if row["server"] == server)
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=server)
    axes.set_xlabel(across[1])
    axes.set_ylabel(up[1])
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


CHARTS: Mapping[str, Callable[[Found], Any]] = {
    "rate": rate,
    "cpu": cpu,
    "loading": loading,
    "scale": scale,
    "service": service,
}
