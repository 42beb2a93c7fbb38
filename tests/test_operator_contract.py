"""Every operator of the workload costs time and energy and moves its bytes, on every accelerator; or says why not.

A new operator needs an example here: one layer between the network's inputs and its outputs.
"""

import pytest

from picojoule.sim import attributes as at
from picojoule.sim.attributes import MAC_OPS, VIEW_OPS, Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.hardware import load_hardware, presets
from picojoule.sim.ir import TensorType
from picojoule.sim.passes import fill_formats, result_bytes
from picojoule.sim.weights import constant_fill

PRESETS = sorted(presets())
# These networks are shapes without weights, so ADCs that follow the weights get a number.
SHAPES_ONLY = {"isaac-differential-2b": {"adc_bits": 10}}
WINDOW = {"stride": (1, 1), "padding_begin": (1, 1), "padding_end": (1, 1), "dilation": (1, 1)}


def image(channels=4):
    return TensorType(shape=(1, channels, 8, 8), batch_axis=0)


def rows(*sizes):
    return TensorType(shape=(1, *sizes), batch_axis=0)


def weight(*shape):
    return parameter("w", constant_fill(0.5, shape))


EXAMPLES = {
    Op.CONV: (image(), [weight(6, 4, 3, 3)], at.ConvAttributes(**WINDOW), None),
    Op.LINEAR: (rows(5, 16), [weight(8, 16)], at.LinearAttributes(), None),
    Op.MATMUL: (rows(5, 16), [rows(16, 8)], at.MatmulAttributes(), None),
    Op.DEFORM_CONV: (image(), [weight(6, 4, 3, 3), image(18)], at.DeformConvAttributes(**WINDOW), None),
    Op.POOL: (image(), [], at.PoolAttributes(kind=at.PoolKind.MAX, kernel=(3, 3), **WINDOW), None),
    Op.NORM: (rows(5, 16), [weight(16), weight(16)], at.NormAttributes(kind=at.NormKind.LAYER), None),
    Op.ACTIVATION: (image(), [], at.ActivationAttributes(kind=at.ActivationKind.GELU), None),
    Op.SOFTMAX: (rows(5, 16), [], at.SoftmaxAttributes(axis=2), None),
    Op.ELEMENTWISE: (image(), [image()], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), None),
    Op.REDUCE: (image(), [], at.ReduceAttributes(kind=at.ReduceKind.MEAN, axes=(2, 3), keepdims=False), None),
    Op.CONCAT: (image(), [image()], at.ConcatAttributes(axis=1), None),
    Op.SPLIT: (image(), [], at.SplitAttributes(axis=1, sizes=(1, 3)), None),
    Op.SLICE: (image(), [], at.SliceAttributes(axes=(2,), starts=(0,), stops=(7,), steps=(1,)), None),
    Op.PAD: (image(), [], at.PadAttributes(begin=(0, 0, 1, 1), end=(0, 0, 1, 1)), None),
    Op.RESHAPE: (image(), [], at.ReshapeAttributes(), rows(256)),
    Op.TRANSPOSE: (image(), [], at.TransposeAttributes(permutation=(0, 2, 3, 1)), None),
    Op.EXPAND: (rows(4, 1, 1), [], at.ExpandAttributes(), image()),
    Op.RESIZE: (
        image(),
        [],
        at.ResizeAttributes(mode="linear"),
        TensorType(shape=(1, 4, 16, 16), batch_axis=0),
    ),
    Op.EMBEDDING: (rows(12), [], at.EmbeddingAttributes(), None),
    Op.RECURRENT: (
        TensorType(shape=(7, 1, 32), batch_axis=1),
        [weight(32, 8)],
        at.RecurrentAttributes(kind=at.RecurrentKind.LSTM, hidden=8),
        None,
    ),
    Op.QUANTIZE: (rows(64), [], at.QuantizeAttributes(kind=at.QuantizeKind.DYNAMIC, low=0, high=255), None),
    Op.GATHER: (rows(12), [rows(6)], at.GatherAttributes(kind=at.GatherKind.ELEMENTS, axis=1), None),
    Op.SCATTER: (rows(12), [rows(6), rows(6)], at.ScatterAttributes(kind=at.GatherKind.ELEMENTS, axis=1), None),
    Op.SORT: (rows(64), [], at.SortAttributes(axis=1, count=8), None),
    Op.CUMULATIVE: (rows(64), [], at.CumulativeAttributes(kind=at.CumulativeKind.SUM, axis=1), None),
    Op.GRID_SAMPLE: (image(), [rows(6, 6, 2)], at.GridSampleAttributes(), None),
}
"""Type of the first input, further operands (types are inputs too), attributes, and the result's type where it is free."""

FREE = [
    (Op.QUANTIZE, at.QuantizeAttributes(kind=kind, low=-127, high=127))
    for kind in at.QuantizeKind
    if kind is not at.QuantizeKind.DYNAMIC
]
SELECTIVE = (Op.EMBEDDING, Op.GATHER, Op.SCATTER, Op.SORT)
"""Operators that need not read all of their first operand, or write all of their result."""


def network_of(op, attributes=None, extra=None, *, between=False):
    """Return a network of one layer; `between` two others, so that the trip from and to the outside is not its own."""
    first, others, usual, result = EXAMPLES[op]
    others = others if extra is None else extra
    builder = NetworkBuilder(op.value)
    x = builder.input("x", first)
    if between:
        x = negated(builder, x, "before")
    operands = [x]
    if op is Op.EMBEDDING:
        operands = [weight(100, 16), x]
    operands += [builder.input("other", o) if isinstance(o, TensorType) else o for o in others]
    made = builder.add(op, operands, attributes or usual, name="layer", types=[result] if result else None)
    return builder.finish([negated(builder, made[0], "after")] if between else made)


def negated(builder, x, name):
    return builder.add(Op.ELEMENTWISE, [x], at.ElementwiseAttributes(kind=at.ElementwiseKind.NEG), name=name)[0]


def layer_and_cost(network, hardware, batch=1):
    """Return the layer in question with its formats, as the hardware holds it, and what it costs there."""
    accelerator = load_hardware(hardware, SHAPES_ONLY.get(hardware, {}))
    report = accelerator.evaluate(network, batch=batch, chips=None)
    (cost,) = (row for row in report.layers if row.name == "layer")
    spec = accelerator.spec
    native = getattr(accelerator, "native", None) or (spec.native_weight, spec.native_activation)
    filled, _ = fill_formats(network, *native)
    return next(layer for layer in filled.layers if layer.name == "layer"), cost


def test_every_operator_has_an_example():
    assert set(EXAMPLES) == set(Op) - {Op.OPAQUE}


@pytest.mark.parametrize("hardware", PRESETS)
@pytest.mark.parametrize("op", [op for op in EXAMPLES if op not in VIEW_OPS], ids=str)
def test_it_costs_time_and_energy_and_moves_its_bytes(op, hardware):
    layer, cost = layer_and_cost(network_of(op), hardware)
    assert cost.unit not in ("", "unsupported")
    assert cost.energy_pj > 0 and cost.latency_s > 0
    assert (cost.macs > 0) == (op in MAC_OPS)
    reads, writes = compulsory_elements(layer)
    assert level_total(cost.reads) >= reads
    assert level_total(cost.writes) >= writes
    if cost.dram_read_bytes + cost.dram_write_bytes:
        assert cost.dram_write_bytes >= sum(result_bytes(r, 1) for r in layer.results)
        if op not in SELECTIVE:
            assert cost.dram_read_bytes >= sum(result_bytes(o, 1) for o in layer.operands)


def compulsory_elements(layer):
    """Return the elements of activations that must be read and written; weights may stay where they are used."""
    if layer.op in SELECTIVE:
        moved = min(r.type.elements() for r in layer.results)
        return moved, moved
    return sum(o.type.elements() for o in layer.activations), sum(r.type.elements() for r in layer.results)


def level_total(counts):
    """Return the largest number of elements that any one memory (the word before the dot) moves."""
    totals = {}
    for name, count in counts.items():
        level = name.partition(".")[0]
        totals[level] = totals.get(level, 0) + count
    return max(totals.values(), default=0)


@pytest.mark.parametrize("hardware", PRESETS)
@pytest.mark.parametrize("op", sorted(VIEW_OPS), ids=str)
def test_views_are_free(op, hardware):
    _, cost = layer_and_cost(network_of(op, between=True), hardware)
    assert (cost.energy_pj, cost.latency_s, level_total(cost.reads), level_total(cost.writes)) == (0, 0, 0, 0)


@pytest.mark.parametrize("hardware", PRESETS)
@pytest.mark.parametrize(("op", "attributes"), FREE, ids=[a.kind.value for _, a in FREE])
def test_a_change_of_format_is_free_because_values_are_written_in_it(op, attributes, hardware):
    scale = constant("scale", constant_fill(0.1, ()).array())
    _, cost = layer_and_cost(network_of(op, attributes, [scale], between=True), hardware)
    assert (cost.energy_pj, cost.latency_s, cost.dram_read_bytes, cost.dram_write_bytes) == (0, 0, 0, 0)


@pytest.mark.parametrize("hardware", PRESETS)
def test_every_function_of_one_or_two_values_costs_and_moves(hardware):
    for kind in at.ActivationKind:
        attributes = at.ActivationAttributes(kind=kind, alpha=0.5, beta=1.0)
        layer, cost = layer_and_cost(network_of(Op.ACTIVATION, attributes), hardware)
        assert cost.energy_pj > 0 and cost.latency_s > 0, kind
        assert level_total(cost.reads) >= layer.operands[0].type.elements(), kind
    for kind in at.ElementwiseKind:
        extra = [image()] * (2 if kind is at.ElementwiseKind.WHERE else 1)
        attributes = at.ElementwiseAttributes(kind=kind)
        layer, cost = layer_and_cost(network_of(Op.ELEMENTWISE, attributes, extra), hardware)
        assert cost.energy_pj > 0 and cost.latency_s > 0, kind
        assert level_total(cost.reads) >= sum(o.type.elements() for o in layer.operands), kind
    for kind in at.ReduceKind:
        attributes = at.ReduceAttributes(kind=kind, axes=(1,), keepdims=False)
        layer, cost = layer_and_cost(network_of(Op.REDUCE, attributes), hardware)
        assert cost.energy_pj > 0 and cost.latency_s > 0, kind
        assert level_total(cost.reads) >= layer.operands[0].type.elements(), kind


@pytest.mark.parametrize("hardware", PRESETS)
def test_an_activation_behind_a_convolution_still_costs_its_operations(hardware):
    builder = NetworkBuilder("fused")
    x = builder.input("x", image())
    (y,) = builder.add(Op.CONV, [x, weight(6, 4, 3, 3)], at.ConvAttributes(**WINDOW), name="conv")
    relu = at.ActivationAttributes(kind=at.ActivationKind.RELU)
    network = builder.finish(builder.add(Op.ACTIVATION, [y], relu, name="relu"))
    conv, relu = load_hardware(hardware, SHAPES_ONLY.get(hardware, {})).evaluate(network, chips=None).layers
    assert conv.energy_pj > relu.energy_pj > 0
    assert relu.latency_s > 0 or relu.basis != "closed form"  # no time of its own: it says where it runs instead


@pytest.mark.parametrize("hardware", PRESETS)
def test_what_is_not_understood_costs_nothing_and_says_so(hardware):
    builder = NetworkBuilder("odd")
    x = builder.input("x", image())
    (y,) = builder.opaque("Frobnicate", [negated(builder, x, "before")], [image()], name="odd")
    network = builder.finish([negated(builder, y, "after")])
    report = load_hardware(hardware).evaluate(network, allow_unsupported=True)
    assert (report.layers[1].unit, report.layers[1].energy_pj, report.complete) == ("unsupported", 0, False)
    assert all(row["complete"] is False for row in report.layer_rows() + report.component_rows())
