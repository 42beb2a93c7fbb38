"""The SRAM formulas against CACTI: the table is the fit, its errors on rows seen and unseen, the two parts of an access."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.sim import technology as tech
from picojoule.sim.technology import sram_fit
from picojoule.sim.technology.table_sram import SHAPES

REFERENCE = Path(__file__).parents[1] / "reference" / "energy" / "cacti_sweep.csv"


def test_the_packaged_sweep_is_the_reference() -> None:
    packaged = Path(sram_fit.__file__).with_name("cacti_sweep.csv")
    assert packaged.read_bytes() == REFERENCE.read_bytes()
    assert len(sram_fit.cacti_sweep()) == 6 and all(len(d["kib"]) == 11 for d in sram_fit.cacti_sweep().values())


def test_the_table_is_what_the_fit_gives() -> None:
    for (node, cell), data in sram_fit.cacti_sweep().items():
        shape = SHAPES[node, cell]
        expected = {
            "read": (shape.read.exponent_small, shape.read.exponent_large, shape.read.port_share),
            "write": (shape.write.exponent_small, shape.write.exponent_large, shape.write.port_share),
            "leakage": (),
            "area": (),
            "access": (shape.access_fixed_share,),
        }
        for quantity, parameters in expected.items():
            value, *fitted = sram_fit.fit_family(quantity, data["kib"], data["bits"], data[quantity])
            assert value == pytest.approx(tech.constant(f"sram.{cell.value}.{node}nm.{quantity}").value, rel=2e-3)
            assert fitted == pytest.approx(list(parameters), abs=2e-3)


def test_errors_of_rows_seen_and_left_out() -> None:
    rows = tech.sram_fit_errors()
    assert len(rows) == 30
    # measured (worst of a family): read, write, leakage, area, access
    seen = {"read": 15.4, "write": 16.2, "leakage": 16.9, "area": 14.5, "access": 14.3}
    unseen = {"read": 21.4, "write": 22.8, "leakage": 17.7, "area": 15.2, "access": 17.9}
    for row in rows:
        assert row["points"] == 11
        assert 0 <= row["fit_median_pct"] <= row["fit_worst_pct"] < seen[row["quantity"]]
        assert row["left_out_median_pct"] <= row["left_out_worst_pct"] < unseen[row["quantity"]]
    for quantity in sram_fit.SRAM_QUANTITIES:
        mine = [row for row in rows if row["quantity"] == quantity]
        assert (
            max(row["fit_worst_pct"] for row in mine) > seen[quantity] - 0.2
        )  # the stated figures are the measured ones
        assert max(row["left_out_worst_pct"] for row in mine) > unseen[quantity] - 0.2
    unseen_rows = np.concatenate([np.abs(errors) for errors in sram_fit.sram_left_out_errors().values()])
    assert np.median(unseen_rows) < 0.05
    table = tech.sram_fit_table()
    assert table.count("\n") == 32 and "| 22 | hp | write |" in table


def test_the_two_parts_of_an_access_at_its_ends() -> None:
    """CACTI, 32 KiB, 45 nm hp: a read has about 12.7 pJ + 0.035 pJ a bit, a write about 3 pJ + 0.15 pJ a bit."""
    read, write = (tech.sram_port(32, 64, 45, "hp", kind=kind) for kind in ("read", "write"))
    assert float(read.lane_pj) == pytest.approx(12.7, rel=0.02) and float(read.bit_pj) == pytest.approx(0.035, rel=0.02)
    assert float(write.lane_pj) == pytest.approx(3.0, rel=0.06) and float(write.bit_pj) == pytest.approx(0.15, rel=0.05)


def test_small_arrays() -> None:
    """CACTI, 45 nm, 16 bits: 1 and 2 KiB read at 1.04 and 1.78 pJ (hp), 0.574 and 0.999 pJ (lop)."""
    np.testing.assert_allclose(tech.sram_energy_pj([1, 2], 16, 45, "hp"), [1.04, 1.776], rtol=0.03)
    np.testing.assert_allclose(tech.sram_energy_pj([1, 2], 16, 45, "lop"), [0.574, 0.9986], rtol=0.08)


@given(
    kib=st.floats(0.5, 8000),
    port=st.integers(8, 8192),
    share=st.floats(0.01, 1),
    node=st.floats(22, 65),
    cell=st.sampled_from(list(tech.SramCell)),
    kind=st.sampled_from(["read", "write"]),
)
def test_a_whole_port_is_the_sum_of_its_parts_and_a_part_costs_more_than_its_share(
    kib: float, port: int, share: float, node: float, cell: tech.SramCell, kind: str
) -> None:
    made = tech.sram_port(kib, port, node, cell, kind=kind)
    whole = float(tech.sram_energy_pj(kib, port, node, cell, kind=kind))
    lanes = max(1.0, port / tech.SRAM_LANE_BITS)
    assert whole == pytest.approx(float(lanes * made.lane_pj + port * made.bit_pj))
    used = share * port
    part = float(max(1.0, used / tech.SRAM_LANE_BITS) * made.lane_pj + used * made.bit_pj)
    assert share * whole * (1 - 1e-12) <= part <= whole * (1 + 1e-12)


@given(kib=st.floats(0.5, 8000), port=st.integers(8, 512), cell=st.sampled_from(list(tech.SramCell)))
def test_nodes_between_rows_lie_between_them(kib: float, port: int, cell: tech.SramCell) -> None:
    for low, node, high in ((22, 28, 32), (32, 40, 45), (45, 55, 65)):
        for kind in ("read", "write"):
            energy = tech.sram_energy_pj(kib, port, np.array([low, node, high]), cell, kind=kind)
            assert energy[0] <= energy[1] <= energy[2]
