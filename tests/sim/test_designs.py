"""Many designs of any accelerator: point by point where it has no array call, and `sweep` on top of both."""

import numpy as np
import pytest

import picojoule as pj
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.designs import DESIGN_METRICS, PricesDesigns, price_designs
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill


def linear_network(outputs=40):
    builder = NetworkBuilder("linear")
    x = builder.input("x", TensorType(shape=(1, 24), batch_axis=0))
    weight = parameter("w", constant_fill(0.5, (outputs, 24)))
    (y,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name="fc")
    return builder.finish([y])


def test_crossbars_are_evaluated_point_by_point():
    base, network = load_hardware("isaac"), linear_network(outputs=4000)
    assert not isinstance(base, PricesDesigns)
    keys = {"adc_bits": [8, 6, 8], "crossbar_rows": np.array([128, 64, 128]), "tiles_per_chip": [168, 4, 1]}
    found = price_designs(base, network, keys, batch=2)
    reasons = []
    for i in range(3):
        point = {key: int(values[i]) for key, values in keys.items()}
        try:
            totals = load_hardware("isaac", point).evaluate(network, batch=2).totals
        except InfeasibleError as error:
            reasons.append(str(error))
            assert all(np.isnan(found.totals[metric][i]) for metric in DESIGN_METRICS)
        else:
            reasons.append("")
            for metric in DESIGN_METRICS:
                expected = np.nan if totals[metric] is None else totals[metric]
                np.testing.assert_array_equal(found.totals[metric][i], expected)
    assert found.infeasible.tolist() == reasons
    assert any(reasons)
    assert not all(reasons)


@pytest.mark.parametrize(
    ("hardware", "keys", "sentence"),
    [
        (
            "isaac",
            {"adc_bits": [8, 99]},
            "isaac: adc_bits must be at most 16, got 99",
        ),
        (
            "edge-16x16",
            {},
            "pricing designs takes at least one key with a value per design, such as {'rows': [16, 32]}",
        ),
        (
            "edge-16x16",
            {"rows": [8, 16], "cols": [4]},
            "every key needs one value per design, got rows 2, cols 1",
        ),
        (
            "isaac",
            {"adc_bits": np.array([[8], [6]])},
            "every key needs an array of one value per design, got one of shape (2, 1)",
        ),
        (
            "edge-16x16",
            {"rows": 8},
            "every key needs an array of one value per design, got one of shape ()",
        ),
    ],
)
def test_what_cannot_be_priced_is_refused_in_one_sentence(hardware, keys, sentence):
    with pytest.raises(InputError) as error:
        price_designs(load_hardware(hardware), linear_network(), keys)
    assert str(error.value) == sentence


def test_no_designs_have_no_totals():
    found = price_designs(load_hardware("edge-16x16"), linear_network(), {"rows": []})
    assert len(found) == 0
    assert all(found.totals[metric].shape == (0,) for metric in DESIGN_METRICS)


def test_a_sweep_keeps_the_users_values_and_order():
    space = {"rows": [32, 8], "vector_lanes": [None, 4], "dataflow": ["ws", "os"]}
    table = pj.sweep(linear_network(), "edge-16x16", space, batch=3)
    assert list(table.columns) == [
        *space, "compute_cycles", "stall_cycles", "latency_cycles", "latency_s", "interval_s", "energy_pj",
        "energy_pj_per_sample", "area_mm2", "chips", "utilization", "infeasible",
    ]  # fmt: skip
    assert table["rows"].tolist() == [32, 32, 32, 32, 8, 8, 8, 8]
    assert table["dataflow"].tolist() == ["ws", "os"] * 4
    assert table["infeasible"].tolist() == [""] * 8
    assert table["compute_cycles"].dtype == np.int64
    for i, row in table.iterrows():
        point = {"rows": row["rows"], "vector_lanes": [None, None, 4, 4][i % 4], "dataflow": row["dataflow"]}
        totals = pj.evaluate(linear_network(), "edge-16x16", overrides=point, batch=3).totals
        assert (row["latency_cycles"], row["energy_pj"]) == (totals["latency_cycles"], totals["energy_pj"])


def test_a_sweep_leaves_totals_empty_where_a_design_cannot_hold_the_network():
    table = pj.sweep(linear_network(4000), "isaac", {"tiles_per_chip": [168, 1], "crossbars_per_ima": [8, 1]})
    infeasible = table["infeasible"] != ""
    assert infeasible.tolist() == [False, False, True, True]
    assert table.loc[infeasible, "energy_pj"].isna().all()
    assert table.loc[~infeasible, "energy_pj"].notna().all()
