"""What the designs of `scripts/reproduce_crossbar` cost: energy, area and latency by component, under every ADC model."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from picojoule.crossbar_designs import ADC_MODELS, Design
from picojoule.reram.adcs import LayerNeeds
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Network
from picojoule.sim.report import Report

Price = Mapping[str, Any]
PARTS: Mapping[str, tuple[str, ...]] = {
    "ADC": ("adc",),
    "DAC, sample and hold": ("dac", "sample_hold"),
    "crossbar": ("crossbar",),
    "shift and add": ("shift_add",),
    "registers": ("input_register", "output_register", "tile_output_register"),
    "buffer, bus, router": ("edram", "bus", "router"),
    "digital unit": ("vector", "sigmoid", "max_pool", "host"),
    "off chip": ("link", "hypertransport"),
    "leakage and idle": ("leakage", "idle"),
}
"""Components of a report, gathered for figures; what is not named goes to `other`."""


def price(network: Network, design: Design, **more: Any) -> Price:
    """Return totals of an image and `energy`, `area`: pJ and mm2 by component, static energy among them."""
    report = design.accelerator(**more).evaluate(network, chips=None)
    return of_report(report)


def of_report(report: Report) -> Price:
    """Return what a report says of an image."""
    areas: dict[str, float] = {}
    for item in report.area.items:
        areas[item.component] = areas.get(item.component, 0.0) + item.mm2
    totals = report.totals
    return {
        "energy_pj": totals["energy_pj_per_sample"],
        "static_pj": totals["energy_static_pj"],
        "latency_s": totals["latency_s"],
        "interval_s": totals["interval_s"],
        "area_mm2": totals["area_mm2"],
        "crossbars": totals["resources"]["crossbars"],
        "energy": dict(report.energy_by_component()),
        "area": areas,
        "notes": list(report.coverage.notes),
    }


def price_by_model(network: Network, design: Design) -> dict[str, Price | None]:
    """Return the price under each ADC model; None where a model refuses so few bits."""
    found: dict[str, Price | None] = {}
    for model in ADC_MODELS:
        try:
            found[model] = price(network, design, adc_model=model)
        except UnsupportedError:
            found[model] = None
    return found


def gathered(by_component: Mapping[str, float]) -> dict[str, float]:
    """Return values by part, in the order of `PARTS`, `other` last where something is left."""
    left = dict(by_component)
    found = {part: sum(left.pop(c, 0.0) for c in components) for part, components in PARTS.items()}
    if any(left.values()):
        found["other"] = sum(left.values())
    return found


def adc_of(price_: Price | None, what: str) -> float | None:
    """Return the converters' part of `energy` (pJ) or `area` (mm2)."""
    return None if price_ is None else float(price_[what].get("adc", 0.0))


def needs_of(network: Network, design: Design) -> dict[str, LayerNeeds]:
    """Return the bits that each layer's weights need in a design."""
    from picojoule.reram.plan import make_plan
    from picojoule.sim.passes import fill_formats

    spec: Any = design.accelerator().spec
    filled, _ = fill_formats(network, spec.native_weight, spec.native_activation)
    needs: Mapping[str, LayerNeeds] = make_plan(filled, 1, None, spec).needs
    return dict(needs)


def needs_rows(network: Network, designs: Iterable[Design]) -> list[dict[str, Any]]:
    """Return a row per design and slice: largest and mean bits over (row tile, slice) pairs, and columns without a cell."""
    rows = []
    for design in designs:
        found = list(needs_of(network, design).values())
        for k in range(max(n.bits.shape[2] for n in found)):
            bits = np.concatenate([n.bits[..., k].ravel() for n in found])
            columns = sum(int(n.columns[..., k].sum()) for n in found)
            empty = sum(int(n.zero_columns[..., k].sum()) for n in found)
            rows.append(
                {
                    "design": design.name,
                    "encoding": design.changes["encoding"],
                    "percentile": design.changes["adc_percentile"],
                    "slice": k,
                    "most_bits": int(bits.max()),
                    "mean_bits": float(bits.mean()),
                    "pairs": len(bits),
                    "empty_columns_share": empty / columns,
                }
            )
    return rows


def ratios(prices: Sequence[Price | None], to: Price | None, key: str) -> list[float | None]:
    """Return how many times less `key` is than in another price."""
    return [None if p is None or to is None else float(to[key]) / float(p[key]) for p in prices]
