"""Many designs in one call: every row is what `evaluate` says of that design, whatever is varied and however it is cut."""

import tracemalloc
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import picojoule as pj
from picojoule.accel.systolic import SystolicArray, SystolicSpec
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.designs import DesignPricing
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.totals import exact_sum
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.designs import DESIGN_METRICS, price_designs
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError
from picojoule.sim.formats import parse_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.technology import register_area_um2, sram_energy_pj
from picojoule.sim.weights import constant_fill

CHOICES = {
    "rows": [1, 3, 16, 100, 65536],
    "cols": [1, 7, 16, 64, 3000],
    "dataflow": ["os", "ws", "is"],
    "clock_mhz": [50.0, 500, 733.3],
    "ifmap_sram_kib": [0.5, 2.0, 33.3, 65536.0],
    "filter_sram_kib": [0.5, 8.0, 512],
    "ofmap_sram_kib": [0.5, 1.0, 77.7, 4096.0],
    "sram_cell": ["hp", "lop", "lstp"],
    "dram_gib_per_s": [0.01, 4.0, 90.0],
    "dram_latency_ns": [0.0, 70, 2000.0],
    "dram_burst_bytes": [1, 64, 4096],
    "dram_type": ["lpddr4", "ddr3"],
    "weight_bits": [8, 16],
    "activation_bits": [8, 9],
    "accumulator_bits": [16, 32, 48],
    "precision": ["fixed", "decomposable", "bit_serial"],
    "groups": ["side_by_side", "side_by_side", "sequential"],
    "overlap_load": [False, True],
    "overlap_drain": [False, True],
    "compat": ["none", "none", "scalesim"],
    "vector_lanes": [None, 1, 64],
    "node_nm": [22.0, 45, 60.0],
}


def points(count, seed):
    """Return random designs that differ in every key of the spec."""
    rng = np.random.default_rng(seed)
    return [{key: values[rng.integers(len(values))] for key, values in CHOICES.items()} for _ in range(count)]


def columns(designs):
    """Return the designs' values by key, objects as they are."""
    found = {key: np.empty(len(designs), dtype=object) for key in designs[0]}
    for i, design in enumerate(designs):
        for key, value in design.items():
            found[key][i] = value
    return found


def conv_network(weight=None, activation=None, transposed=False):
    """Return a convolution, a depthwise one, an activation, an addition and a linear layer."""
    builder = NetworkBuilder("convolutions")
    x = builder.input("x", TensorType(shape=(1, 6, 9, 9), batch_axis=0))
    x = replace(x, format=activation)
    plain = at.ConvAttributes(
        stride=(2, 2), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1), transposed=transposed
    )
    kernel = parameter("w", constant_fill(0.5, (6, 12, 3, 3) if transposed else (12, 6, 3, 3)))
    (y,) = builder.add(Op.CONV, [x, replace(kernel, format=weight)], plain, name="conv")
    relu = at.ActivationAttributes(kind=at.ActivationKind.RELU)
    (y,) = builder.add(Op.ACTIVATION, [y], relu, name="relu")
    depthwise = replace(plain, stride=(1, 1), groups=12, transposed=False)
    for i in range(2):
        (z,) = builder.add(
            Op.CONV, [y, parameter(f"d{i}", constant_fill(0.5, (12, 1, 3, 3)))], depthwise, name=f"depthwise{i}"
        )
        (y,) = builder.add(
            Op.ELEMENTWISE, [y, z], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name=f"add{i}"
        )
    return builder.finish([y])


def host_network():
    """Return a deformable convolution, which runs on the host, and nothing on the array."""
    builder = NetworkBuilder("deform")
    x = builder.input("x", TensorType(shape=(1, 8, 16, 16), batch_axis=0))
    offset = builder.input("offset", TensorType(shape=(1, 18, 16, 16), batch_axis=0))
    attributes = at.DeformConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
    weight = parameter("w", constant_fill(1.0, (8, 8, 3, 3)))
    (y,) = builder.add(Op.DEFORM_CONV, [x, weight, offset], attributes, name="deform")
    return builder.finish([y])


@cache
def zoo(name):
    """Return a reference network."""
    return pj.load(name)


NETWORKS = {
    "convolutions": (conv_network, 24),
    "transposed": (lambda: conv_network(transposed=True), 6),
    "narrow": (lambda: conv_network(weight=parse_format("int4"), activation=parse_format("uint4")), 10),
    "host": (host_network, 4),
    "resnet20": (lambda: zoo("resnet20"), 5),
    "depthwise": (lambda: zoo("dscnn-fashion"), 4),
    "transformer": (lambda: zoo("vit-tiny"), 2),
    "recurrent": (lambda: zoo("lstm-tagger"), 5),
}


def check_row(found, i, totals):
    """Compare one row with a report's totals: counts exactly, the rest to the order of sums."""
    for metric in DESIGN_METRICS:
        value, expected = found.totals[metric][i], totals[metric]
        if expected is None:
            assert np.isnan(value), metric
        elif isinstance(expected, int):
            assert value == expected, metric
        else:
            assert value == pytest.approx(expected, rel=1e-12, abs=0), metric


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_row_is_what_evaluate_says_of_the_design(name, batch):
    make, count = NETWORKS[name]
    network = make()
    designs = points(count, seed=[batch, *name.encode()])
    found = price_designs(load_hardware("edge-32x32"), network, columns(designs), batch=batch)
    assert len(found) == count
    for i, design in enumerate(designs):
        if found.infeasible[i]:
            with pytest.raises(InfeasibleError) as error:
                load_hardware("edge-32x32", design).evaluate(network, batch=batch)
            assert found.infeasible[i] == str(error.value)
            assert all(np.isnan(found.totals[metric][i]) for metric in DESIGN_METRICS)
            continue
        report = load_hardware("edge-32x32", design).evaluate(network, batch=batch)
        check_row(found, i, report.totals)
        check_layers(report)


def check_layers(report):
    """Add up the layers, which are made apart from the totals."""
    totals = report.totals
    assert [layer.name for layer in report.layers] == list(dict.fromkeys(layer.name for layer in report.layers))
    for metric in ("macs", "compute_cycles", "stall_cycles"):
        assert sum(getattr(layer, metric) for layer in report.layers) == totals[metric]
    dynamic = sum(layer.energy_pj for layer in report.layers)
    assert totals["energy_dynamic_pj"] == pytest.approx(dynamic, rel=1e-12, abs=0)
    seconds = sum(layer.latency_s for layer in report.layers)
    assert totals["latency_s"] == pytest.approx(seconds, rel=1e-12, abs=0)
    for layer in report.layers:
        if layer.utilization is not None:
            assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1, abs=1e-9)


def test_a_batch_runs_sample_by_sample_exactly_where_that_moves_fewer_bytes():
    builder = NetworkBuilder("one product")
    x = builder.input("x", TensorType(shape=(1, 30, 20), batch_axis=0))
    weight = parameter("w", constant_fill(0.5, (24, 20)))
    (y,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name="fc")
    network, base = builder.finish([y]), load_hardware("edge-16x16", {"dataflow": "os", "rows": 8, "cols": 4})
    sizes = {"ifmap_sram_kib": np.linspace(0.05, 6.0, 40), "filter_sram_kib": np.full(40, 0.05)}
    found, one = (price_designs(base, network, sizes, batch=batch) for batch in (4, 1))
    apart = 4 * one.totals["compute_cycles"] == found.totals["compute_cycles"]
    # A sample is 600 bytes, the batch 2400, and half of the SRAM holds what is in use.
    np.testing.assert_array_equal(
        apart, (sizes["ifmap_sram_kib"] * 512 >= 600) & (sizes["ifmap_sram_kib"] * 512 < 2400)
    )
    for i in range(0, 40, 5):
        design = {key: float(values[i]) for key, values in sizes.items()}
        check_row(found, i, load_hardware(base.spec, design).evaluate(network, batch=4).totals)


def test_arrays_of_any_kind_mean_the_same_designs():
    network, base = conv_network(), load_hardware("edge-16x16")
    listed = {"rows": [4, 8, 4], "dataflow": ["os", "is", "ws"], "overlap_load": [True, False, True]}
    typed = {key: np.array(values) for key, values in listed.items()}
    untyped = {key: np.array(values, dtype=object) for key, values in listed.items()}
    first, *others = (price_designs(base, network, keys) for keys in (listed, typed, untyped))
    for other in others:
        for metric in DESIGN_METRICS:
            np.testing.assert_array_equal(first.totals[metric], other.totals[metric])


@pytest.mark.parametrize("batch", [1, 4])
def test_chunks_change_nothing(batch):
    network = conv_network()
    shared = (
        "groups",
        "accumulator_bits",
        "activation_bits",
        "node_nm",
        "dram_type",
        "sram_cell",
        "compat",
        "precision",
    )
    keys = {key: values for key, values in columns(points(60, seed=5)).items() if key not in shared}
    whole = DesignPricing(SystolicSpec()).price(network, keys, batch)
    for size in (1, 17):
        cut = DesignPricing(SystolicSpec(), chunk_elements=size).price(network, keys, batch)
        for metric in DESIGN_METRICS:
            np.testing.assert_array_equal(cut.totals[metric], whole.totals[metric])


def test_memory_does_not_grow_with_the_designs():
    network, base = conv_network(), SystolicArray(SystolicSpec())
    rng = np.random.default_rng(0)
    extra = []
    for count in (40_000, 120_000):
        keys = {"rows": rng.integers(1, 99, count), "ifmap_sram_kib": rng.uniform(1, 99, count)}
        tracemalloc.start()
        base.price_designs(network, keys)
        extra.append(tracemalloc.get_traced_memory()[1] - 8 * count * (len(DESIGN_METRICS) + 1))
        tracemalloc.stop()
    assert max(extra) < 100e6
    assert extra[1] - extra[0] < 80_000 * 60  # places and distinct values of the keys, no layers x designs


def test_layers_of_one_shape_are_told_apart_by_format_and_bias():
    builder = NetworkBuilder("alike")
    y = builder.input("x", TensorType(shape=(1, 24), batch_axis=0))
    for i, form in enumerate(["int8", "int4", "int8", "int8"]):
        weight = replace(parameter(f"w{i}", constant_fill(0.5, (24, 24))), format=parse_format(form))
        bias = [parameter("b", constant_fill(0.5, (24,)))] if i == 3 else []
        (y,) = builder.add(Op.LINEAR, [y, weight, *bias], at.LinearAttributes(), name=f"fc{i}")
    network = builder.finish([y])
    found = price_designs(load_hardware("edge-16x16"), network, {"cols": [8, 16]})
    check_row(found, 1, load_hardware("edge-16x16").evaluate(network).totals)


def test_wider_ports_and_shadow_registers_by_hand():
    base = load_hardware("edge-16x16", {"rows": 4, "cols": 32, "dataflow": "ws"})
    model = EnergyModel(DesignArrays.of(base.spec, {"dataflow": np.array([Dataflow.WS, Dataflow.IS])}))
    # is: ifmap along the columns, filter along the rows; ws: the other way round.
    for buffer, kib, ports in (("ifmap", 64.0, (4, 32)), ("filter", 128.0, (32, 4))):
        read_pj = sum(charge.pj for charge in model.sram(buffer, "read", 1, 8))
        words = [float(sram_energy_pj(kib, port * 8, 45.0, "lop", kind="read")) / port for port in ports]
        np.testing.assert_allclose(read_pj, words, rtol=1e-12)
    found = price_designs(base, conv_network(), {"overlap_load": [False, True]})
    shadow_mm2 = 4 * 32 * float(register_area_um2(8, 45.0)) / 1e6
    assert found.totals["area_mm2"][1] - found.totals["area_mm2"][0] == pytest.approx(shadow_mm2)


def test_a_design_remembers_only_the_network_it_was_asked_for():
    wide, narrow = conv_network(), conv_network(weight=parse_format("int4"))
    base, keys = load_hardware("edge-16x16"), {"rows": [8, 16]}
    for network, batch in ((wide, 1), (narrow, 1), (wide, 3), (wide, 1)):
        found = price_designs(base, network, keys, batch=batch)
        check_row(found, 0, load_hardware("edge-16x16", {"rows": 8}).evaluate(network, batch=batch).totals)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_design_with_too_few_bits_is_infeasible_in_evaluates_words():
    network = conv_network(weight=parse_format("int8"))
    keys = {"weight_bits": [8, 4, 16, 7], "rows": [8, 8, 32, 4]}
    found = price_designs(load_hardware("edge-16x16"), network, keys)
    assert found.infeasible[0] == found.infeasible[2] == ""
    for i in (1, 3):
        design = {key: values[i] for key, values in keys.items()}
        with pytest.raises(InfeasibleError) as error:
            load_hardware("edge-16x16", design).evaluate(network)
        assert found.infeasible[i] == str(error.value)
        assert all(np.isnan(found.totals[metric][i]) for metric in DESIGN_METRICS)
    assert found.infeasible[1] == (
        "layer 'conv': weight format int8 needs 8 bits but the PEs of 'edge-16x16' have 4; "
        "set weight_bits=8 or use fewer bits"
    )


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("rows", 8, 0),
        ("rows", 8, 65537),
        ("cols", 8, 2.5),
        ("cols", 8, True),
        ("rows", 8, 2**70),
        ("dataflow", "os", "wss"),
        ("dataflow", "os", 1),
        ("clock_mhz", 100.0, float("nan")),
        ("clock_mhz", 100.0, -1.0),
        ("ifmap_sram_kib", 4.0, "4"),
        ("dram_gib_per_s", 4.0, float("inf")),
        ("dram_type", "ddr3", "ddr33"),
        ("weight_bits", 8, 1),
        ("precision", "fixed", None),
        ("overlap_load", True, 1),
        ("vector_lanes", None, 0),
        ("node_nm", 45.0, 7.0),
        ("node_nm", 45.0, [45.0]),
        ("row", 8, 8),
        ("rows.many", 8, 8),
        ("kind", "systolic", "reram"),
    ],
)
def test_a_bad_value_is_refused_in_the_hardware_files_own_sentence(key, good, bad):
    with pytest.raises(InputError) as expected:
        load_hardware("edge-16x16", {key: bad}) if key == "kind" else load_hardware(
            load_hardware("edge-16x16").spec, {key: bad}
        )
    values = np.empty(3, dtype=object)
    values[:] = [good, good, bad]
    with pytest.raises(InputError) as error:
        price_designs(load_hardware("edge-16x16"), conv_network(), {key: values})
    if key != "kind":
        assert str(error.value) == str(expected.value)


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("rows", [8, 0], "edge-16x16: rows must be at least 1, got 0"),
        ("rows", [8.0, 16.0], "edge-16x16: rows must be a valid integer, got 8.0"),
        ("clock_mhz", [100.0, np.nan], "edge-16x16: clock_mhz must be a finite number, got nan"),
        ("overlap_drain", [0, 1], "edge-16x16: overlap_drain must be a valid boolean, got 0"),
    ],
)
def test_bad_numbers_are_refused_too(key, values, sentence):
    with pytest.raises(InputError) as error:
        price_designs(load_hardware("edge-16x16"), conv_network(), {key: np.array(values)})
    assert str(error.value) == sentence


def test_a_shared_sram_and_its_size_are_checked_together():
    network, base = zoo("lenet5"), load_hardware("edge-32x32")
    table = pj.sweep(network, base, {"sram": ["shared"], "sram_kib": [100.0, 200.0]})
    kinds, sizes = ["shared", "separate", "shared"], [100.0, None, 200.0]
    paired = price_designs(base, network, {"sram": kinds, "sram_kib": sizes})
    points = [{}, *({"sram": k, "sram_kib": s} for k, s in zip(kinds, sizes, strict=True))]
    plain, *given = [load_hardware(base.spec, p).evaluate(network).totals for p in points]
    assert paired.totals["energy_pj"].tolist() == pytest.approx([t["energy_pj"] for t in given], rel=1e-12)
    assert table["energy_pj"].tolist() == pytest.approx([given[0]["energy_pj"], given[2]["energy_pj"]], rel=1e-12)
    assert len({t["energy_pj"] for t in given}) == 3
    assert given[1]["energy_pj"] == plain["energy_pj"]


@pytest.mark.parametrize(
    ("changes", "keys", "bad"),
    [
        ({}, {"sram_kib": [5.0]}, 0),
        ({}, {"sram_kib": [None, 5.0]}, 1),
        ({"sram": "shared", "sram_kib": 64.0}, {"sram_kib": [None, 64.0]}, 0),
        ({"sram": "shared", "sram_kib": 64.0}, {"sram": ["shared", "separate"]}, 1),
    ],
)
def test_sizes_that_do_not_go_with_the_kind_of_sram_are_refused_as_evaluate_does(changes, keys, bad):
    base = load_hardware("edge-32x32", changes)
    with pytest.raises(InputError) as expected:
        load_hardware(base.spec, {key: values[bad] for key, values in keys.items()})
    with pytest.raises(InputError) as error:
        price_designs(base, zoo("lenet5"), keys)
    assert str(error.value) == str(expected.value)


def huge_network():
    builder = NetworkBuilder("huge")
    x = builder.input("x", TensorType(shape=(1, 2**24, 2**16), batch_axis=0))
    weight = parameter("w", constant_fill(1.0, (2**8, 2**16)))
    (y,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name="fc")
    return builder.finish([y])


def test_a_design_with_counts_beyond_64_bits_is_named():
    keys = {"cols": [16, 16, 8, 16], "dram_gib_per_s": [4.0, 5.0, 1e-6, 6.0]}
    with pytest.raises(InputError) as error:
        price_designs(load_hardware("edge-16x16"), huge_network(), keys, batch=2**5)
    with pytest.raises(InputError) as expected:
        load_hardware("edge-16x16", {"cols": 8, "dram_gib_per_s": 1e-6}).evaluate(huge_network(), batch=2**5)
    assert str(error.value) == f"cols=8, dram_gib_per_s=1e-06: {expected.value}"
    assert "64-bit" in str(error.value)


def test_only_the_designs_on_which_a_layer_is_too_large_are_refused():
    network = huge_network()
    base = load_hardware("edge-16x16")
    fine = price_designs(base, network, {"rows": [4, 16], "cols": [16, 4]}, batch=2**5)
    check_row(fine, 1, load_hardware("edge-16x16", {"rows": 16, "cols": 4}).evaluate(network, batch=2**5).totals)
    with pytest.raises(
        InputError, match=r"^rows=16, cols=60000: layer sizes .* on a 16x60000 array give counts beyond"
    ):
        price_designs(base, network, {"rows": [4, 16, 8], "cols": [16, 60000, 4]}, batch=2**5)


def test_a_network_that_cannot_run_at_all_is_refused():
    with pytest.raises(UnsupportedError, match=r"^layer 'conv': activation format fp16 does not run"):
        price_designs(load_hardware("edge-16x16"), conv_network(activation=parse_format("fp16")), {"rows": [8, 16]})
    with pytest.raises(InputError, match=r"^batch must be between 1 and 1048576, got 0$"):
        price_designs(load_hardware("edge-16x16"), conv_network(), {"rows": [8, 16]}, batch=0)


def test_sums_that_leave_64_bits_are_exact_all_the_same():
    counts = np.array([[2**62, 3], [2**62, 5]])
    assert exact_sum(np.array([1, 3]), counts).tolist() == [float(2**64), 18.0]
    assert exact_sum(np.array([], dtype=np.int64), np.zeros((0, 2), dtype=np.int64)).tolist() == [0.0, 0.0]
