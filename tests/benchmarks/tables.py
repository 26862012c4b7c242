"""The tables of ``docs/performance.md``, from the rows of full runs in ``docs/measured``.

A benchmark of which no full run was published says so; nothing here knows a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_jdocr.core.prices import cheapest
from tests.benchmarks.rows import Found, Row, read
from tests.rate.report import markdown, percent

CHARTS = frozenset({"rate", "cpu", "loading", "scale", "service"})
"""Those that have a picture beside the table: see `charts`."""
MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measured"
NOT_MEASURED = "Not measured yet.\n"
SHOWN_PACKAGES = {"Python": "Python", "apache-airflow": "Airflow", "sqlalchemy": "SQLAlchemy"}


def table(name: str) -> str:
    """What the document says of a benchmark."""
    path = MEASURED / f"{name}.jsonl"
    if not path.exists():
        return NOT_MEASURED
    found = read(path)
    drawn = f"![{name}](images/bench_{name}.svg)\n\n" if name in CHARTS else ""
    return f"{drawn}{TABLES[name](found)}\n\n{_origin(name, found.head)}\n"


def _origin(name: str, head: Row) -> str:
    machine = head["machine"]
    versions = ", ".join(
        f"{shown} {machine[key]}" for key, shown in SHOWN_PACKAGES.items() if machine.get(key)
    )
    kind = f"{machine['cores']} cores ({machine['processor']}), {machine['memory']}, {machine['system']}"
    return f"`{head['command']}`, {head['began']}. {kind}; {versions}. [Raw rows](measured/{name}.jsonl)."


def grid(found: Found) -> str:
    """The worst cell of each, over latencies and numbers of tasks."""
    rates = _each(found.rows, "qps")
    rows = []
    for window in _each(found.rows, "window"):
        for jitter in _each(found.rows, "jitter"):
            cells = [found.having(window=window, jitter=jitter, qps=qps) for qps in rates]
            worst = [f"{percent(_least(each, 'share'))}, {percent(_most(each, 'over'), 2)}" for each in cells]
            rows.append((window, f"{1000 * jitter:g} ms", *worst))
    return markdown(("window", "jitter", *(f"{qps:g} QPS" for qps in rates)), rows)


def rate(found: Found) -> str:
    cells = _each(found.rows, "qps", "window", "latency")
    headings = [f"{qps:g} QPS, {window}, {latency:g} s" for qps, window, latency in cells]
    rows = []
    for who in _each(found.rows, "who"):
        row: list[str] = [who]
        for qps, window, latency in cells:
            one = found.the(who=who, qps=qps, window=window, latency=latency)
            row.append(
                f"{percent(one['share'], 0)} / {percent(one['lost'])} / {one['over']:.3f}" if one else "–"
            )
        rows.append(row)
    return markdown(("share / lost / over-limit per answer", *headings), rows)


def cpu(found: Found) -> str:
    floor = found.the(case="bare POST, one Session")
    rows = [
        (_case_of_cpu(row), row["images"], f"{row['cpu_ms']:.2f}", _times(row, floor, "cpu_ms"))
        for row in found.rows
    ]
    whole = markdown(("", "pictures", "CPU ms a picture", "of the bare POST"), rows)
    ours = found.having(case="ours")
    parts = list(ours[0]["parts_ms"]) if ours else []
    inside = [(_case_of_cpu(row), *(f"{row['parts_ms'][part]:.2f}" for part in parts)) for row in ours]
    return f"{whole}\n\nMilliseconds by part:\n\n{markdown(('', *parts), inside)}"


def _case_of_cpu(row: Row) -> str:
    if row["case"] != "ours":
        return str(row["case"])
    pace = f", at {row['qps']:g} QPS" if row["qps"] else ""
    return f"ours, ledger in {row['server']}{pace}"


def memory(found: Found) -> str:
    nothing = found.the(case="nothing")
    rows = [("nothing", "", "", f"{nothing['peak_mb']:.0f} MB", "")] if nothing else []
    rows += [
        (
            f"{row['images']:_}",
            f"{row['picture_bytes'] / 1000:_.0f} KB",
            row["max_in_flight"],
            f"{row['peak_mb']:.0f} MB",
            f"{row['above_mb']:.0f} MB",
        )
        for row in found.having(case="batch")
    ]
    return markdown(("pictures", "of", "in flight", "peak", "above nothing"), rows)


def rerun(found: Found) -> str:
    headings = ("ledger", "pictures", "images in the ledger", "listing", "look-up", "re-run", "of both")
    rows = []
    for server in _each(found.rows, "server"):
        listing, look_up, again = (found.the(server=server, case=case) for case in _RERUN)
        reads = found.the(server=server, case="image reads")
        if not (listing and look_up and again and reads):
            continue
        both = listing["seconds"] + look_up["seconds"]
        seconds = (f"{row['seconds']:.1f} s" for row in (listing, look_up, again))
        ratio = f"{again['seconds'] / both:.2f} ×"
        costs = (again["calls"], reads["reads"], f"{again['peak_mb']:.0f} MB")
        rows.append((server, f"{again['keys']:_}", f"{again['ledger_rows']:_}", *seconds, ratio, *costs))
    return markdown((*headings, "calls", "pictures read", "peak"), rows)


_RERUN = ("listing", "look-up", "re-run")


def scale(found: Found) -> str:
    measured = [
        (
            row["server"],
            f"{row['images']:_}",
            f"{row['ledger_mb']:_.1f} MB",
            f"{1e6 * row['ledger_mb'] / row['images']:_.0f} B",
            f"{row['seconds']:.1f} s",
            f"{1e6 * row['seconds'] / row['images']:.0f} µs",
            f"{row['peak_mb']:.0f} MB",
        )
        for row in sorted(found.rows, key=lambda row: (row["server"], row["images"]))
    ]
    headings = ("ledger", "images", "its size", "an image", "a re-run over all", "an image", "peak")
    parts = [markdown(headings, measured)]
    for what, name, unit in (("Size of the ledger", "ledger_mb", "GB"), ("A re-run", "seconds", "minutes")):
        per = 1000 if unit == "GB" else 60
        rows = [
            (
                server,
                *(
                    f"{_drawn(found.having(server=server), name, images) / per:_.1f} {unit}"
                    for images in DRAWN
                ),
            )
            for server in _each(found.rows, "server")
        ]
        parts.append(markdown((what, *(f"{images:_} images" for images in DRAWN)), rows))
    parts.append(_sending())
    return "\n\n".join(parts)


DRAWN = (1_000_000, 10_000_000)


def _drawn(rows: Sequence[Row], name: str, images: int) -> float:
    """On the line through the last two steps."""
    one, two = sorted(rows, key=lambda row: row["images"])[-2:]
    slope = (two[name] - one[name]) / (two["images"] - one["images"])
    return float(two[name] + slope * (images - two["images"]))


def _sending() -> str:
    """Follows from rate and price; nothing is measured."""
    rows = []
    for images in DRAWN:
        bought = cheapest(images)
        packs = ", ".join(f"{count} × {name}" for name, count in bought.packs.items())
        days = (f"{images / qps / 86_400:_.1f} days" for qps in (2, 10, 50))
        rows.append((f"{images:_}", *days, f"{images / 1000:_.0f} days", f"{bought.yuan:_} ({packs})"))
    headings = ("images", "at 2 QPS", "at 10 QPS", "at 50 QPS", "at 1000 calls a day", "yuan, at JD's packs")
    return markdown(headings, rows)


def loading(found: Found) -> str:
    rows = []
    for server in _each(found.rows, "server"):
        ceilings = {case: found.the(server=server, case=case) for case in _CEILINGS}
        for row in found.having(server=server):
            if row["case"] != "growth":
                against = (_times(row, ceiling, "rows_a_second") for ceiling in ceilings.values())
                speed = (f"{row['documents_a_second']:_.0f}", f"{row['rows_a_second']:_.0f}")
                rows.append((server, row["case"], *speed, *against))
    headings = (
        "database",
        "what",
        "documents a second",
        "rows a second",
        *(f"of {each}" for each in _CEILINGS),
    )
    steps = (found.having(server=server, case="growth") for server in _each(found.rows, "server"))
    growth = [_grown(each) for each in steps if each]
    grown = ("database", "documents", "first step", "slowest step", "last step", "last of first", "peak")
    return (
        f"{markdown(headings, rows)}\n\nA growing warehouse, documents a second:\n\n{markdown(grown, growth)}"
    )


_CEILINGS = ("insertmanyvalues", "executemany", "COPY and merge")


def _grown(steps: Sequence[Row]) -> Sequence[str]:
    first, last = steps[0]["documents_a_second"], steps[-1]["documents_a_second"]
    speeds = (f"{each:_.0f}" for each in (first, _least(steps, "documents_a_second"), last))
    peak = f"{_most(steps, 'peak_mb'):.0f} MB"
    return steps[0]["server"], f"{steps[-1]['documents']:_}", *speeds, f"{last / first:.2f} ×", peak


def imports(found: Found) -> str:
    return markdown(("", "ms"), ((row["case"], f"{row['median_ms']:.1f}") for row in found.rows))


def kill(found: Found) -> str:
    rows = (
        (row["case"], row["images"], row["billed"], row["billed_twice"], row["held"]) for row in found.rows
    )
    return markdown(("", "pictures", "billed", "billed twice", "held for a person"), rows)


def mapped(found: Found) -> str:
    """Of a task without a picture: what it takes in all."""
    rows = []
    for row in found.rows:
        if row["case"] == "idle":
            continue
        ours = found.the(case="ours, one task", qps=row["qps"])
        states = ", ".join(f"{count} {state}" for state, count in sorted(row["tasks"].items()))
        cpu = row["cpu_ms_a_picture"]
        of_ours = sum(cpu.values()) / sum(ours["cpu_ms_a_picture"].values()) if ours else 0.0
        ratio = f"{of_ours:.1f} ×" if of_ours and row["images"] else ""
        speed = f"{row['images'] / row['seconds']:.1f}" if row["images"] else ""
        allowed = f"{row['qps']:g} QPS" if row["qps"] else "any"
        parts = (f"{cpu['scheduler']:.0f}", f"{cpu['api-server']:.0f}")
        rows.append((row["case"], allowed, row["images"] or "", states, *parts, ratio, speed))
    headings = ("", "allowed", "pictures", "tasks", "CPU ms a picture: scheduler and tasks", "API server")
    return markdown((*headings, "of ours", "pictures a second"), rows)


def service(found: Found) -> str:
    rows = [
        (
            row["case"],
            f"{row['pictures_a_second']:.2f}",
            f"{row['cpu_seconds_a_picture']:.2f} s",
            percent(row["share_of_pictures_a_second"], 0),
        )
        for row in found.rows
        if "pictures_a_second" in row
    ]
    headings = ("", "pictures a second", "CPU a picture", "of rapidocr as it comes")
    share = found.the(case="service of the best raw one")
    memory = found.the(case="memory of the service")
    said = []
    if share:
        said.append(
            f"The service reads {percent(share['share'], 0)} of the best raw one's pictures a second."
        )
    if memory and memory["growth_after_30_mb"] is not None:
        curve = dict(memory["megabytes"])
        shown = ", ".join(
            f"{curve[count]:.0f} MB after {count}" for count in (10, 30, 100, 200, 300) if count in curve
        )
        said.append(f"Its memory: {shown}.")
    return f"{markdown(headings, rows)}\n\n{' '.join(said)}"


def sensor(found: Found) -> str:
    pokes = [
        (
            row["database"],
            row["statements"],
            f"{row['ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            f"{row['least_ms']:.1f}",
            f"{row['least_cpu_ms']:.1f}",
        )
        for row in found.having(case="poke")
    ]
    headings = ("a poke", "queries", "ms", "CPU ms", "a connection and SELECT 1: ms", "CPU ms")
    said = [
        f"{row['sensors']} deferred sensors in a triggerer, watched for {row['watched_seconds']:.0f} s: "
        f"{row['triggerer_cpu_ms_a_minute']} ms of CPU a minute and {row['triggerer_mb']} MB with them, "
        f"{row['triggerer_cpu_ms_a_minute_without']} ms and {row['triggerer_mb_without']} MB without; "
        f"{row['calls']} calls."
        for row in found.having(case="deferred")
    ]
    return "\n\n".join((markdown(headings, pokes), *said))


TABLES: Mapping[str, Callable[[Found], str]] = {
    "grid": grid,
    "rate": rate,
    "cpu": cpu,
    "mapped": mapped,
    "memory": memory,
    "rerun": rerun,
    "scale": scale,
    "loading": loading,
    "service": service,
    "sensor": sensor,
    "imports": imports,
    "kill": kill,
}


def _each(rows: Iterable[Row], *names: str) -> list[Any]:
    """The values that there are, in the order in which they come; of several names, the tuples."""
    found = (tuple(row[name] for name in names) for row in rows if all(name in row for name in names))
    return [each if len(names) > 1 else each[0] for each in dict.fromkeys(found)]


def _least(rows: Iterable[Row], name: str) -> float:
    return min(float(row[name]) for row in rows)


def _most(rows: Iterable[Row], name: str) -> float:
    return max(float(row[name]) for row in rows)


def _times(row: Row, other: Row | None, name: str) -> str:
    return f"{row[name] / other[name]:.2f} ×" if other else "–"
