from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.compression_state import find_compression, weight_state
from picojoule.sim.formats import DENSE, Granularity, Sparsity, Structure, parse_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Layer, Network, Operand, OperandKind, TensorType
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.weights import constant_fill, from_array

Floats = NDArray[np.float32]


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def quantized(values: Floats, bits: int, axis: int | None = None) -> Floats:
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    step = np.abs(values).max(axis=others, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    return np.asarray(np.rint(values / step) * step, dtype=np.float32)


def two_of_four(values: Floats) -> Floats:
    groups = np.abs(values.reshape(values.shape[0], -1, 4, *values.shape[2:]))
    kept = groups.argsort(axis=2).argsort(axis=2) >= 2
    return np.asarray(values * kept.reshape(values.shape))


CONV = at.ConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))


def network(weight: Floats | Operand, *, norm: bool = False) -> Network:
    """One convolution of 16 channels, perhaps with a batch norm."""
    build = NetworkBuilder("net")
    x = build.input("x", TensorType(shape=(1, 16, 8, 8), batch_axis=0))
    filters = weight if isinstance(weight, Operand) else parameter("conv.weight", from_array(weight))
    (y,) = build.add(Op.CONV, [x, filters], CONV, name="conv")
    if norm:
        channels = filters.shape[0]
        values = [np.abs(normal(channels, seed=i)) + np.float32(0.1) for i in range(4)]
        values[0][::3] *= -1
        kinds = ("scale", "shift", "mean", "variance")
        held = [parameter(f"norm.{k}", from_array(v)) for k, v in zip(kinds, values, strict=True)]
        (y,) = build.add(Op.NORM, [y, *held], at.NormAttributes(kind=at.NormKind.BATCH), name="norm")
    return build.finish([y])


def weight_of(made: Network, layer: int = 0, position: int = 1) -> Operand:
    return made.layers[layer].operands[position]


# --- one tensor -------------------------------------------------------------------------------------------------------


def test_a_state_says_all_of_it() -> None:
    state = weight_state(two_of_four(quantized(normal(32, 64, 3, 3), 4)))
    assert str(state.format) == "int4"
    assert state.runnable == state.integer == state.format
    assert str(state.sparsity) == "2:4"
    assert 0.4 < state.density < 0.5
    assert (state.elements, state.distinct, state.finite) == (32 * 64 * 9, 15, True)
    assert state.evidence == "int4 per tensor, 15 codes used"


@pytest.mark.parametrize("shape", [(), (1,), (64,), (0, 3), (1, 1), (3, 1), (1, 3), (2, 2, 1, 1)])
def test_small_tensors_show_nothing(shape: tuple[int, ...]) -> None:
    state = weight_state(np.ones(shape, dtype=np.float32))
    assert (state.format, state.integer, state.step, state.sparsity) == (None, None, None, DENSE)


def test_values_that_are_not_finite_have_no_format() -> None:
    values = quantized(normal(16, 16), 4)
    values[3, 3] = np.nan
    state = weight_state(values)
    assert (state.finite, state.format, state.evidence) == (False, None, "NaN or infinite values")
    values[3, 3] = 3e38
    values[3, 4] = 3e38  # their sum overflows, but both are finite
    assert weight_state(values).finite


def test_flat_tensors_have_a_density() -> None:
    assert weight_state(np.array([0.0, 1.0, 2.0, 0.0])).sparsity == Sparsity(
        structure=Structure.UNSTRUCTURED, density=0.5
    )


def test_text_is_not_looked_into() -> None:
    assert weight_state(np.array(["a", "b"])).evidence == "<U1 is not looked into"


# --- a network --------------------------------------------------------------------------------------------------------


def test_formats_steps_and_zeros_are_set_and_noted() -> None:
    values = two_of_four(quantized(normal(32, 16, 3, 3), 4, axis=0))
    found = find_compression(network(values))
    weight = weight_of(found)
    assert weight.format == parse_format("int4", per="channel")
    assert weight.step is not None and len(weight.step) == 32
    assert (weight.sparsity.n, weight.sparsity.m) == (2, 4)
    assert found.notes == (
        "weights found quantised, from their values: int4 per channel in 1 layer",
        f"zero weights found in 1 layer, which keep {weight.sparsity.density:.0%} of their weights: 2:4 in 1 layer",
    )
    assert find_compression(found) == found  # looking again finds nothing to add


def test_trained_weights_stay_as_they_are() -> None:
    plain = network(normal(32, 16, 3, 3))
    assert find_compression(plain) == plain


def test_what_is_set_already_stays() -> None:
    values = two_of_four(quantized(normal(32, 16, 3, 3), 4))
    sparsity = Sparsity(structure=Structure.UNSTRUCTURED, density=0.9)
    stated = replace(parameter("w", from_array(values)), format=parse_format("int8"), step=(0.5,), sparsity=sparsity)
    assert find_compression(network(stated)) == network(stated)


def test_absent_weights_are_not_looked_at() -> None:
    filled = network(parameter("w", constant_fill(0.0, (32, 16, 3, 3))))
    assert find_compression(filled) == filled
    meta = network(Operand(kind=OperandKind.PARAMETER, name="w", type=TensorType(shape=(32, 16, 3, 3))))
    assert find_compression(meta) == meta


@pytest.mark.parametrize("axis", [None, 0])
def test_a_folded_batch_norm_keeps_the_codes(axis: int | None) -> None:
    values = quantized(normal(32, 16, 3, 3), 4, axis)
    found = find_compression(network(values, norm=True))
    before, after = weight_of(found), weight_of(fold_batch_norm(found))
    assert before.step is not None and len(before.step) == (1 if axis is None else 32)
    assert after.format == parse_format("int4", per="channel")

    def codes(operand: Operand) -> NDArray[np.float64]:
        assert operand.weights is not None
        return operand.weights.array().astype(np.float64) / np.array(operand.step).reshape(-1, 1, 1, 1)

    np.testing.assert_allclose(np.abs(codes(after)), np.abs(np.rint(codes(before))), atol=1e-5)


def test_codes_without_a_sign_get_one_where_a_batch_norm_turns_it() -> None:
    found = find_compression(network(np.abs(quantized(normal(32, 16, 3, 3), 5)), norm=True))
    assert str(weight_of(found).format) == "uint4"
    assert str(weight_of(fold_batch_norm(found)).format) == "int5"  # a third of the gains are negative


def test_formats_that_few_designs_run_are_a_note_only() -> None:
    book = normal(5, seed=3)
    cases = {
        "codebooks of up to 8 values in 1 layer": book[np.abs(normal(32, 16, 3, 3)[..., None] - book).argmin(axis=-1)],
        "fp16 in 1 layer": normal(32, 16, 3, 3).astype(np.float16).astype(np.float32),
        "int12 in 1 layer": quantized(normal(32, 16, 3, 3), 12),
    }
    for text, values in cases.items():
        found = find_compression(network(values))
        assert (weight_of(found).format, weight_of(found).step) == (None, None)
        assert found.notes == (f"weights found in formats that integer hardware does not multiply: {text}",)


def test_powers_of_two_within_eight_bits_are_priced_as_the_integers_they_are() -> None:
    powers = np.exp2(np.clip(np.rint(np.log2(np.abs(normal(32, 16, 3, 3)))), -6, 0))
    found = find_compression(network((np.sign(normal(32, 16, 3, 3)) * powers * 0.3).astype(np.float32)))
    assert str(weight_of(found).format) == "int8"
    assert found.notes == (
        "weights found quantised, from their values: int8 in 1 layer",
        "weights found in formats that integer hardware does not multiply: pow2_4 (priced as int8) in 1 layer",
    )


@pytest.mark.parametrize("hardware", ["edge-32x32", "isaac", "tpu-v1"])
def test_every_design_prices_what_is_found(hardware: str) -> None:
    accelerator = load_hardware(hardware)
    plain = accelerator.evaluate(network(normal(32, 16, 3, 3)), chips=None)
    for bits in (2, 3, 4, 8, 9, 16):
        report = accelerator.evaluate(find_compression(network(quantized(normal(32, 16, 3, 3), bits))), chips=None)
        assert report.totals["energy_pj"] <= plain.totals["energy_pj"]
        assert (report.totals["weight_bytes"] < plain.totals["weight_bytes"]) == (
            bits < 8 or (bits == 8 and hardware == "isaac")
        )


# --- how weights lie --------------------------------------------------------------------------------------------------


def one(op: Op, operands: list[Operand], attributes: at.Attributes, shape: tuple[int, ...]) -> Layer:
    build = NetworkBuilder("one")
    x = build.input("x", TensorType(shape=shape, batch_axis=0))
    if op is Op.EMBEDDING:
        result = build.add(op, [*operands, x], attributes, name="y")
    else:
        result = build.add(op, [x, *operands], attributes, name="y")
    return find_compression(build.finish(result)).layers[0]


def test_a_product_has_its_outputs_last() -> None:
    values = two_of_four(quantized(normal(24, 32), 4, axis=0)).T  # [in, out]
    weight = one(Op.MATMUL, [parameter("w", from_array(values))], at.MatmulAttributes(), (1, 5, 32)).operands[1]
    assert weight.step is not None and len(weight.step) == 24
    assert str(weight.sparsity) == "2:4"


def test_constants_that_are_multiplied_are_weights_too() -> None:
    layer = one(Op.LINEAR, [constant("w", quantized(normal(24, 32), 4))], at.LinearAttributes(), (1, 32))
    assert str(layer.operands[1].format) == "int4"


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_its_inputs_first(groups: int) -> None:
    filters = two_of_four(normal(8 * groups, 32, 3, 3))  # [out, in / groups, ...]
    for name, values in (
        ("int4 per tensor", quantized(filters, 4)),
        ("int4 per channel", quantized(filters, 4, axis=0)),
    ):
        split = values.reshape(groups, 8, 32, 3, 3).swapaxes(1, 2).reshape(32 * groups, 8, 3, 3)
        a = at.ConvAttributes(
            stride=(2, 2), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1), groups=groups, transposed=True
        )
        weight = one(Op.CONV, [parameter("w", from_array(split))], a, (1, 32 * groups, 4, 4)).operands[1]
        assert str(weight.sparsity) == "2:4"
        if groups == 1 or name == "int4 per tensor":
            assert str(weight.format) == "int4"
            assert weight.format is not None and f"int4 per {weight.format.per}" == name
        else:
            assert (weight.format, weight.step) == (None, None)  # no axis of its filter counts its output channels


def test_an_embedding_table_has_a_format() -> None:
    table = parameter("table", from_array(quantized(normal(50, 24), 4, axis=0)))
    operand = one(Op.EMBEDDING, [table], at.EmbeddingAttributes(), (1, 7)).operands[0]
    assert operand.format is not None
    assert (str(operand.format), operand.format.per) == ("int4", Granularity.CHANNEL)


def test_biases_and_norms_are_left_alone() -> None:
    found = find_compression(network(quantized(normal(32, 16, 3, 3), 4), norm=True))
    assert all(o.format is None and o.sparsity == DENSE for o in found.layers[1].operands)


def test_eight_bits_of_twos_complement_are_priced_as_eight_bits():
    codes = np.clip(np.rint(normal(32, 16, 3, 3) * 60), -128, 127)
    codes.reshape(-1)[0] = -128
    made = find_compression(network((codes * 0.05).astype(np.float32)))
    operand = made.layers[0].operands[1]
    assert (str(operand.format), operand.step) == ("int8", None)
    nine = find_compression(network(quantized(normal(32, 16, 3, 3), 9)))
    assert nine.layers[0].operands[1].format is None
