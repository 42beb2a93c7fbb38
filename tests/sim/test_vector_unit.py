"""Work and price of layers that no array runs, counted by hand."""

import pytest

import picojoule as pj
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.evaluation import coverage_of
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.memory import weight_bytes
from picojoule.sim.passes import fill_formats
from picojoule.sim.technology import VectorOperation as Vo
from picojoule.sim.technology import constant as technology
from picojoule.sim.vector_unit import host_cost, lane_operations, operation_energy, vector_work
from picojoule.sim.weights import constant_fill

ELEMENTS = 6 * 10 * 10
NATIVE = load_hardware("edge-16x16").native


def layer_of(op, attributes, extra=(), types=None):
    builder = NetworkBuilder("one")
    x = builder.input("x", TensorType(shape=(1, 6, 10, 10), batch_axis=0))
    made = builder.add(op, [x, *extra], attributes, name="layer", types=types)
    network, _ = fill_formats(builder.finish(made), *NATIVE)
    return network.layers[0]


CASES = [
    (Op.ACTIVATION, at.ActivationAttributes(kind=at.ActivationKind.RELU), {Vo.COMPARE: ELEMENTS}),
    (Op.ACTIVATION, at.ActivationAttributes(kind=at.ActivationKind.SIGMOID), {Vo.TRANSCENDENTAL: ELEMENTS}),
    (
        Op.SOFTMAX,
        at.SoftmaxAttributes(axis=1),
        {Vo.COMPARE: ELEMENTS, Vo.ADD: 2 * ELEMENTS, Vo.TRANSCENDENTAL: ELEMENTS, Vo.MULTIPLY: ELEMENTS},
    ),
    (
        Op.POOL,
        at.PoolAttributes(
            kind=at.PoolKind.MAX,
            kernel=(3, 3),
            stride=(2, 2),
            padding_begin=(0, 0),
            padding_end=(0, 0),
            dilation=(1, 1),
        ),
        {Vo.COMPARE: 9 * 6 * 4 * 4},
    ),
    (Op.REDUCE, at.ReduceAttributes(kind=at.ReduceKind.MEAN, axes=(2, 3), keepdims=False), {Vo.ADD: ELEMENTS}),
    (Op.TRANSPOSE, at.TransposeAttributes(permutation=(0, 2, 3, 1)), {}),
]


@pytest.mark.parametrize(
    ("op", "attributes", "expected"), CASES, ids=[c[0].value + str(i) for i, c in enumerate(CASES)]
)
def test_operations_by_hand(op, attributes, expected):
    work = vector_work(layer_of(op, attributes), 1)
    assert work.operations == expected
    assert work.read_bytes == ELEMENTS
    assert work.write_bytes == work.write_elements > 0
    doubled = vector_work(layer_of(op, attributes), 2)
    assert doubled.operations == {k: 2 * v for k, v in expected.items()}


def work_of(op, attributes, *operands, types=None):
    """Return the work of a layer (formats int8) whose operands are inputs of the given shapes."""
    builder = NetworkBuilder("one")
    inputs = [builder.input(f"x{i}", TensorType(shape=shape)) for i, shape in enumerate(operands)]
    made = builder.add(op, inputs, attributes, name="layer", types=types)
    network, _ = fill_formats(builder.finish(made), *NATIVE)
    return vector_work(network.layers[0], 1)


def test_sorting_compares_n_log_n_and_selecting_n_log_k():
    for count, comparisons in ((1, 1), (2, 1), (5, 3), (100, 7)):  # ceil(log2 k), at least one
        work = work_of(Op.SORT, at.SortAttributes(axis=1, count=count), (4, 100))
        assert work.operations == {Vo.COMPARE: 400 * comparisons}
        assert (work.read_elements, work.write_elements) == (400, 2 * 4 * count)  # values and indices


def test_gathers_read_what_they_return_and_scatters_everything():
    gather = work_of(Op.GATHER, at.GatherAttributes(kind=at.GatherKind.ND), (1000, 16), (7, 1))
    assert (gather.read_elements, gather.write_elements, gather.operations) == (7 + 7 * 16, 7 * 16, {})
    for reduction, operations in (("none", {}), ("add", {Vo.ADD: 7 * 16}), ("max", {Vo.COMPARE: 7 * 16})):
        attributes = at.ScatterAttributes(kind=at.GatherKind.ND, reduction=reduction)
        scatter = work_of(Op.SCATTER, attributes, (1000, 16), (7, 1), (7, 16))
        assert scatter.operations == operations
        assert (scatter.read_elements, scatter.write_elements) == (1000 * 16 + 7 + 7 * 16, 1000 * 16)


def test_running_totals_take_one_operation_an_element():
    for kind, operation in ((at.CumulativeKind.SUM, Vo.ADD), (at.CumulativeKind.PROD, Vo.MULTIPLY)):
        assert work_of(Op.CUMULATIVE, at.CumulativeAttributes(kind=kind, axis=0), (3, 5)).operations == {operation: 15}


@pytest.mark.parametrize(
    ("mode", "taps", "weights"),
    [("nearest", 1, 0), ("linear", 4, 4), ("cubic", 16, 16)],
    ids=["nearest", "linear", "cubic"],
)
def test_grid_samples_read_their_neighbours_and_weigh_them(mode, taps, weights):
    places, results = 5 * 7, 3 * 5 * 7
    work = work_of(Op.GRID_SAMPLE, at.GridSampleAttributes(mode=mode), (1, 3, 20, 30), (1, 5, 7, 2))
    assert work.read_elements == 2 * places + taps * results
    curves = 2 * places * 12 if mode == "cubic" else 0  # four polynomials of three multiply-adds per coordinate
    blend = taps * results if taps > 1 else 0
    assert work.operations == {
        Vo.MULTIPLY: 2 * places + curves + weights * places + blend,
        Vo.ADD: 3 * 2 * places + curves + (taps - 1) * results,
        Vo.COMPARE: 2 * 2 * places,
    }


def test_resizing_by_hand():
    target = [TensorType(shape=(1, 2, 6, 8))]
    for mode, multiplies, adds in (("nearest", 0, 0), ("linear", 3, 3), ("cubic", 16, 15)):
        work = work_of(Op.RESIZE, at.ResizeAttributes(mode=mode), (1, 2, 3, 4), types=target)
        assert work.operations == {o: n * 96 for o, n in ((Vo.MULTIPLY, multiplies), (Vo.ADD, adds)) if n}
    one_axis = work_of(Op.RESIZE, at.ResizeAttributes(mode="cubic"), (1, 2, 3, 8), types=target)
    assert one_axis.operations == {Vo.MULTIPLY: 4 * 96, Vo.ADD: 3 * 96}


@pytest.mark.parametrize(
    ("kind", "operation"),
    [("mean", Vo.ADD), ("sum", Vo.ADD), ("prod", Vo.MULTIPLY), ("max", Vo.COMPARE), ("argmax", Vo.COMPARE)],
)
def test_reductions_take_one_operation_an_operand_element(kind, operation):
    attributes = at.ReduceAttributes(kind=at.ReduceKind(kind), axes=(1,), keepdims=False)
    assert work_of(Op.REDUCE, attributes, (4, 100)).operations == {operation: 400}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (at.RecurrentKind.LSTM, {Vo.ADD: 5, Vo.MULTIPLY: 3, Vo.TRANSCENDENTAL: 5}),
        (at.RecurrentKind.GRU, {Vo.ADD: 5, Vo.MULTIPLY: 2, Vo.TRANSCENDENTAL: 3}),
        (at.RecurrentKind.RNN_TANH, {Vo.ADD: 1, Vo.TRANSCENDENTAL: 1}),
        (at.RecurrentKind.RNN_RELU, {Vo.ADD: 1, Vo.COMPARE: 1}),
    ],
    ids=str,
)
def test_cells_by_their_equations(kind, expected):
    attributes = at.RecurrentAttributes(kind=kind, hidden=6)
    work = work_of(Op.RECURRENT, attributes, (3, 2, 6 * at.GATES[kind]), (6 * at.GATES[kind], 6))
    assert work.operations == {o: n * 3 * 2 * 6 for o, n in expected.items()}


def test_a_transcendental_is_six_multiply_adds_in_time_and_energy():
    work = vector_work(layer_of(Op.ACTIVATION, at.ActivationAttributes(kind=at.ActivationKind.TANH)), 1)
    assert lane_operations(work) == 6 * ELEMENTS
    # 16 bits at 45 nm: a multiplication 0.2 (16 x 16 / 64)^0.9886 pJ and an addition to 32 bits 0.1 pJ.
    one = 0.2 * (16 * 16 / 64) ** 0.98861 + 0.1
    assert sum(line.pj for line in operation_energy("vector", work, 16, 45.0)) == pytest.approx(
        6 * ELEMENTS * one, rel=1e-3
    )


def test_a_view_moves_nothing_and_a_gather_reads_what_it_returns():
    view = vector_work(
        layer_of(Op.RESHAPE, at.ReshapeAttributes(), types=[TensorType(shape=(1, 600), batch_axis=0)]), 1
    )
    assert (view.read_bytes, view.write_bytes, view.operations) == (0, 0, {})
    builder = NetworkBuilder("embedding")
    words = builder.input("words", TensorType(shape=(1, 12), batch_axis=0))
    table = parameter("table", constant_fill(0.5, (30000, 64)))
    (y,) = builder.add(Op.EMBEDDING, [table, words], at.EmbeddingAttributes(), name="embed")
    network, _ = fill_formats(builder.finish([y]), *NATIVE)
    work = vector_work(network.layers[0], 1)
    assert work.read_bytes == 12 + 12 * 64
    assert work.write_bytes == 12 * 64
    assert weight_bytes(network) == 30000 * 64


def deformable(channels, filters, *, size=32, groups=1, mask=False, taps=9, **window):
    """Return a deformable convolution, formats int8, with windows of stride 1 that keep the map's size."""
    given = {"stride": (1, 1), "padding_begin": (1, 1), "padding_end": (1, 1), "dilation": (1, 1)} | window
    attributes = at.DeformConvAttributes(groups=groups, has_mask=mask, **given)
    builder = NetworkBuilder("deform")
    x = builder.input("x", TensorType(shape=(1, channels, size, size), batch_axis=0))
    out = size // attributes.stride[0]
    moving = {"offset": 2 * taps * attributes.offset_groups} | (
        {"mask": taps * attributes.offset_groups} if mask else {}
    )
    moves = [builder.input(n, TensorType(shape=(1, c, out, out), batch_axis=0)) for n, c in moving.items()]
    weight = parameter("w", constant_fill(1.0, (filters, channels // groups, 3, 3)))
    made = builder.add(Op.DEFORM_CONV, [x, weight, *moves], attributes, name="deform")
    return fill_formats(builder.finish(made), *NATIVE)[0].layers[0]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize(("stride", "offset_groups", "groups"), [(1, 1, 1), (1, 1, 6), (2, 3, 2)])
def test_deformable_convolutions_interpolate(mask, stride, offset_groups, groups):
    """Four pixels a sample, of which there is one per input channel, tap and output pixel, whatever the filters are."""
    layer = deformable(6, 12, size=10, groups=groups, mask=mask, stride=(stride, stride), offset_groups=offset_groups)
    pixels = 3 * (10 // stride) ** 2  # of three images
    samples, places = 6 * 9 * pixels, offset_groups * 9 * pixels
    work = vector_work(layer, 3)
    assert work.operations == {
        Vo.MULTIPLY: 4 * places + (5 if mask else 4) * samples,
        Vo.ADD: 3 * 2 * places + 3 * samples,
        Vo.COMPARE: 2 * 2 * places,
    }
    filters = 12 * 6 // groups * 9
    assert work.read_elements == 4 * samples + filters + (3 if mask else 2) * places
    assert work.write_elements == 12 * pixels


def test_a_deformable_layer_samples_at_the_price_of_a_grid_sample():
    """Depthwise, so that its own multiply-accumulates are next to nothing; a grid's coordinates are scaled to pixels too."""
    deform = host_cost(deformable(32, 32, size=40, groups=32), 1)
    builder = NetworkBuilder("grid")
    x = builder.input("x", TensorType(shape=(1, 32, 40, 40)))
    grid = builder.input("grid", TensorType(shape=(1, 40 * 9, 40, 2)))
    made = builder.add(Op.GRID_SAMPLE, [x, grid], at.GridSampleAttributes(mode="linear"), name="grid")
    sampled = host_cost(fill_formats(builder.finish(made), *NATIVE)[0].layers[0], 1)
    own, scaling = 2 * 32 * 9 * 1600 / 20e9, 2 * 9 * 1600 / technology("host.cortex_a53_quad.elementwise").value / 1e9
    assert deform.seconds == pytest.approx(sampled.seconds + own - scaling)
    assert sampled.seconds > 30 * own


def test_the_host_by_hand():
    cost = host_cost(deformable(64, 64), 1)
    macs, samples, places = 32 * 32 * 64 * 64 * 9, 32 * 32 * 64 * 9, 32 * 32 * 9
    seconds = 2 * macs / 20e9 + (7 * samples + 14 * places) / 2e9  # 20 int8 GOP/s, 2 G lane operations a second
    assert cost.seconds == pytest.approx(seconds)  # longer than reading four bytes a sample: 2.4 MB
    assert sum(line.pj for line in cost.energy) == pytest.approx(1.5 * seconds * 1e12)  # 1.5 W
    assert technology("host.cortex_a53_quad.power").value == 1500.0


def test_coverage_counts_the_bytes_of_what_is_not_understood():
    builder = NetworkBuilder("odd")
    x = builder.input("x", TensorType(shape=(1, 4, 10), batch_axis=0))
    (y,) = builder.opaque("Foo", [x], [TensorType(shape=(1, 4, 10), batch_axis=0)], name="foo")
    (z,) = builder.add(Op.ELEMENTWISE, [y, constant("two", constant_fill(2.0, ()).array())],
                       at.ElementwiseAttributes(kind=at.ElementwiseKind.MUL), name="double")  # fmt: skip
    network = builder.finish([z])
    found = coverage_of(network)
    moved = 80 + 81  # elements of 32 bits: in and out of each layer, and the constant
    assert found.bytes_priced == pytest.approx(1 - 80 / moved)
    assert found.macs_priced == 0.0
    assert found.unsupported[0]["bytes_share"] == pytest.approx(80 / moved)
    report = pj.evaluate(network, "edge-16x16", allow_unsupported=True)
    assert [layer.unit for layer in report.layers] == ["unsupported", "vector"]
