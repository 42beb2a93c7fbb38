"""The systolic array as a whole: what it charges, to whom, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import picojoule as pj
from picojoule.accel.systolic import SystolicArray, SystolicSpec, timing
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError
from picojoule.sim.formats import integer_format, parse_format
from picojoule.sim.hardware import load_hardware, presets
from picojoule.sim.ir import TensorType
from picojoule.sim.technology import constant, signed_add_energy_pj
from picojoule.sim.weights import constant_fill


def conv_network(size=14, channels=16, filters=32, kernel=3, stride=1, groups=1, relu=True, **formats):
    builder = NetworkBuilder("one conv")
    x = builder.input("x", TensorType(shape=(1, channels, size, size), batch_axis=0))
    weight = parameter("w", constant_fill(0.5, (filters, channels // groups, kernel, kernel)))
    weight = replace(weight, format=formats.get("weight"))
    x = replace(x, format=formats.get("activation"))
    pad = kernel // 2
    attributes = at.ConvAttributes(
        stride=(stride,) * 2, padding_begin=(pad,) * 2, padding_end=(pad,) * 2, dilation=(1, 1), groups=groups
    )
    (y,) = builder.add(Op.CONV, [x, weight], attributes, name="conv")
    if relu:
        kind = at.ActivationAttributes(kind=at.ActivationKind.RELU)
        (y,) = builder.add(Op.ACTIVATION, [y], kind, name="relu")
        (y,) = builder.add(Op.ELEMENTWISE, [y, y], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name="add")
    return builder.finish([y])


def test_cycles_are_the_closed_form_and_nothing_is_lost_from_the_total():
    network = conv_network()
    spec = SystolicSpec(rows=8, cols=8, dataflow="ws")
    report = SystolicArray(spec).evaluate(network, batch=3)
    conv = report.layers[0]
    expected = timing.fold_cycles(int(timing.Dataflow.WS), 8, 8, 3 * 196, 32, 144)
    assert conv.compute_cycles == int(expected)
    assert (conv.gemm.m, conv.gemm.n, conv.gemm.k, conv.macs) == (588, 32, 144, 588 * 32 * 144)
    totals = report.totals
    assert totals["latency_cycles"] == sum(layer.latency_cycles for layer in report.layers)
    layers = sum(layer.energy_pj for layer in report.layers)
    assert layers + totals["energy_static_pj"] == pytest.approx(totals["energy_pj"], rel=1e-12)
    assert sum(report.energy_by_component().values()) == pytest.approx(totals["energy_pj"], rel=1e-12)
    assert sum(conv.utilization_lost.values()) + conv.utilization == pytest.approx(1.0, abs=1e-12)
    low, high = totals["ranges"]["energy_pj"]
    assert 0 < low < totals["energy_pj"] < high


def test_energy_of_the_macs_by_hand():
    report = SystolicArray(SystolicSpec()).evaluate(conv_network())
    macs = 196 * 32 * 144
    # Horowitz at 45 nm: an 8-bit multiplication 0.2 pJ, a 32-bit addition 0.1 pJ.
    assert report.energy_by_component()["mac"] == pytest.approx(macs * 0.3, rel=1e-9)
    dram = report.layers[0].dram_read_bytes + report.layers[0].dram_write_bytes
    dram += report.layers[2].dram_read_bytes + report.layers[2].dram_write_bytes
    assert report.energy_by_component()["dram"] == pytest.approx(8 * dram * constant("dram.lpddr4.bit").value)


def test_an_activation_behind_the_array_is_free_in_time_but_not_in_energy_and_an_addition_is_neither():
    relu, add = SystolicArray(SystolicSpec()).evaluate(conv_network()).layers[1:]
    assert (relu.unit, relu.latency_s, relu.dram_read_bytes) == ("vector", 0.0, 0)
    assert relu.energy_pj > 0
    elements = 32 * 196
    assert add.dram_read_bytes == 2 * elements  # both operands, one byte each
    assert add.dram_write_bytes == elements
    bytes_per_cycle = 8 * 2**30 / 500e6
    assert add.compute_cycles == -(-elements // 16)
    assert add.latency_cycles == int(np.ceil(3 * elements / bytes_per_cycle))


def test_fewer_bits_save_traffic_only_on_fixed_pes():
    wide = SystolicArray(SystolicSpec()).evaluate(conv_network())
    narrow_network = conv_network(weight=parse_format("int4", per="channel"), activation=parse_format("uint4"))
    narrow = SystolicArray(SystolicSpec()).evaluate(narrow_network)
    assert narrow.layers[0].compute_cycles == wide.layers[0].compute_cycles
    assert narrow.energy_by_component()["mac"] == wide.energy_by_component()["mac"]
    filter_bytes = 32 * 144
    assert wide.layers[0].reads["dram.filter"] == narrow.layers[0].reads["dram.filter"] == filter_bytes
    assert narrow.layers[0].dram_read_bytes * 2 == wide.layers[0].dram_read_bytes
    assert narrow.totals["weight_bytes"] * 2 == wide.totals["weight_bytes"]
    assert (wide.hardware["assumed_precision"], narrow.hardware["assumed_precision"]) == ("int8", None)


def test_narrow_operands_speed_up_decomposable_and_bit_serial_pes():
    network = conv_network(kernel=1, weight=parse_format("int4"), activation=parse_format("int4"))
    shape = (int(timing.Dataflow.OS), 16, 16, 196, 32)
    decomposable = SystolicArray(SystolicSpec(dataflow="os", precision="decomposable")).evaluate(network)
    assert decomposable.layers[0].compute_cycles == int(
        timing.fold_cycles(*shape, 16 // 4)
    )  # (8/4) x (8/4) MACs at once
    serial = SystolicArray(SystolicSpec(dataflow="os", precision="bit_serial")).evaluate(network)
    assert serial.layers[0].compute_cycles == int(timing.fold_cycles(*shape, 16 * 4))  # 4 cycles a MAC
    price = 4 * signed_add_energy_pj(8, 32, 45.0).energy_pj  # the activation is added once per weight bit
    assert serial.energy_by_component()["mac"] == pytest.approx(196 * 32 * 16 * float(price))


def test_small_groups_run_side_by_side_and_what_their_diagonal_wastes_is_reported():
    network = conv_network(channels=16, filters=16, groups=16)  # depthwise: 16 groups of k = 9, n = 1, m = 196
    shape = (int(timing.Dataflow.WS), 32, 8, 196, 1, 9)
    report = SystolicArray(SystolicSpec(rows=32, cols=8)).evaluate(network)
    conv = report.layers[0]
    # 32 // 9 = 3 groups a fold: five folds of 27 rows and 3 columns, and one of a single group.
    assert conv.compute_cycles == 5 * (2 * 27 + 3 + 194) + (2 * 9 + 1 + 194)
    assert conv.utilization_lost["groups"] == pytest.approx(
        5 * (27 * 3 - 27) * 196 / ((conv.compute_cycles + conv.stall_cycles) * 32 * 8), rel=1e-12
    )
    assert conv.utilization + sum(conv.utilization_lost.values()) == pytest.approx(1.0, abs=1e-12)
    for other in ({"groups": "sequential"}, {"compat": "scalesim"}):
        apart = SystolicArray(SystolicSpec(rows=32, cols=8, **other)).evaluate(network).layers[0]
        assert apart.utilization_lost["groups"] == 0.0
        cycles = timing.scalesim_cycles if "compat" in other else timing.fold_cycles
        assert apart.compute_cycles == int(cycles(*shape, 16))
        assert apart.compute_cycles > conv.compute_cycles


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [((2, 1), (0, 1), (1, 1)), ((1, 3), (2, 0), (2, 1)), ((1, 1), (1, 1), (1, 3))]
)
def test_strides_padding_and_dilation_of_each_axis_make_the_rows_of_the_product(stride, padding, dilation):
    builder = NetworkBuilder("axes")
    x = builder.input("x", TensorType(shape=(1, 4, 11, 13), batch_axis=0))
    attributes = at.ConvAttributes(stride=stride, padding_begin=padding, padding_end=padding, dilation=dilation)
    weight = parameter("w", constant_fill(0.5, (6, 4, 3, 2)))
    (y,) = builder.add(Op.CONV, [x, weight], attributes, name="conv")
    conv = SystolicArray(SystolicSpec(rows=8, cols=8)).evaluate(builder.finish([y]), batch=2).layers[0]
    places = [  # windows placed one by one
        sum(1 for top in range(-p, size + p, s) if top + d * (k - 1) < size + p)
        for size, p, s, d, k in zip((11, 13), padding, stride, dilation, (3, 2), strict=True)
    ]
    m = 2 * places[0] * places[1]
    assert (conv.gemm.m, conv.gemm.n, conv.gemm.k) == (m, 6, 24)
    assert conv.compute_cycles == int(timing.fold_cycles(timing.Dataflow.WS, 8, 8, m, 6, 24))


def test_a_matrix_times_a_vector_streams_one_row():
    builder = NetworkBuilder("gemv")
    x = builder.input("x", TensorType(shape=(1, 40), batch_axis=0))
    (y,) = builder.add(Op.LINEAR, [x, parameter("w", constant_fill(0.5, (24, 40)))], at.LinearAttributes(), name="fc")
    fc = SystolicArray(SystolicSpec(rows=16, cols=16)).evaluate(builder.finish([y])).layers[0]
    # ws: 3 row folds (16, 16, 8) x 2 column folds (16, 8), T = 1: each 2 r + c - 1 cycles.
    assert fc.compute_cycles == sum(2 * r + c - 1 for c in (16, 8) for r in (16, 16, 8))
    assert (fc.gemm.m, fc.macs) == (1, 960)


def test_scalesim_mode_counts_as_scalesim():
    report = SystolicArray(SystolicSpec(rows=8, cols=8, dataflow="os", compat="scalesim")).evaluate(conv_network())
    conv = report.layers[0]
    row_folds, col_folds = -(-196 // 8), 32 // 8
    assert conv.compute_cycles == row_folds * col_folds * (144 + 8 + 8 - 2)
    assert conv.writes["sram.ofmap"] == 196 * 32 + row_folds * col_folds * 16  # with the surplus of its os count
    assert any("SCALE-Sim" in note for note in report.coverage.notes)


def test_a_stride_longer_than_the_window_reads_less_of_the_ifmap():
    strided = SystolicArray(SystolicSpec()).evaluate(conv_network(kernel=1, stride=2))
    assert strided.layers[0].reads["dram.ifmap"] == 16 * 7 * 7


def test_more_bits_than_the_pes_have_do_not_fit():
    network = conv_network(weight=integer_format(12))
    with pytest.raises(InfeasibleError) as error:
        pj.evaluate(network, "edge-16x16")
    assert str(error.value) == (
        "layer 'conv': weight format int12 needs 12 bits but the PEs of 'edge-16x16' have 8; "
        "set weight_bits=12 or use fewer bits"
    )


def test_floating_point_does_not_run_on_integer_pes():
    with pytest.raises(
        UnsupportedError, match=r"^layer 'conv': activation format fp16 does not run on the integer PEs"
    ):
        pj.evaluate(conv_network(activation=parse_format("fp16")), "edge-16x16")


def test_deformable_convolution_runs_on_the_host_and_is_warned_of():
    builder = NetworkBuilder("deform")
    x = builder.input("x", TensorType(shape=(1, 8, 16, 16), batch_axis=0))
    offset = builder.input("offset", TensorType(shape=(1, 18, 16, 16), batch_axis=0))
    attributes = at.DeformConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
    weight = parameter("w", constant_fill(1.0, (8, 8, 3, 3)))
    (y,) = builder.add(Op.DEFORM_CONV, [x, weight, offset], attributes, name="deform")
    report = pj.evaluate(builder.finish([y]), "edge-16x16")
    assert report.layers[0].unit == "host"
    assert report.totals["host_latency_s"] == report.totals["latency_s"] > 0
    assert report.coverage.notes[0] == "warning: 100% of the time is spent on the host"


def test_sizes_that_leave_64_bits_are_refused():
    builder = NetworkBuilder("huge")
    x = builder.input("x", TensorType(shape=(1, 2**31 - 1), batch_axis=0))
    weight = replace(parameter("w", constant_fill(1.0, (2**16, 2**31 - 1))))
    (y,) = builder.add(Op.LINEAR, [x, weight], at.LinearAttributes(), name="fc")
    with pytest.raises(InputError, match=r"give counts beyond 64-bit integers; split the layer$"):
        pj.evaluate(builder.finish([y]), "edge-16x16", batch=2**20)


@pytest.mark.parametrize("name", ["edge-16x16", "edge-32x32", "tpu-v1"])
def test_presets_price_a_network_and_have_an_area(name):
    report = pj.evaluate(conv_network(), name)
    assert report.totals["area_mm2"] > 0
    assert report.totals["energy_pj"] > 0
    assert report.hardware["name"] == name
    assert name in presets()


def test_every_operator_has_a_unit():
    assert set(SystolicArray.unit_of_op) == {op.value for op in Op}


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 40),
    dataflow=st.sampled_from(["os", "ws", "is"]),
    size=st.integers(1, 12),
    channels=st.integers(1, 6),
    filters=st.integers(1, 20),
    batch=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_laws_that_always_hold(rows, cols, dataflow, size, channels, filters, batch):
    spec = SystolicSpec(rows=rows, cols=cols, dataflow=dataflow)
    network = conv_network(size=size, channels=channels, filters=filters)
    report = SystolicArray(spec).evaluate(network, batch=batch)
    conv = report.layers[0]
    assert conv.compute_cycles * rows * cols >= conv.macs
    assert conv.stall_cycles >= 0
    assert 0 < conv.utilization <= conv.compute_utilization <= conv.mapping_efficiency <= 1
    compulsory = batch * channels * size * size + 9 * channels * filters
    assert conv.dram_read_bytes >= compulsory
    assert conv.dram_write_bytes >= batch * filters * size * size
    faster = load_hardware(spec, {"dram_gib_per_s": 2 * spec.dram_gib_per_s})
    assert faster.evaluate(network, batch=batch).totals["latency_s"] <= report.totals["latency_s"]


def test_sweep_agrees_with_evaluate_row_by_row():
    network = conv_network()
    space = {"rows": [4, 16], "cols": [8, 16], "dataflow": ["os", "ws", "is"]}
    table = pj.sweep(network, "edge-16x16", space)
    assert len(table) == 12
    assert list(table.columns[:3]) == ["rows", "cols", "dataflow"]
    for _, row in table.iterrows():
        point = {key: row[key] for key in space}
        totals = pj.evaluate(network, "edge-16x16", overrides=point).totals
        for key in ("compute_cycles", "stall_cycles", "energy_pj", "area_mm2"):
            assert row[key] == totals[key]
