"""What tests.benchmarks.serving prints of its lines: tables for BENCHMARKS.md, and the targets."""

from collections.abc import Iterator, Sequence
from statistics import median

from tests.benchmarks import serving_replica
from tests.benchmarks.lines import Line
from tests.benchmarks.serving_inputs import MANY
from tests.benchmarks.serving_sides import OURS, PIPELINE, SERVE, SIDES

CEILING = "ceiling"
NAMES = {
    OURS: "**ours**",
    SERVE: "Serve's defaults, FastAPI ingress",
    PIPELINE: "FastAPI with a pipeline",
}
# Targets.
OVER_SERVE, OVER_PIPELINE = 4.0, 5.0
HALF_LOAD_P99_MS = 60.0
OF_CEILING = 0.85
OVER_FORWARD_MS = 3.0
READY_S = 8.0
MOST_RISE = 0.01  # flat is: the line through the memory rises by no more

Table = dict[str, list[Line]]
Judged = tuple[str, str, str, bool]


def by_side(found: Sequence[Line]) -> Table:
    """The finished turns of each side."""
    kept: Table = {}
    for line in found:
        kept.setdefault(line["side"], []).append(line)
    return kept


def middle(found: Table, side: str, part: str, figure: str) -> float | None:
    """The median of a side's turns; None where none has that figure."""
    values = [line[part][figure] for line in found.get(side, []) if figure in line.get(part, {})]
    return median(values) if values else None


def speed(found: Sequence[Line]) -> list[str]:
    """The table of all sides, and what they were judged by."""
    table = by_side(found)
    written = [
        "| side | turns | 1 text, 64 connections: requests/s | range | p50, p99 "
        f"| {MANY} texts, 16 connections: texts/s | 1 connection: p50 | start | errors |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    written += [speed_row(table, side) for side in SIDES if side in table]
    written += ceiling_rows(table.get(CEILING, []))
    return [*written, *half_load(table.get(OURS, [])), ""]


def speed_row(table: Table, side: str) -> str:
    each = table[side]
    rates = [line["single"]["requests_per_second"] for line in each]
    parts = ("single", "many", "one", "half")
    errors = sum(line[part]["errors"] for line in each for part in parts if part in line)
    cells = [
        str(len(each)),
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{middle(table, side, 'single', 'p50_ms'):,.0f} ms, "
        f"{middle(table, side, 'single', 'p99_ms'):,.0f} ms",
        f"{MANY * (middle(table, side, 'many', 'requests_per_second') or 0):,.0f}",
        f"{middle(table, side, 'one', 'p50_ms'):.2f} ms",
        f"{median(line['start_s'] for line in each):.1f} s",
        str(errors),
    ]
    return f"| {NAMES[side]} | {' | '.join(cells)} |"


def ceiling_rows(each: Sequence[Line]) -> list[str]:
    if not each:
        return []
    rows = median(line["rows_per_second"] for line in each)
    alone = median(line["forward_p50_ms"] for line in each)
    best = ", ".join(sorted({line["best"] for line in each}))
    return [
        f"| bare forward pass (best: {best}) | {len(each)} | | | | {rows:,.0f} | {alone:.2f} ms "
        "| | |",
        "",
        "The bare forward pass with its tokens and its decision: p50 "
        f"{median(line['answer_p50_ms'] for line in each):.2f} ms.",
    ]


def half_load(each: Sequence[Line]) -> list[str]:
    half = [line["half"] for line in each if "half" in line]
    if not half:
        return []
    middles = {
        name: median(line[name] for line in half)
        for name in ("rate", "p50_ms", "p99_ms", "generator_late_p99_ms")
    }
    cores = median(line["single"]["generator_cores"] for line in each)
    return [
        "",
        f"At half of the peak, {middles['rate']:,.0f} requests/s that come by chance: p50 "
        f"{middles['p50_ms']:.1f} ms, p99 {middles['p99_ms']:.1f} ms, of which the generator's own "
        f"lateness {middles['generator_late_p99_ms']:.1f} ms (p99). wrk took {cores:.2f} of a core "
        "at the peak.",
    ]


def memory(line: Line) -> list[str]:
    """The curve of one run, drawn and as numbers."""
    curve = line["curve"]
    mib = [round(rss / (1 << 20), 1) for _, rss, _ in curve]
    slope, rise = serving_replica.growth(curve)
    shown = curve[:: max(1, len(curve) // 10)]
    return [
        f"Memory of the replica over {curve[-1][0]:,} requests (RSS, {min(mib):,.1f} to "
        f"{max(mib):,.1f} MiB; {line['errors']} errors; "
        f"{'one process' if line['same_process'] else '**the process was replaced**'}):",
        "",
        f"    {serving_replica.drawn(mib)}",
        "",
        f"After the first quarter {slope:+,.0f} bytes per 1,000 requests, {rise:+.2%} in all.",
        "",
        "| requests | RSS, MiB | PSS, MiB |",
        "|---:|---:|---:|",
        *(f"| {n:,} | {rss / (1 << 20):,.1f} | {pss / (1 << 20):,.1f} |" for n, rss, pss in shown),
        "",
    ]


def ready(line: Line) -> list[str]:
    return [
        f"Replica killed {len(line['ready'])} times: {spread(line['ready'])} from the start of the "
        f"new process to its first answer, {spread(line['outage'])} without an answer. From the "
        f"command's start to the first answer {line['start_s']:.1f} s.",
        "",
    ]


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


def targets(found: Sequence[Line]) -> list[str]:
    """What was aimed at, of what there are lines for."""
    rows = [
        f"| {what} | {value} | {wanted}: {'met' if met else '**missed**'} |"
        for what, value, wanted, met in judged(found)
    ]
    return ["| | found | target |", "|---|---:|---|", *rows]


def judged(found: Sequence[Line]) -> Iterator[Judged]:
    """(what, the value, what was wanted, whether it is that)."""
    kinds = {kind: [line for line in found if line["what"] == kind] for kind in KINDS}
    table = by_side(kinds["speed"])
    yield from judged_rates(table)
    yield from judged_latencies(table)
    for line in kinds["memory"][-1:]:
        _, rise = serving_replica.growth(line["curve"])
        yield (
            f"rise of the memory after the first quarter of {line['curve'][-1][0]:,} requests",
            f"{rise:+.2%}",
            f"at most {MOST_RISE:.0%}",
            rise <= MOST_RISE and line["same_process"],
        )
    for line in kinds["ready"][-1:]:
        slowest = max(line["ready"])
        what = f"a replica's start to its first answer, the slowest of {len(line['ready'])}"
        yield what, f"{slowest:.1f} s", f"within {READY_S:g} s", slowest <= READY_S


KINDS = ("speed", "memory", "ready")


def judged_rates(table: Table) -> Iterator[Judged]:
    ours = middle(table, OURS, "single", "requests_per_second")
    for side, least in ((SERVE, OVER_SERVE), (PIPELINE, OVER_PIPELINE)):
        other = middle(table, side, "single", "requests_per_second")
        if ours and other:
            what = f"requests/s over {NAMES[side]}, 1 text, 64 connections"
            yield what, f"{ours / other:.2f}", f"at least {least:g}", ours / other >= least
    many = middle(table, OURS, "many", "requests_per_second")
    if many and table.get(CEILING):
        share = MANY * many / median(line["rows_per_second"] for line in table[CEILING])
        what = f"texts/s over the bare forward pass at its best, {MANY} texts a request"
        yield what, f"{share:.2f}", f"at least {OF_CEILING:g}", share >= OF_CEILING


def judged_latencies(table: Table) -> Iterator[Judged]:
    p99 = middle(table, OURS, "half", "p99_ms")
    if p99 is not None:
        wanted = f"under {HALF_LOAD_P99_MS:g} ms"
        yield "p99 at half of the peak", f"{p99:.1f} ms", wanted, p99 < HALF_LOAD_P99_MS
    one = middle(table, OURS, "one", "p50_ms")
    if one is not None and table.get(CEILING):
        more = one - median(line["forward_p50_ms"] for line in table[CEILING])
        what = "p50 of one connection beyond the bare forward pass"
        yield what, f"{more:.2f} ms", f"within {OVER_FORWARD_MS:g} ms", more <= OVER_FORWARD_MS
