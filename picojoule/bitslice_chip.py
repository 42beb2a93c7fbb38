"""A trained point on a whole chip: what `picojoule evaluate` says of it on `isaac-differential-2b`.

Buffers, drivers, routers and digital units are in, so a saving of the converters shows in its true proportion. ADCs are as wide
as the weights need (lossless), slice by slice; empty columns are not converted.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

HARDWARE = "isaac-differential-2b"


def chip_price(
    network: str, weights: Path, exponents: Mapping[str, int], input_steps: Sequence[float]
) -> dict[str, float]:
    """Return energy (pJ), that of the ADCs, latency (s) and area (mm2) of an image of a trained point."""
    import torch

    from picojoule.bitslice_networks import build
    from picojoule.compress.bitslice import INPUT_BITS, WEIGHT_FORMAT
    from picojoule.compress.bitslice_slices import step_of
    from picojoule.compress.plan import ActivationPlan, LayerPlan, Plan, WeightPlan, apply_plan
    from picojoule.networks import load_weights
    from picojoule.sim.hardware import load_hardware
    from picojoule.sim.numerics.torch_importer import from_module

    model = build(network, 0)
    load_weights(model, weights)
    layers = {
        path: LayerPlan(
            weight=WeightPlan(format=WEIGHT_FORMAT, per="tensor", step=step_of(exponent)),
            activation=ActivationPlan(format=f"uint{INPUT_BITS}", step=step),
        )
        for (path, exponent), step in zip(exponents.items(), input_steps, strict=True)
    }
    planned = apply_plan(from_module(model.eval(), (torch.zeros(2, 1, 28, 28),)), Plan(layers=layers))
    report = load_hardware(HARDWARE).evaluate(planned)
    return {
        "energy_pj": float(report.totals["energy_pj"]),
        "adc_pj": float(report.energy_by_component()["adc"]),
        "latency_s": float(report.totals["latency_s"]),
        "area_mm2": float(report.totals["area_mm2"]),
    }
