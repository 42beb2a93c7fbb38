"""Reports as tables for people: a summary a newcomer understands, and one row a layer. Uses rich; prints nothing itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from picojoule.sim.cost import LayerCost
from picojoule.sim.errors import printable
from picojoule.sim.report import Report

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)


def si(value: float | None, unit: str = "") -> str:
    """Return a value with three digits and an SI prefix, such as `12.8 ms`; a dash for None."""
    if value is None:
        return "-"
    if value == 0:
        return f"0 {unit}".strip()
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.3g} {prefix}{unit}".strip()
    return f"{value:.3g} {unit}".strip()


def rate(per_second: float | None) -> str:
    """Return a number of samples per second; below one as a plain number (`440 m` would read as millions)."""
    if per_second is not None and 0 < per_second < 1:
        return f"{per_second:.3g} samples/s"
    return f"{si(per_second)} samples/s"


def joules(picojoules: float | None) -> str:
    """Return an energy given in pJ."""
    return si(None if picojoules is None else picojoules * 1e-12, "J")


def _range(report: Report, metric: str) -> str:
    low, high = report.totals["ranges"][metric]
    return f"{joules(low)} to {joules(high)} over the sources' ranges"


def summary_rows(report: Report) -> list[tuple[str, str]]:
    """Return the lines above the layer table: what, and its value."""
    t, batch = report.totals, report.network["batch"]
    rows = [
        (
            "network",
            f"{report.network['name']}: {si(t['macs'])} MACs, {si(report.network['params'])} parameters, batch {batch}",
        ),
        (
            "hardware",
            f"{report.hardware['name']} ({report.hardware['kind']})"
            + (f", {t['chips']} chips" if t["chips"] > 1 else ""),
        ),
    ]
    parts = f"accelerator {si(t['accelerator_latency_s'], 's')}, host {si(t['host_latency_s'], 's')}"
    rows.append(("latency", f"{si(t['latency_s'], 's')} ({parts})"))
    if t["interval_s"] != t["latency_s"]:
        rows.append(
            (
                "interval",
                f"{si(t['interval_s'], 's')} between results, {rate(t['throughput_per_s'])} (pipelined)",
            )
        )
    else:
        rows.append(("throughput", rate(t["throughput_per_s"])))
    rows.append(
        (
            "energy",
            f"{joules(t['energy_pj'])} ({_range(report, 'energy_pj')}), {joules(t['energy_static_pj'])} of it static",
        )
    )
    rows.append(("per MAC", f"{t['energy_pj'] / t['macs']:.3g} pJ" if t["macs"] else "-"))
    shares = sorted(report.energy_by_component().items(), key=lambda item: -item[1])
    total = sum(v for _, v in shares) or 1.0
    rows.append(
        ("goes to", ", ".join(f"{name} {value / total:.0%}" for name, value in shares[:6] if value / total >= 0.005))
    )
    if t["area_mm2"] is not None:
        rows.append(("area", f"{t['area_mm2']:.3g} mm²"))
    if t["resources"]:
        rows.append(("uses", resources_text(t["resources"])))
    if t["utilization"] is not None:
        rows.append(("utilization", f"{t['utilization']:.1%}{_worst_cause(report)}"))
    weights = f"{si(t['weight_bytes'], 'B')} of weights"
    if (left := report.memory.get("weight_bytes_nonzero", t["weight_bytes"])) < 0.9995 * t["weight_bytes"]:
        weights += f" ({si(left, 'B')} of them not zero)"
    rows.append(("memory", f"{weights}, {si(t['peak_activation_bytes'], 'B')} of activations at the peak"))
    if report.accuracy:
        a = report.accuracy
        low, high = a.interval
        where = "on this hardware" if a.seeds == 1 else f"on this hardware, mean of {a.seeds} chips"
        rows.append(
            ("accuracy", f"{a.hardware:.2%} {where} ({low:.2%} to {high:.2%}), {a.floating:.2%} in floating point; "
             f"{a.samples} {a.split} samples")
        )  # fmt: skip
    if not report.complete:
        rows.append(("INCOMPLETE", _missing(report)))
    rows.extend(("note", text) for text in report.coverage.notes)
    return rows


def _missing(report: Report) -> str:
    """Say what is not priced: each operator with its layers, and the share of bytes."""
    counts = Counter(str(u["op"]) for u in report.coverage.unsupported)
    listed = ", ".join(f"{op} ({n}x)" for op, n in counts.most_common())
    share = report.coverage.bytes_priced
    rest = "an unknown share" if share is None else f"{1 - share:.1%}"
    return f"not priced: {listed}, which move {rest} of the bytes; `picojoule coverage` says where they are"


def resources_text(found: Mapping[str, Any]) -> str:
    """Return amounts, with their shares of the board where there is one: `166 crossbars, 1 tile`, `360 DSP (100%) of ultra96`."""
    amounts = {k: v for k, v in found.items() if not k.endswith("_share") and k != "board"}
    shares = {k: f" ({found[f'{k}_share']:.0%})" for k in amounts if f"{k}_share" in found}
    place = f" of {found['board']}" if "board" in found else ""
    names = {k: k.upper() if place else k.removesuffix("s") if v == 1 else k for k, v in amounts.items()}
    return ", ".join(f"{v} {names[k]}{shares.get(k, '')}" for k, v in amounts.items()) + place


def _worst_cause(report: Report) -> str:
    """Name what costs most utilization, weighted by the time of each layer."""
    lost: dict[str, float] = {}
    for layer in report.layers:
        for cause, share in layer.utilization_lost.items():
            lost[cause] = lost.get(cause, 0.0) + share * layer.latency_s
    if not lost or max(lost.values()) <= 0:
        return ""
    return f", lost mostly to {_cause(max(lost, key=lambda c: lost[c]))}"


def _cause(name: str) -> str:
    return "fill/drain" if name == "fill_drain" else name.replace("_", " ")


def report_view(report: Report) -> "Group":
    """Return the summary and the layer table."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    top = Table.grid(padding=(0, 2))
    top.add_column(style="bold", justify="right")
    top.add_column(overflow="fold")
    for name, value in summary_rows(report):
        style = "bold red" if name == "INCOMPLETE" or value.startswith("warning") else ""
        top.add_row(Text(name, style=style or "bold"), Text(printable(value), style=style))
    return Group(layer_table(report.layers), top)


def layer_table(layers: Sequence[LayerCost]) -> "Table":
    """Return one row per layer that takes time; the others, and those that are not priced, are counted in the last rows."""
    from rich import box
    from rich.table import Table

    table = Table(header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("layer", min_width=14, overflow="fold")
    table.add_column("unit", no_wrap=True)
    for name in ("m x n x k", "MACs", "time", "stall", "util.", "lost to", "energy"):
        table.add_column(name, justify="right", no_wrap=True)
    unknown = [layer for layer in layers if layer.unit == "unsupported"]
    quiet = [layer for layer in layers if layer.latency_s == 0 and layer.unit != "unsupported"]
    for layer in layers:
        if layer.latency_s == 0:
            continue
        g = layer.gemm
        size = f"{g.m}x{g.n}x{g.k}" + (f" x{g.groups}" if g.groups > 1 else "") if g else layer.op
        stall = layer.stall_cycles / layer.latency_cycles if layer.latency_cycles else 0.0
        cause = max(layer.utilization_lost, key=lambda c: layer.utilization_lost[c], default="")
        table.add_row(
            printable(layer.name),
            layer.unit,
            size,
            si(layer.macs) if layer.macs else "-",
            si(layer.latency_s, "s"),
            f"{stall:.0%}" if stall else "-",
            f"{layer.utilization:.0%}" if layer.utilization is not None else "-",
            _cause(cause) if cause and layer.utilization_lost[cause] > 0.005 else "-",
            joules(layer.energy_pj),
        )
    if quiet:
        energy = joules(sum(layer.energy_pj for layer in quiet))
        table.add_row(f"{len(quiet)} more", "", "(no time)", "-", "0 s", "-", "-", "-", energy)
    if unknown:
        table.add_row(f"{len(unknown)} more", "", "(not priced)", "?", "?", "-", "-", "-", "?", style="red")
    return table


def objects_table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> "Table":
    """Return a plain table of objects with the same keys."""
    from rich import box
    from rich.table import Table

    table = Table(title=printable(title) or None, header_style="bold", title_justify="left", box=box.SIMPLE_HEAD)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_shown(row.get(column)) for column in columns))
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(v) for v in value)
    return printable(str(value))
