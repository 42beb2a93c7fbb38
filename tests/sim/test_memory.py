"""Memory of a network: against a simulation that counts references, and nets small enough to count by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from picojoule.sim import attributes as at
from picojoule.sim.attributes import VIEW_OPS, Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.formats import Sparsity, Structure, integer_format
from picojoule.sim.ir import Network, OperandKind, TensorType
from picojoule.sim.memory import in_place_layers, memory_of, peak_activation_bytes, weight_bytes
from picojoule.sim.passes import result_bytes
from picojoule.sim.weights import constant_fill, from_array

RELU = at.ActivationAttributes(kind=at.ActivationKind.RELU)
NEG = at.ElementwiseAttributes(kind=at.ElementwiseKind.NEG)
ADD = at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD)
UNIT = 4 * 10  # bytes of the value [1, 10] without a format


def vector(size=10):
    return TensorType(shape=(1, size), batch_axis=0)


class Builder(NetworkBuilder):
    """Short words for the layers of these tests."""

    def __init__(self):
        super().__init__("net")
        self.count = 0

    def _add(self, op, operands, attributes, types=None):
        self.count += 1
        return self.add(op, operands, attributes, name=f"l{self.count}", types=types)[0]

    def neg(self, x):
        return self._add(Op.ELEMENTWISE, [x], NEG)

    def sum(self, a, b):
        return self._add(Op.ELEMENTWISE, [a, b], ADD)

    def relu(self, x):
        return self._add(Op.ACTIVATION, [x], RELU)

    def cat(self, *parts):
        return self._add(Op.CONCAT, list(parts), at.ConcatAttributes(axis=1))

    def half(self, x):
        attributes = at.SliceAttributes(axes=(1,), starts=(0,), stops=(max(1, x.shape[1] // 2),), steps=(1,))
        return self._add(Op.SLICE, [x], attributes)

    def view(self, x):
        kind = TensorType(shape=(1, x.type.elements()), batch_axis=0)
        return self._add(Op.RESHAPE, [x], at.ReshapeAttributes(), types=[kind])


# --- counted by hand -------------------------------------------------------------------------------------------------


def test_a_chain_holds_two_values_and_activations_are_free():
    b = Builder()
    x = b.input("x", vector())
    network = b.finish([b.relu(b.neg(b.relu(b.neg(x))))])
    assert peak_activation_bytes(network) == 2 * UNIT
    assert peak_activation_bytes(network, 7) == 2 * 7 * UNIT
    assert in_place_layers(network) == {"l2", "l4"}


def test_a_residual_block_holds_its_shortcut():
    b = Builder()
    x = b.input("x", vector())
    branch = b.relu(b.neg(x))
    network = b.finish([b.relu(b.sum(b.neg(branch), x))])
    # l3 reads the branch and writes, the addition reads two and writes one: three values with the shortcut both times.
    assert memory_of(network).peak_activation_bytes == 3 * UNIT
    assert memory_of(network).peak_layer == "l3"


def test_a_concat_holds_its_parts_and_its_result():
    b = Builder()
    x = b.input("x", vector())
    joined = b.cat(b.neg(x), b.neg(x), b.neg(x))
    network = b.finish([b.half(joined)])
    assert peak_activation_bytes(network) == (3 + 3) * UNIT  # x is dead by then
    assert memory_of(network).peak_layer == "l4"


def test_outputs_live_to_the_end_and_inputs_until_they_are_read():
    b = Builder()
    x, late, unread = (b.input(name, vector()) for name in ("x", "late", "unread"))
    first = b.neg(x)
    second = b.neg(first)
    network = b.finish([first, b.sum(second, late)])
    assert unread.name in {r.name for r in network.inputs}
    # At l1: three inputs and the result. At l2: late, first, second. At l3: first (an output), second, late, the sum.
    assert peak_activation_bytes(network) == 4 * UNIT
    only_last = replace(network, inputs=network.inputs[:2], outputs=network.outputs[1:])
    assert peak_activation_bytes(only_last) == 3 * UNIT
    assert peak_activation_bytes(replace(only_last, outputs=network.outputs)) == 4 * UNIT


def test_an_activation_does_not_overwrite_what_a_view_or_another_layer_still_reads():
    b = Builder()
    made = b.neg(b.input("x", vector()))
    seen = b.view(made)
    alone = b.relu(seen)
    network = b.finish([alone])
    assert peak_activation_bytes(network) == 2 * UNIT  # x and its negation; the view and the activation are in there
    b = Builder()
    made = b.neg(b.input("x", vector()))
    seen = b.view(made)
    shared = b.finish([b.sum(b.relu(seen), made)])  # the activation needs room: what it views is read again
    assert in_place_layers(shared) == {"l2"}
    assert peak_activation_bytes(shared) == 3 * UNIT


def test_an_output_is_not_overwritten():
    b = Builder()
    made = b.neg(b.input("x", vector()))
    view = b.view(made)
    positive = b.relu(view)
    assert peak_activation_bytes(b.finish([positive])) == 2 * UNIT
    assert peak_activation_bytes(b.finish([positive, view])) == 2 * UNIT  # x is gone when the activation runs
    assert in_place_layers(b.finish([positive, view])) == {"l2"}


def test_a_view_in_another_format_is_a_copy():
    b = Builder()
    made = b.neg(b.input("x", vector()))
    b.view(made)
    network = b.finish([b.neg(made)])
    assert peak_activation_bytes(network) == 2 * UNIT
    view = network.layers[1]
    narrow = replace(view, results=(replace(view.results[0], format=integer_format(8)),))
    network = network.with_layers((network.layers[0], narrow, network.layers[2]))
    assert "l2" not in in_place_layers(network)
    network = replace(network, outputs=(*network.outputs, view.results[0].name))
    assert peak_activation_bytes(network) == 2 * UNIT + UNIT // 4


def test_a_change_of_format_takes_over_its_operand():
    b = Builder()
    x = b.neg(b.input("x", vector()))
    scale = constant("scale", constant_fill(0.1, ()).array())
    attributes = at.QuantizeAttributes(kind=at.QuantizeKind.QUANTIZE, low=-127, high=127)
    (codes,) = b.add(Op.QUANTIZE, [x, scale], attributes, name="quantize", formats=[integer_format(8)])
    network = b.finish([codes])
    assert in_place_layers(network) == {"quantize"}
    assert peak_activation_bytes(network) == 2 * UNIT


def test_a_recurrent_layer_is_a_layer_like_any_other():
    b = NetworkBuilder("lstm")
    x = b.input("x", TensorType(shape=(7, 1, 4), batch_axis=1))
    (gates,) = b.add(Op.LINEAR, [x, parameter("w", constant_fill(0.5, (32, 4)))], at.LinearAttributes(), name="gates")
    recurrent = parameter("r", constant_fill(0.5, (32, 8)))
    cell = at.RecurrentAttributes(kind=at.RecurrentKind.LSTM, hidden=8)
    made = b.add(Op.RECURRENT, [gates, recurrent], cell, name="lstm")
    memory = memory_of(b.finish(made), 3)
    assert memory.peak_activation_bytes == 3 * 4 * (7 * 32 + 7 * 8 + 8 + 8)  # gates, every y, the last h and c
    assert memory.peak_layer == "lstm"
    assert memory.working_memory_input_weight_elements == 3 * 7 * 32 + 32 * 8  # the states inside it are not counted
    assert memory.model_size_nonzeros == 32 * 4 + 32 * 8


def test_layers_that_share_nothing_are_taken_one_by_one(tmp_path):
    from picojoule.sim.evaluation import coverage_of
    from picojoule.sim.importers.scalesim_csv import load_csv

    (tmp_path / "two.csv").write_text("small, 4, 4, 3, 3, 1, 2, 1\nlarge, 8, 8, 3, 3, 2, 4, 1\n")
    network = load_csv(tmp_path / "two.csv")
    memory = memory_of(network)
    assert memory.peak_activation_bytes == 4 * (2 * 8 * 8 + 4 * 6 * 6)
    assert memory.peak_layer == "large"
    assert coverage_of(network).notes == (
        "no two layers share a value, so the peak of activations is that of the largest layer alone",
    )


# --- against a simulation by reference counts ----------------------------------------------------------------------------


def simulated_peak(network: Network, batch: int) -> int:
    """Run the schedule with reference counts: memory is blocks, a block is freed when the last name on it is dropped."""
    readers = dict.fromkeys(network.values(), 0)
    for layer in network.layers:
        for operand in layer.operands:
            if operand.kind is OperandKind.ACTIVATION:
                readers[operand.name] += 1
    for name in network.outputs:
        readers[name] += 1  # the caller reads it, after the end
    block_of = {
        r.name: [result_bytes(r, batch)] for r in network.inputs
    }  # a block is [bytes]; views hold the same list

    def used():
        return sum(block[0] for block in {id(b): b for b in block_of.values()}.values())

    peak = used()
    for layer in network.layers:
        names = [o.name for o in layer.operands if o.kind is OperandKind.ACTIVATION]
        for name in names:
            readers[name] -= 1
        (result,) = layer.results
        size = result_bytes(result, batch)
        mine = block_of[names[0]]
        holders = [n for n, block in block_of.items() if block is mine and readers[n] > 0]
        if layer.op in VIEW_OPS and mine[0] == size:
            block_of[result.name] = mine
        else:
            if (layer.op is Op.ACTIVATION or layer.op in VIEW_OPS) and not holders:
                block_of = {n: block for n, block in block_of.items() if block is not mine}
            block_of[result.name] = [size]
        peak = max(peak, used())
        block_of = {n: block for n, block in block_of.items() if readers[n] > 0}
    return peak


@st.composite
def random_networks(draw):
    """Networks of up to 14 layers over earlier values: branches, joins, views of views, activations, dead ends."""
    b = Builder()
    values = [b.input(f"in{i}", vector(draw(st.integers(1, 6)))) for i in range(draw(st.integers(1, 3)))]
    for _ in range(draw(st.integers(1, 14))):
        x = draw(st.sampled_from(values))
        what = draw(st.sampled_from(["neg", "relu", "relu", "view", "view", "half", "cat", "sum", "square"]))
        match what:
            case "cat":
                made = b.cat(x, draw(st.sampled_from(values)))
            case "sum":
                made = b.sum(x, draw(st.sampled_from([v for v in values if v.shape == x.shape])))
            case "square":
                made = b.sum(x, x)
            case _:
                made = getattr(b, what)(x)
        values.append(made)
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique_by=lambda v: v.name))
    network = b.finish(outputs)
    widths = {
        name: draw(st.sampled_from([None, None, 8, 4])) for name in network.values() if draw(st.integers(0, 3)) == 0
    }
    return formatted(network, {n: integer_format(bits) for n, bits in widths.items() if bits})


def formatted(network, formats):
    """Return the network with formats on some values, wherever they are named."""
    layers = tuple(
        replace(
            layer,
            operands=tuple(replace(o, format=formats.get(o.name)) for o in layer.operands),
            results=tuple(replace(r, format=formats.get(r.name)) for r in layer.results),
        )
        for layer in network.layers
    )
    inputs = tuple(replace(r, format=formats.get(r.name)) for r in network.inputs)
    return replace(network, inputs=inputs, layers=layers)


def unconnected(network):
    made = {r.name for layer in network.layers for r in layer.results}
    read = [name for layer in network.layers for name in {o.name for o in layer.activations}]
    return len(network.layers) > 1 and not made & set(read) and len(read) == len(set(read))


@given(random_networks(), st.integers(1, 3))
def test_the_peak_is_that_of_a_simulation(network, batch):
    if not unconnected(network):
        assert peak_activation_bytes(network, batch) == simulated_peak(network, batch)


@given(random_networks())
def test_the_peak_is_at_least_the_largest_layer_and_at_most_everything(network):
    sizes = {name: result_bytes(r, 1) for name, r in network.values().items()}
    memory = memory_of(network)
    own = [layer for layer in network.layers if layer.name not in in_place_layers(network)]
    # A layer's operands (through views: once each block) and results are alive together.
    largest = max((max(sizes[r.name] for r in layer.results) for layer in own), default=0)
    assert largest <= memory.peak_activation_bytes <= sum(sizes.values())
    assert memory.peak_layer in {layer.name for layer in network.layers}


# --- weights, and SpArSe's formulas ------------------------------------------------------------------------------------


def two_convolutions():
    """x [1, 2, 6, 6] -> conv 3x3 to 4 channels (half of its weights zero, int4) -> ReLU -> conv 1x1 to 8 channels."""
    b = NetworkBuilder("convs")
    x = b.input("x", TensorType(shape=(1, 2, 6, 6), batch_axis=0))
    values = constant_fill(1.0, (4, 2, 3, 3)).array().copy()
    values[:, :, :, 0] = 0.0
    half = replace(
        parameter("w1", from_array(values)), format=integer_format(4),
        sparsity=Sparsity(structure=Structure.UNSTRUCTURED, density=48 / 72),
    )  # fmt: skip
    plain = parameter("w2", constant_fill(1.0, (8, 4, 1, 1)))
    bias = parameter("b2", constant_fill(1.0, (8,)))
    window = {"stride": (1, 1), "padding_begin": (0, 0), "padding_end": (0, 0), "dilation": (1, 1)}
    (y,) = b.add(Op.CONV, [x, half], at.ConvAttributes(**window), name="conv1")
    (y,) = b.add(Op.ACTIVATION, [y], RELU, name="relu")
    (y,) = b.add(Op.CONV, [y, plain, bias], at.ConvAttributes(**window), name="conv2")
    return b.finish([y])


def test_sparses_formulas_by_hand():
    memory = memory_of(two_convolutions())
    x, y, z = 2 * 36, 4 * 16, 8 * 16
    assert memory.model_size_nonzeros == 48 + 32 + 8
    assert memory.working_memory_input_weight_elements == max(x + 48, y + 40) == 120
    assert memory.working_memory_input_weight_bytes == max(4 * x + 48 // 2, 4 * y + 4 * 40) == 416
    assert memory.working_memory_input_output_elements == max(x + y, y + z) == 192
    assert memory.working_memory_input_output_bytes == 4 * 192
    assert memory.weight_bytes_dense == weight_bytes(two_convolutions()) == 72 // 2 + 4 * 40
    assert memory.weight_bytes_nonzero == 48 // 2 + 4 * 40
    assert memory.peak_activation_bytes == 4 * (y + z)
    assert memory.peak_layer == "conv2"
    eight = memory_of(two_convolutions(), 8)
    assert eight.working_memory_input_weight_elements == max(8 * x + 48, 8 * y + 40) == 624
    assert eight.weight_bytes_dense == memory.weight_bytes_dense


def test_shared_weights_count_once_and_constants_apart():
    b = NetworkBuilder("shared")
    x = b.input("x", vector(8))
    shared = parameter("w", constant_fill(0.5, (8, 8)))
    (y,) = b.add(Op.LINEAR, [x, shared], at.LinearAttributes(), name="one")
    (y,) = b.add(Op.LINEAR, [y, shared], at.LinearAttributes(), name="two")
    (y,) = b.add(Op.ELEMENTWISE, [y, constant("table", constant_fill(2.0, (1, 8)).array())], ADD, name="shift")
    memory = memory_of(b.finish([y]))
    assert memory.weight_bytes_dense == memory.weight_bytes_nonzero == 4 * 64
    assert memory.model_size_nonzeros == 64
    assert memory.constant_bytes == 4 * 8


@pytest.mark.parametrize("hardware", ["edge-16x16", "isaac"])
def test_a_report_holds_it_at_the_hardwares_formats(hardware):
    import json

    import picojoule as pj

    document = json.loads(pj.evaluate(two_convolutions(), hardware, batch=3).to_json())
    memory, totals = document["memory"], document["totals"]
    assert memory["peak_activation_bytes"] == totals["peak_activation_bytes"]
    assert memory["weight_bytes_dense"] == totals["weight_bytes"]
    width = {"edge-16x16": 1, "isaac": 2}[hardware]
    assert memory["peak_activation_bytes"] == 3 * width * 12 * 16
    assert (
        memory["weight_bytes_nonzero"] == 48 // 2 + 32 * width + 8 * 4
    )  # int4, native, biases as wide as accumulators
    assert list(memory) == [
        "peak_activation_bytes", "peak_layer", "working_memory_input_weight_bytes",
        "working_memory_input_weight_elements", "working_memory_input_output_bytes",
        "working_memory_input_output_elements", "model_size_nonzeros", "weight_bytes_dense", "weight_bytes_nonzero",
        "constant_bytes",
    ]  # fmt: skip
