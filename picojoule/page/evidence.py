"""What a run's figures rest on: coverage, formats and basis, versions, constants and their sources."""

from collections.abc import Mapping
from typing import Any

from picojoule.page.content import Cell, Column, Notes, Part, Row, Table, Text
from picojoule.page.reading import Run
from picojoule.page.words import percent
from picojoule.tables import si


def coverage_parts(run: Run) -> tuple[Part, ...]:
    """Return the shares priced, what was not understood, the operators, and the notes."""
    c = run.coverage
    macs, moved = ("an unknown share" if c[k] is None else _whole(c[k]) for k in ("macs_priced", "bytes_priced"))
    parts: list[Part] = [Text(text=f"Priced: {macs} of the MACs and {moved} of the bytes moved.")]
    if c["unsupported"]:
        columns = tuple(
            Column(title=t, numeric=t == "share of bytes")
            for t in ("operator", "layer", "where", "reason", "share of bytes")
        )
        rows = tuple(
            Row(
                cells=(
                    *(Cell(text=str(u.get(k) or "-"), value=str(u.get(k))) for k in ("op", "layer", "where", "reason")),
                    _share_cell(u.get("bytes_share")),
                )
            )
            for u in c["unsupported"]
        )  # fmt: skip
        parts.append(Table(name="unsupported", caption="Not understood, and not priced", columns=columns, rows=rows))
    if c["notes"]:
        parts.append(Notes(items=tuple(c["notes"])))
    columns = (
        Column(title="operator"),
        Column(title="layers", numeric=True),
        Column(title="MACs", numeric=True),
        Column(title="share of MACs", numeric=True),
        Column(title="bytes", numeric=True),
        Column(title="share of bytes", numeric=True),
        Column(title="parameters", numeric=True),
        Column(title="priced"),
    )
    parts.append(
        Table(name="operators", caption="By operator", columns=columns, rows=tuple(_op_row(r) for r in c["by_op"]))
    )
    return tuple(parts)


def _whole(share: float) -> str:
    return "all" if share == 1 else "99.9%" if share > 0.999 else f"{share:.1%}"


def _share_cell(share: Any) -> Cell:
    value = float(share) if isinstance(share, int | float) else None
    return Cell(text=percent(value), value=value, bar=value)


def _op_row(row: Mapping[str, Any]) -> Row:
    def size(key: str, unit: str = "") -> Cell:
        value = row.get(key)
        return Cell(
            text="?" if value is None else si(float(value), unit), value=None if value is None else float(value)
        )

    priced = "yes" if row.get("priced") else "no"
    return Row(
        cells=(
            Cell(text=str(row.get("op")), value=str(row.get("op"))),
            size("layers"),
            size("macs"),
            _share_cell(row.get("macs_share")),
            size("bytes", "B"),
            _share_cell(row.get("bytes_share")),
            size("parameters"),
            Cell(text=priced, value=priced),
        )
    )


def basis_parts(run: Run) -> tuple[Part, ...]:
    """Return which figures come from data, statistics or closed forms, and which formats are assumed."""
    assumed = run.hardware["assumed_precision"]
    formats = (
        f"Number format: {assumed} assumed where neither the file nor a compression sets one."
        if assumed and any("assumed" in n for n in run.coverage["notes"])
        else "Number format: set by the file or a compression for every layer."
    )
    weights = run.provenance.get("weights")
    random = "; they were never trained, so figures that depend on their values are those of chance" * (
        weights == "random"
    )
    total = sum(layer.total_pj for layer in run.layers) or 1.0
    found: dict[str, list[float]] = {}
    for layer in run.layers:
        entry = found.setdefault(layer.basis, [0, 0.0])
        entry[0] += 1
        entry[1] += layer.total_pj / total
    rows = tuple(
        Row(cells=(Cell(text=basis, value=basis), Cell(text=f"{n:.0f}", value=n), _share_cell(share)))
        for basis, (n, share) in sorted(found.items(), key=lambda item: -item[1][1])
    )
    columns = (
        Column(title="basis"),
        Column(title="layers", numeric=True),
        Column(title="share of energy", numeric=True),
    )
    ranges = (
        "Ranges come from the low and high values of the technology constants, sampled jointly; they hold nothing of the "
        "model's own error."
    )
    return (
        Notes(items=(formats, f"Weights: {weights or 'not recorded'}{random}.", ranges)),
        Table(name="bases", caption="Basis of the layers' figures", columns=columns, rows=rows),
    )


def provenance_parts(run: Run) -> tuple[Part, ...]:
    """Return versions, seed, hash and weights, then each constant with its source and what it prices."""
    p = run.provenance
    versions = p.get("versions")
    facts = {
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, Mapping) else versions,
        "model of the hardware": f"{run.hardware['kind']}, version {run.hardware['model_version']}",
        **{k.replace("_", " "): v for k, v in p.items() if k not in ("versions", "sources")},
    }
    rows = tuple(
        Row(cells=(Cell(text=k, value=k), Cell(text=_plain(v), value=_plain(v))))
        for k, v in facts.items()
        if v is not None
    )
    columns = (Column(title="what"), Column(title="value"))
    made = Table(name="made", caption="How this run was made", columns=columns, rows=rows, sortable=False)
    sources = p.get("sources")
    if not isinstance(sources, Mapping):
        return (made,)
    return made, _sources_table(run, sources)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return ", ".join(_plain(v) for v in value) if isinstance(value, list) else str(value)


def _sources_table(run: Run, sources: Mapping[str, Any]) -> Table:
    """Return the constants; energy priced by a product of constants counts for each of them."""
    total = sum(run.constants_pj.values()) or 1.0
    share = dict.fromkeys(map(str, sources), 0.0)
    for product, value in run.constants_pj.items():
        for name in set(product.split("*")) & share.keys():
            share[name] += value / total
    rows = tuple(
        Row(cells=(Cell(text=name), _share_cell(share[name]), Cell(text=str(sources[name]))))
        for name in sorted(share, key=lambda n: (-share[n], n))
    )
    columns = (
        Column(title="constant"),
        Column(title="energy it prices", numeric=True, about="share of the total, alone or in a product with others"),
        Column(title="source"),
    )
    return Table(name="sources", caption="Technology constants and their sources", columns=columns, rows=rows)
