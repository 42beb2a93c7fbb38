"""The sixteen published latencies: the targets that were set before fitting, and that the fit is what it says."""

import csv
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from picojoule import validation_deform
from picojoule.accel.deform import DeformUnit, ablation
from picojoule.accel.deform.ablation import (
    FITTED,
    FITTED_APART,
    RATIOS,
    AblationConstants,
    Entry,
    fit,
    latency_ms,
    leave_each_out,
    leave_one_out,
    ratio_rows,
    table_reads,
    table_rows,
    table_spec,
)
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.weights import from_array

REFERENCE = Path(__file__).parents[2] / "reference" / "deform" / "table2.csv"
PACKAGED = Path(ablation.__file__).parents[3] / "picojoule" / "validation_data" / "codenet_table2.csv"


def published() -> dict[Entry, float]:
    rows = csv.DictReader(REFERENCE.read_text().splitlines())
    return {Entry(r["op"], r["variant"], r["llc"] == "yes"): float(r["ms"]) for r in rows}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def constants() -> AblationConstants:
    return fit(published(), [e for entries in FITTED.values() for e in entries])


def test_rules_of_the_fit() -> None:
    """At most 4 constants on at most 5 named entries; of all eight headline entries, one."""
    headline = {e for pair in RATIOS for e in pair}
    for fitted, shared in ((FITTED, 1), (FITTED_APART, 2)):
        on = {e for entries in fitted.values() for e in entries}
        assert len(fitted) <= 4 and len(on) <= 5 and len(headline & on) == shared
        assert all(len({slow, fast} & on) <= 1 for slow, fast in RATIOS)


def test_sixteen_entries(constants: AblationConstants) -> None:
    rows = table_rows(published(), constants)
    errors = {r.entry: abs(r.error_pct) for r in rows}
    predicted = [abs(r.error_pct) for r in rows if not r.fitted]
    assert len(rows) == 16 and len(predicted) == 11
    assert max(errors.values()) <= 12
    assert statistics.median(errors.values()) <= 2 and statistics.median(predicted) <= 2
    # The worst: that the line buffer is slower with the LLC on (3.4 against 3.0 ms) is not understood, nor modelled.
    assert max(errors, key=lambda entry: errors[entry]) == "depthwise bound, LLC"


def test_headline_ratios(constants: AblationConstants) -> None:
    rows = ratio_rows(published(), constants)
    assert [round(r.reference, 2) for r in rows] == [1.36, 9.76, 1.02, 7.74]
    assert all(abs(r.error_pct) <= 7 for r in rows)
    assert [r.fitted for r in rows] == [False, False, False, True]


def test_four_constants_do_no_better(constants: AblationConstants) -> None:
    """DRAM reads fitted on their own come out where the memory's timings put them."""
    apart = fit(published(), [e for entries in FITTED_APART.values() for e in entries], FITTED_APART)
    assert apart.dram_ns == pytest.approx(constants.dram_ns, rel=0.01)
    rows = table_rows(published(), apart, FITTED_APART) + ratio_rows(published(), apart, FITTED_APART)
    assert all(abs(r.error_pct) <= 12 for r in rows)


def test_leave_one_out() -> None:
    found = leave_one_out(published())
    assert {str(e): v for e, v in found.items() if isinstance(v, str)} == {"depthwise deformable, LLC": "llc_read_ns"}
    numbers = [abs(v) for v in found.values() if not isinstance(v, str)]
    assert len(numbers) == 4 and max(numbers) <= 6
    errors = [abs(v) for v in leave_each_out(published()).values()]
    assert statistics.median(errors) <= 3 and max(errors) <= 13


def test_every_constant_sets_its_entries_only(constants: AblationConstants) -> None:
    for name, entries in FITTED.items():
        more = replace(constants, **{name: 1.1 * getattr(constants, name)})
        moved = {e for e in published() if latency_ms(e, more) != pytest.approx(latency_ms(e, constants), rel=1e-9)}
        assert moved >= set(entries)
        if name == "full_step_cycles":
            assert {e.op for e in moved} == {"full"}
        if name == "pixel_refill_cycles":
            assert {e.op for e in moved} == {"depthwise"} and not any(e.variant == "deformable" for e in moved)
        if name == "llc_read_ns":
            assert {e.variant for e in moved} == {"deformable"}


def test_table_uses_the_line_buffers_ports(constants: AblationConstants) -> None:
    """Square adds one clock per step to ordinary, offsets of single taps four: 4 and 16 ns at 250 MHz, 65,536 steps."""
    ms = {v: latency_ms(Entry("depthwise", v, False), constants) for v in ("ordinary", "square", "bound")}  # type: ignore[arg-type]
    assert ms["square"] - ms["ordinary"] == pytest.approx(65536 * 4e-6, rel=1e-6)
    assert ms["bound"] - ms["ordinary"] == pytest.approx(65536 * 16e-6, rel=1e-6)


def test_simulated_reads() -> None:
    direct, cached = table_reads(False), table_reads(True)
    assert direct.reads == cached.reads < 64 * 64 * 9 * 16, "points outside the map read nothing"
    assert cached.cache_hits + cached.dram_reads == cached.reads
    assert 0.95 < cached.cache_hits / cached.reads < 1 - 16384 / cached.reads, "each line misses once and some again"
    assert 0.15 < direct.row_hits / direct.reads < 0.3, "random rows: most reads close one and open another"


def layer_of(op: str, variant: str) -> Network:
    """The layer of the table as a network; bound offsets lie in [-7, 7], the paper's N."""
    builder = NetworkBuilder("layer")
    x = builder.input("x", TensorType(shape=(1, 256, 64, 64)))
    filters = parameter("w", from_array(np.ones((256, 256 if op == "full" else 1, 3, 3), dtype=np.float32)))
    window = {"stride": (1, 1), "padding_begin": (1, 1), "padding_end": (1, 1), "dilation": (1, 1)}
    groups = 1 if op == "full" else 256
    if variant == "ordinary":
        made = builder.add(Op.CONV, [x, filters], at.ConvAttributes(groups=groups, **window), name="conv")
        return builder.finish(list(made))
    offsets = builder.input("offsets", TensorType(shape=(1, 1 if variant == "square" else 18, 64, 64)))
    if variant != "deformable":
        low, high = (0.0, 7.0) if variant == "square" else (-7.0, 7.0)
        clip = at.ActivationAttributes(kind=at.ActivationKind.CLIP, alpha=low, beta=high)
        (offsets,) = builder.add(Op.ACTIVATION, [offsets], clip, name="clip")
    if variant == "square":
        grid = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(1, 18, 1, 1)
        for kind, values in (("sub", np.ones(1)), ("mul", grid)):
            how = at.ElementwiseAttributes(kind=at.ElementwiseKind(kind))
            (offsets,) = builder.add(
                Op.ELEMENTWISE, [offsets, constant(kind, values.astype(np.float32))], how, name=kind
            )
    deform = at.DeformConvAttributes(groups=groups, **window)
    return builder.finish(list(builder.add(Op.DEFORM_CONV, [x, filters, offsets], deform, name="conv")))


@pytest.mark.parametrize("entry", sorted(published()), ids=str)
def test_evaluate_gives_the_table(entry: Entry, constants: AblationConstants) -> None:
    """The accelerator itself, on the layer as a network, within what loading weights takes (0.3 ms of the full one)."""
    preset: Any = load_hardware(f"ultra96-ablation-{entry.op}").spec
    spec = preset.model_copy(update={"llc": entry.llc})
    report = DeformUnit(spec).evaluate(layer_of(entry.op, entry.variant))
    assert 1e3 * report.totals["accelerator_latency_s"] == pytest.approx(latency_ms(entry, constants), rel=0.01)


def test_presets_hold_the_fitted_constants(constants: AblationConstants) -> None:
    for op, preset in (("depthwise", "ultra96-ablation-depthwise"), ("full", "ultra96-ablation-full")):
        spec, wanted = load_hardware(preset).spec, table_spec(op, constants, llc=False)
        for key in ("llc_read_ns", "dram_read_ns", "dram_row_miss_ns", "outstanding_reads", "call_cycles"):
            assert getattr(spec, key) == pytest.approx(getattr(wanted, key), rel=1e-3), (preset, key)
        key = "full_step_cycles" if op == "full" else "pixel_refill_cycles"
        assert getattr(spec, key) == pytest.approx(getattr(wanted, key), rel=1e-3), (preset, key)


def test_packaged_copy() -> None:
    assert PACKAGED.read_bytes() == REFERENCE.read_bytes()


def test_validate_rows() -> None:
    """What `picojoule validate` shows of the unit: nothing fitted is shown as evidence."""
    rows = list(validation_deform.table_2())
    assert len(rows) == 16 + 4 and [r["calibrated"] for r in rows].count(True) == 5 + 1
    assert all(abs(r["error_pct"]) <= (12 if r["quantity"] == "latency, ms" else 7) for r in rows)
    by_name = {r["name"]: r for r in rows}
    assert by_name["codenet table 2: depthwise deformable, no LLC"]["reference"] == 20.5


@pytest.mark.full
def test_validate_rows_of_the_board() -> None:
    time, rate = validation_deform.board()
    assert time["ours"] == pytest.approx(19.73, rel=1e-3) and rate["ours"] == pytest.approx(78.0, rel=0.02)
    assert time["calibrated"] and rate["calibrated"]
