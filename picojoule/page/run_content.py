"""What the page of a run says: headline figures, each layer, why utilization is lost, coverage and provenance."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from picojoule.page.content import Beside, Card, Cards, Cell, Column, Page, Row, Section, Table, Text
from picojoule.page.evidence import basis_parts, coverage_parts, provenance_parts
from picojoule.page.figures import energy_figure, latency_figure, rounded
from picojoule.page.reading import Layer, Run
from picojoule.page.words import cause, count, for_batch, metric, percent
from picojoule.tables import joules, rate, resources_text, si

_LAYER_COLUMNS = (
    Column(title="layer"),
    Column(title="no.", numeric=True, about="order of execution"),
    Column(title="operator"),
    Column(title="unit", about="what runs it"),
    Column(title="m x n x k", about="output pixels x output channels x reduction, x groups"),
    Column(title="MACs", numeric=True),
    Column(title="latency", numeric=True),
    Column(title="stalled", numeric=True, about="share of the latency spent waiting for memory"),
    Column(title="utilization", numeric=True),
    Column(title="lost mostly to", about="what costs most of its utilization"),
    Column(title="energy", numeric=True, about="dynamic"),
    Column(title="share", numeric=True, about="of the dynamic energy of all layers"),
    Column(title="basis", about="where its figures come from"),
)


def run_page(run: Run) -> Page:
    """Return the page of one run."""
    tables = Beside(parts=(components_table(run), losses_table(run)))
    sections = (
        Section(name="figures", title="Headline figures", parts=(headline(run),)),
        Section(
            name="layers",
            title="Layers",
            parts=(energy_figure(run, "energy"), latency_figure(run, "latency"), layer_table(run, "")),
        ),
        Section(name="where", title="Where energy and utilization go", parts=(tables,)),
        Section(name="coverage", title="Coverage: what was priced", parts=coverage_parts(run)),
        Section(name="basis", title="What the figures rest on", parts=basis_parts(run)),
        Section(name="provenance", title="Provenance", parts=provenance_parts(run)),
        Section(name="config", title="Hardware as resolved", parts=(Text(text=run.config, verbatim=True),), closed=True),
    )  # fmt: skip
    return Page(
        title=title_of(run) + " (INCOMPLETE)" * (not run.complete),
        about=about_of(run),
        banner=banner_of(run),
        sections=sections,
        data={"runs": {"": layer_details(run)}},
    )


def title_of(run: Run) -> str:
    """Return what was priced on what."""
    return f"{run.network['name']} on {run.hardware['name']}"


def about_of(run: Run) -> str:
    """Return the run in a sentence."""
    chips = f", {count(run.totals['chips'], 'chip')}" if run.totals["chips"] > 1 else ""
    return (
        f"{run.network['name']} ({count(len(run.layers), 'layer')}) priced on {run.hardware['name']} "
        f"({run.hardware['kind']}{chips}), batch {run.network['batch']:.0f}. Run folder: {run.name}."
    )


def banner_of(run: Run) -> tuple[str, ...]:
    """Return the warning of a run in which not everything is priced."""
    if run.complete:
        return ()
    lost = Counter(str(u.get("op")) for u in run.coverage["unsupported"])
    listed = ", ".join(f"{op} ({n}x)" for op, n in lost.most_common()) or "see coverage"
    share = run.coverage["bytes_priced"]
    rest = "an unknown share" if share is None else percent(1 - share)
    return (
        "INCOMPLETE",
        f"Not everything in this network is priced, so the true cost is higher. Not priced: {listed}, which move "
        f"{rest} of the bytes.",
    )


def headline(run: Run) -> Cards:
    """Return the headline figures with units and ranges."""
    t, cards = run.totals, []
    energy = t["energy_pj_per_sample"]
    short = ("INCOMPLETE: without what is not priced",) * (not run.complete)
    parts = [f"range {_range(run, 'energy_pj_per_sample')}"] if "energy_pj_per_sample" in run.ranges else []
    if t["energy_pj"]:
        parts.append(f"{percent(t['energy_static_pj'] / t['energy_pj'])} of it static")
    if t["macs"]:
        parts.append(f"{t['energy_pj'] / t['macs']:.3g} pJ per MAC")
    cards.append(Card(label="energy per sample", value=joules(energy), details=(*short, *parts)))
    of_batch = (for_batch(run.network["batch"]).strip(),) if run.network["batch"] > 1 else ()
    parts = [*of_batch, f"accelerator {si(t['accelerator_latency_s'], 's')}", f"host {si(t['host_latency_s'], 's')}"]
    cards.append(Card(label="latency", value=si(t["latency_s"], "s"), details=(*short, *parts)))
    piped = t["interval_s"] != t["latency_s"]
    parts = [f"pipelined, {si(t['interval_s'], 's')} between results"] if piped else ["one after the other"]
    cards.append(Card(label="throughput", value=rate(t["throughput_per_s"]), details=tuple(parts)))
    area = (f"range {_range(run, 'area_mm2')}",) if "area_mm2" in run.ranges else ()
    if t["area_mm2"] is not None:
        cards.append(Card(label="area", value=metric("area_mm2").show(t["area_mm2"]), details=area))
    if t.get("resources"):
        used = resources_text({k: v for k, v in t["resources"].items() if k != "chips"})
        cards.append(Card(label="uses", value=count(t["chips"], "chip"), details=(used,) * bool(used)))
    if a := run.accuracy:
        low, high = a["interval"]
        about = (
            f"{low:.2%} to {high:.2%} (95 %)",
            f"{a['float']:.2%} in floating point",
            f"{a['metric']}, {a['samples']:,.0f} {a['split']} samples",
        )
        cards.append(Card(label="accuracy on this hardware", value=f"{a['hardware']:.2%}", details=about))
    else:
        cards.append(Card(label="accuracy", value="-", details=("not measured; evaluate with --accuracy --data",)))
    cards.append(
        Card(label="utilization", value=percent(t["utilization"]), details=(f"lost mostly to {_worst(run)}",) * bool(_worst(run)))
    )  # fmt: skip
    cards.append(Card(label="MACs", value=si(t["macs"]), details=of_batch or ("batch 1",)))
    weights = (
        f"{si(run.network['params'])} parameters",
        f"{si(t['peak_activation_bytes'], 'B')} activations at the peak",
    )
    cards.append(Card(label="weights", value=si(t["weight_bytes"], "B"), details=weights))
    return Cards(cards=tuple(cards))


def _range(run: Run, name: str) -> str:
    low, high = run.ranges[name]
    return f"{metric(name).show(low)} to {metric(name).show(high)}"


def _lost_time(run: Run) -> dict[str, float]:
    """Return which share of the layers' time each cause costs, largest first."""
    lost: dict[str, float] = {}
    time = sum(layer.latency_s for layer in run.layers) or 1.0
    for layer in run.layers:
        for name, share in layer.lost.items():
            lost[name] = lost.get(name, 0.0) + share * layer.latency_s / time
    return dict(sorted(lost.items(), key=lambda item: (-item[1], item[0])))


def _worst(run: Run) -> str:
    return next((cause(name) for name, share in _lost_time(run).items() if share > 0), "")


def layer_table(run: Run, key: str) -> Table:
    """Return one row per layer, each opening its drill-down; `key` names the run among those of the page."""
    total = sum(layer.total_pj for layer in run.layers)
    rows = tuple(_layer_row(i, layer, total) for i, layer in enumerate(run.layers))
    static = joules(run.totals["energy_static_pj"])
    priced = f"All {len(run.layers)} layers" if len(rows) > 1 else "The layer"
    piped = " They overlap in a pipeline: their latencies need not sum to the total." * _is_pipelined(run)
    caption = (
        f"{priced}{for_batch(run.network['batch'])}; dynamic energy, to which {static} of static energy come.{piped}"
    )
    return Table(name=f"layers{key}", caption=caption, columns=_LAYER_COLUMNS, rows=rows, opens="layer", group=key)


def _is_pipelined(run: Run) -> bool:
    return bool(run.totals["interval_s"] != run.totals["latency_s"])


def _layer_row(i: int, layer: Layer, total_pj: float) -> Row:
    if layer.unit == "unsupported":
        texts = [layer.name, str(i + 1), layer.op, "not priced", "-", "?", "?", "-", "-", "-", "?", "?", layer.basis]
        values: list[float | str | None] = [layer.name, i + 1, layer.op, "not priced", "", *[None] * 7, layer.basis]
        return Row(
            cells=tuple(Cell(text=t, value=v) for t, v in zip(texts, values, strict=True)),
            opens=str(i),
            kind="unsupported",
        )
    cycles = layer.compute_cycles + layer.stall_cycles
    stalled = layer.stall_cycles / cycles if cycles else None
    worst = max(layer.lost, key=lambda c: layer.lost[c], default="")
    lost = cause(worst) if worst and layer.lost[worst] > 0.005 else "-"
    energy, share = layer.total_pj, layer.total_pj / total_pj if total_pj else 0.0
    cells = (
        Cell(text=layer.name, value=layer.name),
        Cell(text=str(i + 1), value=i + 1),
        Cell(text=layer.op, value=layer.op),
        Cell(text=layer.unit, value=layer.unit),
        Cell(text=size_of(layer), value=size_of(layer)),
        Cell(text=si(layer.macs) if layer.macs else "-", value=layer.macs),
        Cell(text=si(layer.latency_s, "s"), value=rounded(layer.latency_s)),
        Cell(text=percent(stalled), value=None if stalled is None else rounded(stalled)),
        Cell(text=percent(layer.utilization), value=layer.utilization, bar=layer.utilization),
        Cell(text=lost, value=lost),
        Cell(text=joules(energy), value=rounded(energy)),
        Cell(text=percent(share), value=rounded(share), bar=share),
        Cell(text=layer.basis, value=layer.basis),
    )
    return Row(cells=cells, opens=str(i))


def size_of(layer: Layer) -> str:
    """Return m x n x k, times the groups, or a dash."""
    if layer.gemm is None:
        return "-"
    m, n, k, groups = layer.gemm
    return f"{m}x{n}x{k}" + (f" x{groups}" if groups > 1 else "")


def layer_details(run: Run) -> Mapping[str, Any]:
    """Return what the rows open: names once, and per layer pairs of (number of the name, value); energies in pJ."""
    names: dict[str, int] = {}

    def pairs(values: Mapping[str, float]) -> list[list[float]]:
        return [[names.setdefault(k, len(names)), rounded(v)] for k, v in values.items()]

    layers = [
        {
            "name": layer.name,
            "size": size_of(layer),
            "basis": layer.basis,
            "priced": layer.unit != "unsupported",
            "cycles": [rounded(layer.compute_cycles), rounded(layer.stall_cycles)],
            "used": layer.utilization if layer.utilization is None else rounded(layer.utilization),
            "mapped": layer.mapping_efficiency if layer.mapping_efficiency is None else rounded(layer.mapping_efficiency),
            "energy": pairs(layer.energy_pj),
            "lost": pairs({cause(k): v for k, v in layer.lost.items()}),
            "reads": pairs(layer.reads),
            "writes": pairs(layer.writes),
            "dram": [layer.dram_read_bytes, layer.dram_write_bytes],
        }
        for layer in run.layers
    ]  # fmt: skip
    return {"names": list(names), "layers": layers}


def components_table(run: Run, key: str = "") -> Table:
    """Return the energy by component, static ones included."""
    dynamic: dict[str, float] = {}
    for layer in run.layers:
        for name, value in layer.energy_pj.items():
            dynamic[name] = dynamic.get(name, 0.0) + value
    bill = [(name, "dynamic", v) for name, v in dynamic.items()] + [(n, "static", v) for n, v in run.static_pj.items()]
    total = sum(v for _, _, v in bill) or 1.0
    rows = tuple(
        Row(
            cells=(
                Cell(text=name, value=name),
                Cell(text=kind, value=kind),
                Cell(text=joules(value), value=rounded(value)),
                Cell(text=percent(value / total), value=rounded(value / total), bar=value / total),
            )
        )
        for name, kind, value in sorted(bill, key=lambda b: (-b[2], b[0]))
    )
    columns = (
        Column(title="component"),
        Column(title="energy is"),
        Column(title="energy", numeric=True),
        Column(title="share", numeric=True),
    )
    caption = f"Energy by component{for_batch(run.network['batch'])}"
    return Table(name=f"components{key}", caption=caption, columns=columns, rows=rows)


def losses_table(run: Run, key: str = "") -> Table:
    """Return which share of the time does useful work on the array, and which is lost to what."""
    lost = _lost_time(run)
    time = sum(layer.latency_s for layer in run.layers) or 1.0
    elsewhere = sum(layer.latency_s for layer in run.layers if not layer.lost) / time
    used = sum((layer.utilization or 0.0) * layer.latency_s for layer in run.layers if layer.lost) / time
    shares = [("used", used), *((f"lost to {cause(name)}", share) for name, share in lost.items())] if lost else []
    if lost and elsewhere:
        shares.append(("waits for layers on other units", elsewhere))
    rows = tuple(
        Row(cells=(Cell(text=text, value=text), Cell(text=percent(share), value=rounded(share), bar=max(0.0, share))))
        for text, share in shares
    )
    columns = (Column(title="utilization"), Column(title="share of the time", numeric=True))
    piped = "; they overlap in a pipeline, so that the headline figure differs" * _is_pipelined(run)
    caption = f"Why utilization is lost, layers weighted by their latency{piped}"
    return Table(name=f"losses{key}", caption=caption, columns=columns, rows=rows)
