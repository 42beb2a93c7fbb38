"""The tables of `picojoule coverage`: operators, what is not understood, and what else there is to know. Prints nothing."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from picojoule.sim.errors import printable
from picojoule.tables import si

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_FULL = 0.9995
"""Densities from here on read as 100 %: trained tensors hold a stray zero now and then."""


def coverage_view(document: Mapping[str, Any]) -> "Group":
    """Return what `picojoule coverage` shows: operators, what is not understood, and the lines below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = [_operator_table(document)]
    if document["unsupported"]:
        parts.append(_unsupported_table(document["unsupported"]))
    lines = Table.grid(padding=(0, 2))
    lines.add_column(justify="right")
    lines.add_column(overflow="fold")
    for name, value in coverage_lines(document):
        lines.add_row(Text(name, style="bold red" if name == "INCOMPLETE" else "bold"), Text(printable(value)))
    return Group(*parts, lines)


def _operator_table(document: Mapping[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table

    title = (
        f"{document['network']['name']}: {si(document['macs'])} MACs, {si(document['network']['params'])} parameters"
    )
    table = Table(
        title=printable(title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
        pad_edge=False,
    )  # fmt: skip
    table.add_column("operator", min_width=11, overflow="fold")
    for name in ("layers", "MACs", "share", "bytes", "share", "params", "weights"):
        table.add_column(name, justify="right", no_wrap=True)
    if document["hardware"]:
        table.add_column(f"on {document['hardware']}", overflow="fold")
    for row in document["by_op"]:
        cells = [
            printable(row["op"]),
            str(row["layers"]),
            si(row["macs"]) if row["macs"] else "-" if row["priced"] else "?",
            f"{row['macs_share']:.1%}" if row["macs"] else "-" if row["priced"] else "?",
            si(row["bytes"], "B"),
            f"{row['bytes_share']:.1%}",
            si(row["parameters"]) if row["parameters"] else "-",
            si(row["weight_bytes"], "B") if row["weight_bytes"] else "-",
        ]
        units = row.get("units", {})
        if document["hardware"]:
            cells.append(", ".join(units) if len(units) < 2 else ", ".join(f"{unit} {n}" for unit, n in units.items()))
        table.add_row(*cells, style="" if row["priced"] else "red")
    return table


def _unsupported_table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title="not understood", title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
        pad_edge=False,
    )  # fmt: skip
    table.add_column("operator", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("layer: where", overflow="fold")
    table.add_column("why", overflow="fold")
    for row in rows:
        share = "?" if row["bytes_share"] is None else f"{row['bytes_share']:.1%}"
        cells = (row["op"], share, f"{row['layer']}: {row['where']}", row["reason"])
        table.add_row(*(printable(text) for text in cells))
    return table


def coverage_lines(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the lines below the tables of `picojoule coverage`: what, and its value."""
    rows = []
    if not document["complete"]:
        macs, moved = document["macs_priced"], document["bytes_priced"]
        shares = "the rest is unknown" if macs is None else f"{macs:.1%} of MACs and {moved:.1%} of bytes are priced"
        rows.append(("INCOMPLETE", f"{len(document['unsupported'])} operator(s) not understood; {shares}"))
    else:
        rows.append(("priced", "all of it"))
    rows += [(what, _values(document[what]) or "unknown") for what in ("inputs", "outputs")]
    found = document["compression"]
    rows.append(("weights", "; ".join(_weights(row) for row in found["weights"]) or "none"))
    if found["activations"]:
        rows.append(("values", ", ".join(f"{row['values']} in {row['format']}" for row in found["activations"])))
    memory = document["memory"]
    where = f" at '{memory['peak_layer']}'" if memory["peak_layer"] else ""
    weights = f"{si(memory['weight_bytes_dense'], 'B')} of weights"
    if memory["weight_bytes_nonzero"] < _FULL * memory["weight_bytes_dense"]:
        weights += f" ({si(memory['weight_bytes_nonzero'], 'B')} of them not zero)"
    peak = si(memory["peak_activation_bytes"], "B")
    rows.append(("memory", f"{weights}, {peak} of activations at the peak{where}"))
    pair = [si(memory[f"working_memory_input_{w}_bytes"], "B") for w in ("weight", "output")]
    rows.append(("", f"largest layer: {pair[0]} of input and weights, {pair[1]} of input and output"))
    native = f"{document['hardware']}'s own" if document["hardware"] else "float32"
    rows.append(("formats", f"{native}, where neither the file nor a plan sets one"))
    rows.extend(("note", text) for text in document["notes"])
    return rows


def _values(rows: Sequence[Mapping[str, Any]], most: int = 8) -> str:
    rest = [f"and {len(rows) - most} more"] if len(rows) > most else []
    return ", ".join([_value(row) for row in rows[:most]] + rest)


def _value(row: Mapping[str, Any]) -> str:
    return f"{row['name']} {row['shape']}" + (f" {row['format']}" if row["format"] else "")


def _weights(row: Mapping[str, Any]) -> str:
    """Return one line on weights that share a format and a structure of zeros."""
    zeros = row["sparsity"] + (f", density {row['density']:.1%}" if row["density"] < _FULL else "")
    tensors = f"{row['tensors']} tensor" + ("s" if row["tensors"] > 1 else "")
    return f"{si(row['parameters'])} in {tensors}: {row['format'] or 'no format set'}, {zeros}"
