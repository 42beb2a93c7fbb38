"""Everything that `scripts/reproduce_crossbar` writes of what is there: CSV and markdown tables, figures, summary.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from picojoule.crossbar_designs import (
    ADC_MODELS,
    ENCODINGS,
    LOSSLESS,
    Design,
    adc_designs,
    all_designs,
    device_designs,
    needed_designs,
)
from picojoule.crossbar_figures import MODEL_WORDS, figures
from picojoule.crossbar_points import FLOAT, Bench, answers_of, bench
from picojoule.crossbar_pricing import Price, needs_rows, price, price_by_model
from picojoule.crossbar_recovered import plot_recovery, recovery_markdown
from picojoule.crossbar_study import RECORD, StudySettings
from picojoule.crossbar_tables import (
    Row,
    accuracy_row,
    adc_rows,
    away,
    device_rows,
    markdown,
    needed_rows,
    part_rows,
    percent,
    times,
)
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.sim.report_plots import save
from picojoule.study_points import read_json

FIXED_BITS = {"offset": 9, "flip": 8, "split": 9, "differential": 10}
"""Bits that lose nothing whatever the weights: 128 rows of 2-bit cells, 1-bit pulses; the sign takes one of differential's."""
_SHOWN_PERCENTILES = (100.0, 95.0)
POLICIES = ("used_tiles", "whole_chip", "dynamic_only")


def write_all(out: Path, settings: StudySettings, recovery: Sequence[Row]) -> str:
    """Price all designs, write tables and figures beside what was measured; returns the tables in markdown."""
    held = bench(str(out), settings)
    tables = collect(out, settings, held)
    if recovery:
        tables["recovery"] = list(recovery)
    for name, rows in tables.items():
        write_atomic(out / f"{name}.csv", rows_to_csv(rows))
    answers = answers_of(out, settings, all_designs())
    single = {"float": accuracy_row(answers, FLOAT.name), "lossless": accuracy_row(answers, LOSSLESS)}
    drawn = figures(tables, single, f"{settings.network} on {settings.data.rpartition('/')[2]}")
    if recovery:
        drawn["recovery"] = plot_recovery(recovery)
    for name, axes in drawn.items():
        save(axes, out / f"crossbar-{name}.png")
    text = in_words(tables, single)
    write_atomic(out / "tables.md", text)
    summary = {
        "settings": settings.model_dump(mode="json"),
        "training": read_json(out / RECORD),
        "float": single["float"],
        "lossless": single["lossless"],
        "versions": versions(),
    }
    write_atomic(out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return text


def collect(out: Path, settings: StudySettings, held: Bench) -> dict[str, list[Row]]:
    """Return the rows of every table by its name."""
    network = held.network
    adc, needed, devices = adc_designs(), needed_designs(), device_designs()
    answers = answers_of(out, settings, all_designs())
    fixed = {e: next(d for d in adc if d.name == f"{e}-exact-{b}") for e, b in FIXED_BITS.items()}
    prices = {d.name: price_by_model(network, d) for d in [*adc, *needed]}
    exact = {d.name: loses_nothing(held, d) for d in adc}
    plain = [d for d in needed if d.changes["adc_percentile"] == 100]
    shown = [d for e in ENCODINGS for d in (fixed[e], *(d for d in plain if d.changes["encoding"] == e))]
    parts: dict[str, Price] = {d.name: p for d in shown if (p := prices[d.name]["isaac_sar"]) is not None}
    return {
        "adc": adc_rows(adc, answers, prices, exact),
        "needed": needed_rows(needed, fixed, answers, prices),
        "bits": needs_rows(network, [d for d in needed if d.changes["adc"] == "run_time"]),
        "parts": part_rows(parts, {d.name: d.words for d in shown}),
        "policies": policy_rows(held),
        "devices": device_rows(devices, answers),
    }


def loses_nothing(held: Bench, design: Design) -> bool:
    """Whether no conversion of a design can lose anything with the network's weights, whatever its inputs."""
    from picojoule.accuracy import arithmetic_in
    from picojoule.sim.integer_weights import integer_weights

    arithmetic = arithmetic_in(design.accelerator(), held.network, samples=held.inputs)
    for layer in held.network.layers:
        found = arithmetic(layer)
        if found.program is not None and found.weight is not None:
            for group, weights in enumerate(integer_weights(layer, found.weight)):
                if not found.place(weights, group).exact:
                    return False
    return True


def policy_rows(held: Bench) -> list[Row]:
    """Return a row per power policy of ISAAC's design: energy of an image, dynamic and static."""
    design = next(d for d in adc_designs() if d.name == LOSSLESS)
    rows = []
    for policy in POLICIES:
        found = price(held.network, replace(design, changes={**design.changes, "power_policy": policy}))
        rows.append(
            {
                "policy": policy,
                "energy_uj": found["energy_pj"] * 1e-6,
                "dynamic_uj": (found["energy_pj"] - found["static_pj"]) * 1e-6,
                "static_uj": found["static_pj"] * 1e-6,
                "latency_us": found["latency_s"] * 1e6,
                "power_w": found["energy_pj"] * 1e-12 / found["latency_s"],
            }
        )
    return rows


def in_words(tables: Mapping[str, Sequence[Row]], single: Mapping[str, Row]) -> str:
    """Return all tables in markdown."""
    return "\n".join(
        [
            f"Floating point: {percent(single['float'])} %; lossless crossbars: {percent(single['lossless'])} %.\n",
            "### Bits of the converters\n",
            adc_markdown(tables["adc"]),
            "### Bits that the weights need\n",
            bits_markdown(tables["bits"]),
            needed_markdown(tables["needed"]),
            "### Power policies\n",
            policy_markdown(tables["policies"]),
            "### Devices\n",
            device_markdown(tables["devices"]),
            *(["### Recovery\n", recovery_markdown(tables["recovery"])] if "recovery" in tables else []),
        ]
    )


def adc_markdown(rows: Sequence[Row]) -> str:
    """Return accuracy by encoding and range, a column per number of bits; bold loses nothing."""
    bits = sorted({r["bits"] for r in rows})
    lines = []
    for kind in dict.fromkeys(r["range"] for r in rows):
        for encoding in ENCODINGS:
            cells = []
            for b in bits:
                row = next((r for r in rows if (r["encoding"], r["range"], r["bits"]) == (encoding, kind, b)), None)
                text = "" if row is None or row["accuracy"] is None else f"{100 * row['accuracy']:.1f}"
                cells.append(f"**{text}**" if row is not None and row["lossless"] and text else text)
            lines.append([kind, encoding, *cells])
    return markdown(("range", "encoding", *(f"{b} bits" for b in bits)), lines)


def bits_markdown(rows: Sequence[Row]) -> str:
    """Return largest and mean bits per slice, most significant slice first."""
    lines = []
    for encoding in ENCODINGS:
        mine = [r for r in rows if r["encoding"] == encoding and r["percentile"] == 100]
        cells = [f"{r['most_bits']} ({r['mean_bits']:.1f})" for r in sorted(mine, key=lambda r: -int(r["slice"]))]
        lines.append([encoding, *cells])
    return markdown(("encoding: most bits (mean over row tiles)", "slice 3", "slice 2", "slice 1", "slice 0"), lines)


def needed_markdown(rows: Sequence[Row]) -> str:
    """Return what data-driven converters save of a fixed one, under each ADC model: energy of the ADCs, of all; area; time."""
    lines = []
    for r in rows:
        if r["percentile"] not in _SHOWN_PERCENTILES:
            continue
        saved = [
            " / ".join(times(r[f"{m}_{k}_saved"]) for k in ("adc_pj", "energy_pj", "area_mm2", "latency_s"))
            for m in ADC_MODELS
        ]
        lines.append([r["words"], percent(r), away(r), *saved])
    head = ("ADC energy / all energy / area / latency saved", "accuracy, %", "points against lossless")
    return markdown((*head, *(MODEL_WORDS[m] for m in ADC_MODELS)), lines)


def policy_markdown(rows: Sequence[Row]) -> str:
    """Return the power policies side by side."""
    lines = [
        [r["policy"], *(f"{r[k]:.3g}" for k in ("dynamic_uj", "static_uj", "energy_uj", "latency_us", "power_w"))]
        for r in rows
    ]
    return markdown(("policy", "dynamic, µJ", "static, µJ", "an image, µJ", "latency, µs", "mean power, W"), lines)


def device_markdown(rows: Sequence[Row]) -> str:
    """Return accuracy of every device that was measured."""
    lines = [[r["words"], percent(r), away(r), f"{r['chips']} x {r['images']}"] for r in rows if r["chips"]]
    return markdown(("device", "accuracy, %", "points against lossless", "chips x images"), lines)
