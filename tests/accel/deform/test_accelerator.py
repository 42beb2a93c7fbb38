"""The engine as an accelerator: what runs where, what it costs, what it refuses."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.accel.deform import DeformSpec, DeformUnit
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError
from picojoule.sim.formats import integer_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill

from .networks import SPEC, Build, evaluate, rows

# --- what runs where ----------------------------------------------------------------------------------------------------


def test_a_1x1_layer_shares_its_call_with_the_3x3_layer_behind_it():
    b = Build(16)
    y = b.relu(b.conv(b.x, 32, name="one"))
    network = b.finish(b.relu(b.depthwise(y, name="three"), name="relu2"))
    found = rows(evaluate(network))
    assert found["one"].basis == "fused with 'three'" and found["three"].basis == "fused with 'one'"
    assert found["relu"].basis == found["relu2"].basis == "in the requantiser"
    assert found["relu"].latency_s == 0 < found["relu"].energy_pj
    assert found["one"].dram_write_bytes == found["three"].reads.get("dram.ifmap", 0) == 0  # stays on chip
    # 64 pixels, I = 1, O = C = 2, a = 20, b = 6, c = 25000: weights 32 + 18, the 1x1 process 64 (1 + 2 + 20 + 12) = 2240,
    # the 3x3 process 64 (2 + 20) + 64 (2 + 20) = 2816.
    spec = SPEC.model_copy(update={"pixel_refill_cycles": 20.0, "tile_refill_cycles": 6.0, "call_cycles": 25000.0})
    found = rows(evaluate(network, spec))
    assert found["one"].compute_cycles == 32 + 2240 + 25000
    assert found["one"].compute_cycles + found["three"].compute_cycles == 50 + 2816 + 25000


@pytest.mark.parametrize("case", ["two readers", "an output", "sigmoid between", "scale after clamp"])
def test_what_must_leave_the_engine_is_not_fused(case):
    b = Build(16)
    y = b.conv(b.x, 32, name="one")
    outputs = []
    if case == "two readers":
        outputs.append(b.conv(y, 16, name="other"))
    elif case == "an output":
        outputs.append(y)
    elif case == "sigmoid between":
        y = b.op(Op.ACTIVATION, at.ActivationAttributes(kind=at.ActivationKind.SIGMOID), y, name="between")
    else:
        four = [parameter(f"p{i}", constant_fill(0.5, (32,))) for i in range(4)]
        y = b.op(Op.NORM, at.NormAttributes(kind=at.NormKind.BATCH), b.relu(y), *four, name="between")
    found = rows(evaluate(b.finish(b.depthwise(y, name="three"), *outputs)))
    assert found["one"].basis == found["three"].basis == "closed form"
    if "between" in found:
        assert found["between"].unit == "host" and found["between"].latency_s > 0


def test_a_1x1_layer_with_partial_sums_is_a_call_of_its_own():
    b = Build(200)
    network = b.finish(b.depthwise(b.conv(b.x, 16, name="one"), name="three"))
    small = rows(evaluate(network, DeformSpec(weight_buffer_kib=1)))["one"]  # holds 128 inputs of 16 outputs
    assert (small.basis, small.reads["dram.psum"], small.writes["dram.psum"]) == ("closed form", 16 * 64, 16 * 64)
    assert rows(evaluate(network))["one"].basis == "fused with 'three'"


def test_roles_of_other_layers_and_why_the_host_has_them():
    b = Build(16, 9, 9)
    outputs = [
        b.depthwise(b.x, 5, name="five"),
        b.conv(b.x, 32, 3, groups=16, name="twice"),
        b.depthwise(b.x, dilation=2, name="dilated"),
        b.depthwise(b.x, dilation=9, name="far"),
        b.conv(b.x, 8, 3, name="full"),
        b.op(Op.REDUCE, at.ReduceAttributes(kind=at.ReduceKind.MAX, axes=(2,), keepdims=True), b.x, name="pool"),
    ]
    report = evaluate(b.finish(*outputs))
    units = {name: row.unit for name, row in rows(report).items()}
    assert units == {
        "five": "host",
        "twice": "host",
        "dilated": "engine",
        "far": "host",
        "full": "engine",
        "pool": "host",
    }
    notes = " ".join(report.coverage.notes)
    assert "on the host: 'five' (the depthwise engine does 3x3 windows of stride 1 or 2" in notes
    assert "on the host: 'twice' (the depthwise engine makes one output channel of each input channel)" in notes
    assert "on the host: 'far' (its dilation is beyond the 7 rows" in notes
    assert "1 convolution(s) that are neither 1x1 nor depthwise 3x3 run as shifted 1x1 passes" in notes
    without = evaluate(b.finish(*outputs), DeformSpec(lowering=False))
    assert rows(without)["full"].unit == "host"
    assert any("set lowering: true" in note for note in without.coverage.notes)


def test_an_image_layer_runs_where_first_layer_says():
    b = Build(3)
    network = b.finish(b.conv(b.x, 16, 3, name="first"))
    assert rows(evaluate(network))["first"].unit == "host"  # as published
    assert rows(evaluate(network, DeformSpec(first_layer="engine")))["first"].unit == "engine"
    assert evaluate(network).totals["accelerator_latency_s"] == 0


# --- sums and limits ----------------------------------------------------------------------------------------------------

layer_kinds = st.lists(
    st.tuples(
        st.sampled_from(["one", "three", "strided", "conv", "grouped", "relu", "pool", "square", "free"]),
        st.sampled_from([1, 3, 16, 17, 40]),
    ),
    min_size=1,
    max_size=5,
)


def random_network(kinds, channels, size):
    b = Build(channels, size, size + 1)
    y, offsets = b.x, 0
    for i, (kind, width) in enumerate(kinds):
        name = f"{kind}{i}"
        match kind:
            case "one":
                y = b.conv(y, width, name=name)
            case "three" | "strided":
                y = b.depthwise(y, stride=2 if kind == "strided" else 1, name=name)
            case "conv":
                y = b.conv(y, width, 3, name=name)
            case "grouped":
                y = b.conv(y, 2 * y.shape[1], 3, groups=y.shape[1] if width == 3 else 1, name=name)
            case "relu":
                y = b.relu(y, name=name)
            case "pool":
                y = b.op(Op.REDUCE, at.ReduceAttributes(kind=at.ReduceKind.MAX, axes=(2,), keepdims=True), y, name=name)
            case _ if not offsets:
                y, offsets = b.deform(y, kind, name=name), 1
    return b.finish(y)


@given(
    layer_kinds, st.sampled_from([1, 3, 17, 64]), st.sampled_from([1, 2, 12]), st.integers(1, 2),
    st.sampled_from([SPEC, DeformSpec(lowering=False, first_layer="host", llc=True, dram_gib_per_s=0.01)]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_rows_add_up_for_any_network(kinds, channels, size, batch, spec):
    if all(kind in ("square", "free") for kind, _ in kinds[1:]) and kinds[0][0] in ("square", "free"):
        kinds = [kinds[0]]
    network = random_network(kinds, channels, size)
    report = evaluate(network, spec, batch=batch)
    t = json.loads(report.to_json())["totals"]
    assert t["accelerator_latency_s"] + t["host_latency_s"] == pytest.approx(t["latency_s"])
    engine = [row for row in report.layers if row.unit == "engine"]
    assert sum(row.latency_s for row in engine) == pytest.approx(t["accelerator_latency_s"])
    assert sum(row.energy_pj for row in report.layers) + t["energy_static_pj"] == pytest.approx(t["energy_pj"])
    slots = spec.pe_in * spec.pe_out + 9 * spec.depthwise_lanes
    assert sum(row.latency_cycles for row in engine) * slots >= sum(row.macs for row in engine)
    for row in engine:
        assert row.compute_cycles >= 0 and row.stall_cycles >= 0
        if row.macs:
            assert 0 < row.utilization <= row.compute_utilization <= row.mapping_efficiency <= 1
            assert all(share >= 0 for share in row.utilization_lost.values())
            assert row.utilization + sum(row.utilization_lost.values()) == pytest.approx(1)
    assert t["utilization"] is None or 0 < t["utilization"] <= 1


def test_huge_batches_and_layers_are_counted_exactly_and_quickly():
    b = Build(64, 512, 512)
    network = b.finish(b.conv(b.x, 2048, name="one"))
    one, many = (rows(evaluate(network, batch=n))["one"] for n in (1, 1 << 20))
    assert many.compute_cycles == one.compute_cycles << 20
    assert many.reads["dram.ifmap"] == one.reads["dram.ifmap"] << 20
    made = NetworkBuilder("wide")
    x = made.input("x", TensorType(shape=(1, 1 << 40), batch_axis=0))
    w = parameter("w", constant_fill(0.5, (16, 1 << 40)))
    wide = rows(evaluate(made.finish(made.add(Op.LINEAR, [x, w], at.LinearAttributes(), name="wide"))))["wide"]
    assert wide.macs == 1 << 44 and wide.compute_cycles * 256 > wide.macs


def test_only_channels_that_do_not_fill_a_step_are_padding():
    for stride, channels, share in ((1, 32, 1.0), (2, 32, 1.0), (2, 24, 0.75)):
        b = Build(channels)
        row = rows(evaluate(b.finish(b.depthwise(b.x, stride=stride, name="three"))))["three"]
        assert row.mapping_efficiency == share, (stride, channels)


def test_slower_dram_stalls_and_stalls_are_not_free():
    b = Build(64, 32, 32)
    network = b.finish(b.conv(b.x, 64, name="one"))
    fast, slow = (evaluate(network, DeformSpec(dram_gib_per_s=g)) for g in (4.0, 0.05))
    assert rows(fast)["one"].stall_cycles == 0 < rows(slow)["one"].stall_cycles
    moved = 2 * 64 * 1024 / (0.05 * 2**30)  # ifmap and ofmap
    loading = 64 * 64 / 2 / (0.05 * 2**30) + DeformSpec().call_cycles / 250e6
    assert rows(slow)["one"].latency_s == pytest.approx(moved + loading, rel=1e-3)


def test_narrow_values_move_fewer_bytes_and_wide_ones_are_refused():
    b = Build(16)
    network = b.finish(b.conv(b.x, 16, name="one"))

    def with_formats(weight, activation):
        (layer,) = network.layers
        x, w = layer.operands
        operands = (replace(x, format=activation), replace(w, format=weight))
        return network.with_layers((replace(layer, operands=operands),))

    wide, narrow = (rows(evaluate(with_formats(integer_format(4), integer_format(b))))["one"] for b in (8, 4))
    assert wide.dram_read_bytes - narrow.dram_read_bytes == 64 * 16 // 2
    with pytest.raises(InfeasibleError) as caught:
        evaluate(with_formats(integer_format(8), integer_format(8)))
    assert str(caught.value) == (
        "layer 'one': weight format int8 needs 8 bits but the engine of 'board' has 4; set weight_bits=8 or use fewer bits"
    )


def test_designs_the_board_cannot_hold_are_refused_and_bad_keys_named():
    b = Build(16)
    network = b.finish(b.conv(b.x, 16, name="one"))
    with pytest.raises(
        InfeasibleError, match=r"^board: the engine needs .* block RAMs .* but ultra96 .* has 216; reduce"
    ):
        evaluate(network, SPEC.model_copy(update={"line_buffer_rows": 101}))
    with pytest.raises(InputError, match="unknown board 'ultra69'"):
        DeformUnit(DeformSpec(board="ultra69"))
    with pytest.raises(InputError, match="unknown host 'cortex_a35'"):
        DeformUnit(DeformSpec(host="cortex_a35"))
    with pytest.raises(InputError, match="full_in and full_out must both be 0"):
        load_hardware("ultra96-codenet", {"full_in": 8})
    with pytest.raises(InputError, match="chips must be 1"):
        evaluate(network, chips=2)
    apart = evaluate(network, DeformSpec(board="kcu1500"))
    assert any(
        "kcu1500 has no processor: the host (cortex_a53_quad) is a device of its own" in n for n in apart.coverage.notes
    )
    with pytest.raises(UnsupportedError, match="one mapping"):
        evaluate(network, mapping="search")


def test_the_report_says_what_it_takes_of_the_board_and_has_no_area():
    b = Build(16)
    totals = evaluate(b.finish(b.conv(b.x, 16, name="one")), load_hardware("ultra96-codenet").spec).totals
    assert totals["area_mm2"] is None
    uses = totals["resources"]
    assert uses["board"].startswith("ultra96 (XCZU3EG")
    assert uses["dsp"] == 360 and uses["dsp_share"] == 1.0
    assert 0 < uses["bram36"] <= 216 and uses["bram36_share"] == round(uses["bram36"] / 216, 4)


@pytest.mark.full
@pytest.mark.parametrize(("name", "macs"), [("resnet18", 1.81e9), ("mobilenet-v2", 3.01e8)])
def test_known_networks_run_on_the_board(name, macs):
    import picojoule as pj

    report = pj.evaluate(pj.load(name), "ultra96-codenet")
    assert report.totals["macs"] == pytest.approx(macs, rel=0.01)
    on_engine = sum(row.macs for row in report.layers if row.unit == "engine")
    assert on_engine > 0.9 * report.totals["macs"]
    assert 0 < report.totals["host_latency_s"] < report.totals["accelerator_latency_s"]
