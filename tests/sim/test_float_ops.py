"""Every operator in floating point against torch, numpy and ONNX's own reference evaluator."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx.reference import ReferenceEvaluator

from picojoule.sim import attributes as at
from picojoule.sim.attributes import ActivationKind as Ak
from picojoule.sim.attributes import ElementwiseKind as Ew
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant
from picojoule.sim.formats import parse_format
from picojoule.sim.ir import TensorType
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.float_ops import FUNCTIONS
from picojoule.sim.numerics.quantize import cast_float


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(op, attributes, *operands, fixed=(), types=None):
    """Execute one layer; `operands` are inputs of the network (no batch), `fixed` are constants behind them."""
    builder = NetworkBuilder("one")
    made = [builder.input(f"x{i}", TensorType(shape=tuple(t.shape))) for i, t in enumerate(operands)]
    made += [constant(f"c{i}", np.asarray(value)) for i, value in enumerate(fixed)]
    kinds = None if types is None else [TensorType(shape=shape) for shape in types]
    results = builder.add(op, made, attributes, name="layer", types=kinds)
    with torch.no_grad():
        found = Executor(builder.finish(results)).run(list(operands))
    for tensor, result in zip(found, results, strict=True):
        assert tuple(tensor.shape) == result.shape
    return found


def onnx_reference(kind, inputs, **attributes):
    """Run one ONNX node in ONNX's reference evaluator (opset 20)."""
    names = [f"i{i}" if v is not None else "" for i, v in enumerate(inputs)]
    node = helper.make_node(kind, names, ["y"], **attributes)
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in zip(names, inputs, strict=True)
        if v is not None
    ]
    graph = helper.make_graph(
        [node], "g", given, [helper.make_tensor_value_info("y", onnx.TensorProto.UNDEFINED, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    feeds = {n: v for n, v in zip(names, inputs, strict=True) if v is not None}
    return ReferenceEvaluator(model).run(None, feeds)[0]


def close(ours, reference, tolerance=1e-5):
    expected = reference if isinstance(reference, torch.Tensor) else torch.tensor(reference.copy())
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


IMAGE = seeded(2, 4, 9, 7)
ONES = (1, 1)
PLAIN = at.ConvAttributes(stride=ONES, padding_begin=(0, 0), padding_end=(0, 0), dilation=ONES)
WORDS = torch.tensor([[3, 0, -1], [2, 2, 1]])

CASES = {
    Op.CONV: lambda: (
        run(Op.CONV, replace(PLAIN, padding_begin=(1, 0), padding_end=(2, 1)), IMAGE, fixed=[seeded(3, 4, 3, 2)])[0],
        F.conv2d(F.pad(IMAGE, (0, 1, 1, 2)), seeded(3, 4, 3, 2)),
    ),
    Op.LINEAR: lambda: (
        run(Op.LINEAR, at.LinearAttributes(), seeded(2, 5), fixed=[seeded(3, 5), seeded(3)])[0],
        seeded(2, 5) @ seeded(3, 5).T + seeded(3),
    ),
    Op.MATMUL: lambda: (
        run(Op.MATMUL, at.MatmulAttributes(), seeded(2, 3, 5), seeded(2, 5, 4))[0],
        torch.einsum("bik,bkj->bij", seeded(2, 3, 5), seeded(2, 5, 4)),
    ),
    Op.DEFORM_CONV: lambda: (
        run(
            Op.DEFORM_CONV,
            at.DeformConvAttributes(stride=ONES, padding_begin=ONES, padding_end=ONES, dilation=ONES),
            *(IMAGE, seeded(3, 4, 3, 3), torch.zeros(2, 18, 9, 7)),
        )[0],
        F.conv2d(IMAGE, seeded(3, 4, 3, 3), padding=1),
    ),
    Op.POOL: lambda: (
        run(Op.POOL, at.PoolAttributes(kind=at.PoolKind.MAX, output_size=(3, 3)), IMAGE)[0],
        F.adaptive_max_pool2d(IMAGE, 3),
    ),
    Op.NORM: lambda: (
        run(Op.NORM, at.NormAttributes(kind=at.NormKind.RMS, has_bias=False), IMAGE, fixed=[seeded(7)])[0],
        IMAGE / torch.sqrt((IMAGE**2).mean(-1, keepdim=True) + 1e-5) * seeded(7),
    ),
    Op.ACTIVATION: lambda: (
        run(Op.ACTIVATION, at.ActivationAttributes(kind=Ak.TANH), IMAGE)[0],
        np.tanh(IMAGE.numpy()),
    ),
    Op.SOFTMAX: lambda: (
        run(Op.SOFTMAX, at.SoftmaxAttributes(axis=1), IMAGE)[0],
        IMAGE.exp() / IMAGE.exp().sum(1, keepdim=True),
    ),
    Op.ELEMENTWISE: lambda: (
        run(Op.ELEMENTWISE, at.ElementwiseAttributes(kind=Ew.SUB), IMAGE, seeded(7))[0],
        IMAGE.numpy() - seeded(7).numpy(),
    ),
    Op.REDUCE: lambda: (
        run(Op.REDUCE, at.ReduceAttributes(kind=at.ReduceKind.PROD, axes=(1, 3), keepdims=False), IMAGE)[0],
        IMAGE.numpy().prod((1, 3)),
    ),
    Op.CONCAT: lambda: (
        run(Op.CONCAT, at.ConcatAttributes(axis=1), IMAGE, IMAGE)[0],
        np.concatenate([IMAGE, IMAGE], 1),
    ),
    Op.SPLIT: lambda: (
        run(Op.SPLIT, at.SplitAttributes(axis=2, sizes=(2, 7)), IMAGE)[1],
        IMAGE[:, :, 2:],
    ),
    Op.SLICE: lambda: (
        run(Op.SLICE, at.SliceAttributes(axes=(2, 3), starts=(8, 1), stops=(-1, 7), steps=(-3, 2)), IMAGE)[0],
        np.ascontiguousarray(IMAGE.numpy()[:, :, 8::-3, 1:7:2]),
    ),
    Op.PAD: lambda: (
        run(Op.PAD, at.PadAttributes(begin=(0, 0, 1, 0), end=(0, 0, 0, 2), value=3.0), IMAGE)[0],
        np.pad(IMAGE, [(0, 0), (0, 0), (1, 0), (0, 2)], constant_values=3.0),
    ),
    Op.RESHAPE: lambda: (
        run(Op.RESHAPE, at.ReshapeAttributes(), IMAGE, types=[(8, 63)])[0],
        IMAGE.numpy().reshape(8, 63),
    ),
    Op.TRANSPOSE: lambda: (
        run(Op.TRANSPOSE, at.TransposeAttributes(permutation=(3, 1, 0, 2)), IMAGE)[0],
        IMAGE.numpy().transpose(3, 1, 0, 2),
    ),
    Op.EXPAND: lambda: (
        run(Op.EXPAND, at.ExpandAttributes(), seeded(1, 3), types=[(2, 4, 3)])[0],
        np.broadcast_to(seeded(1, 3), (2, 4, 3)).copy(),
    ),
    Op.RESIZE: lambda: (
        run(Op.RESIZE, at.ResizeAttributes(mode="linear"), IMAGE, types=[(2, 4, 5, 15)])[0],
        F.interpolate(IMAGE, size=(5, 15), mode="bilinear"),
    ),
    Op.EMBEDDING: lambda: (
        run(Op.EMBEDDING, at.EmbeddingAttributes(axis=1), seeded(2, 5, 3), WORDS)[0],
        seeded(2, 5, 3).numpy().take(WORDS.numpy() % 5, 1),
    ),
    Op.RECURRENT: lambda: (
        run(Op.RECURRENT, at.RecurrentAttributes(kind=at.RecurrentKind.RNN_TANH, hidden=3), seeded(1, 2, 3),
            fixed=[seeded(3, 3)])[0],
        torch.tanh(seeded(1, 2, 3)),
    ),
    Op.QUANTIZE: lambda: (
        run(Op.QUANTIZE, at.QuantizeAttributes(kind=at.QuantizeKind.QUANTIZE, low=-8, high=7), IMAGE, fixed=[0.25])[0],
        np.clip(np.rint(IMAGE.numpy() / 0.25), -8, 7),
    ),
    Op.GATHER: lambda: (
        run(Op.GATHER, at.GatherAttributes(kind=at.GatherKind.ELEMENTS, axis=1), seeded(2, 5), WORDS)[0],
        np.take_along_axis(seeded(2, 5).numpy(), WORDS.numpy() % 5, 1),
    ),
    Op.SCATTER: lambda: (
        run(Op.SCATTER, at.ScatterAttributes(kind=at.GatherKind.ND), seeded(4, 3), torch.tensor([[2], [0]]),
            seeded(2, 3, seed=1))[0],
        onnx_reference("ScatterND", [seeded(4, 3).numpy(), np.array([[2], [0]]), seeded(2, 3, seed=1).numpy()]),
    ),
    Op.SORT: lambda: (
        run(Op.SORT, at.SortAttributes(axis=2, count=4), IMAGE)[0],
        -np.sort(-IMAGE.numpy(), 2)[:, :, :4],
    ),
    Op.CUMULATIVE: lambda: (
        run(Op.CUMULATIVE, at.CumulativeAttributes(kind=at.CumulativeKind.SUM, axis=1), IMAGE)[0],
        IMAGE.numpy().cumsum(1),
    ),
    Op.GRID_SAMPLE: lambda: (
        run(Op.GRID_SAMPLE, at.GridSampleAttributes(), IMAGE, seeded(2, 3, 5, 2))[0],
        onnx_reference("GridSample", [IMAGE.numpy(), seeded(2, 3, 5, 2).numpy()], mode="linear"),
    ),
}  # fmt: skip
"""One case per operator: (what we compute, the reference)."""


def test_every_operator_but_the_unknown_one_is_executed_and_tested():
    assert set(FUNCTIONS) == set(CASES) == set(Op) - {Op.OPAQUE}


@pytest.mark.parametrize("op", list(CASES), ids=str)
def test_an_operator_agrees_with_its_reference(op):
    ours, reference = CASES[op]()
    close(ours, reference)


# --- element-wise, activations, reductions --------------------------------------------------------------------------

SIGNS = [(7, 2), (-7, 2), (7, -2), (-7, -2), (0, 5), (9, 3)]
BINARY = {
    Ew.ADD: np.add, Ew.SUB: np.subtract, Ew.MUL: np.multiply, Ew.MAXIMUM: np.maximum, Ew.MINIMUM: np.minimum,
    Ew.MOD: np.mod, Ew.FMOD: np.fmod, Ew.FLOOR_DIVIDE: np.floor_divide, Ew.EQUAL: np.equal, Ew.NOT_EQUAL: np.not_equal,
    Ew.LESS: np.less, Ew.GREATER: np.greater, Ew.LESS_EQUAL: np.less_equal, Ew.GREATER_EQUAL: np.greater_equal,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
@pytest.mark.parametrize("kind", list(BINARY), ids=str)
def test_binary_operators_follow_numpy_in_value_and_type(kind, dtype):
    a, b = np.array(SIGNS, dtype=dtype).T
    (ours,) = run(Op.ELEMENTWISE, at.ElementwiseAttributes(kind=kind), torch.tensor(a), torch.tensor(b))
    expected = BINARY[kind](a, b)
    np.testing.assert_array_equal(ours.numpy(), expected)
    assert ours.numpy().dtype == expected.dtype


@pytest.mark.parametrize("kind", [Ew.AND, Ew.OR, Ew.XOR, Ew.EQUAL, Ew.NOT_EQUAL], ids=str)
def test_logic_on_booleans(kind):
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    reference = {Ew.AND: a & b, Ew.OR: a | b, Ew.XOR: a ^ b, Ew.EQUAL: a == b, Ew.NOT_EQUAL: a != b}[kind]
    (ours,) = run(Op.ELEMENTWISE, at.ElementwiseAttributes(kind=kind), torch.tensor(a), torch.tensor(b))
    np.testing.assert_array_equal(ours.numpy(), reference)


WIDE = np.array([-3.5, -2.5, -0.3, 0.5, 1.5, 2.6], dtype=np.float32)
NARROW = np.linspace(-0.9, 0.9, 7, dtype=np.float32)
ABOVE_ONE = np.linspace(1.1, 4, 7, dtype=np.float32)
UNARY = {
    Ew.NEG: (np.negative, WIDE), Ew.ABS: (np.abs, WIDE), Ew.SIGN: (np.sign, WIDE), Ew.ROUND: (np.rint, WIDE),
    Ew.FLOOR: (np.floor, WIDE), Ew.CEIL: (np.ceil, WIDE), Ew.TRUNC: (np.trunc, WIDE), Ew.COPY: (np.copy, WIDE),
    Ew.EXP: (np.exp, WIDE), Ew.EXPM1: (np.expm1, NARROW), Ew.LOG: (np.log, ABOVE_ONE), Ew.LOG1P: (np.log1p, NARROW),
    Ew.SQRT: (np.sqrt, ABOVE_ONE), Ew.RSQRT: (lambda v: v**-0.5, ABOVE_ONE), Ew.RECIPROCAL: (np.reciprocal, WIDE),
    Ew.SIN: (np.sin, WIDE), Ew.COS: (np.cos, WIDE), Ew.TAN: (np.tan, WIDE), Ew.ASIN: (np.arcsin, NARROW),
    Ew.ACOS: (np.arccos, NARROW), Ew.ATAN: (np.arctan, WIDE), Ew.SINH: (np.sinh, WIDE), Ew.COSH: (np.cosh, WIDE),
    Ew.ASINH: (np.arcsinh, WIDE), Ew.ACOSH: (np.arccosh, ABOVE_ONE), Ew.ATANH: (np.arctanh, NARROW),
    Ew.NOT: (np.logical_not, np.array([True, False])),
    Ew.IS_NAN: (np.isnan, np.array([1.0, np.nan, np.inf], dtype=np.float32)),
    Ew.IS_INF: (np.isinf, np.array([1.0, np.nan, -np.inf], dtype=np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(UNARY), ids=str)
def test_unary_operators_follow_numpy(kind):
    function, values = UNARY[kind]
    close(run(Op.ELEMENTWISE, at.ElementwiseAttributes(kind=kind), torch.tensor(values))[0], function(values))


def test_every_elementwise_kind_is_tested():
    assert set(Ew) == {*BINARY, *UNARY, Ew.AND, Ew.OR, Ew.XOR, Ew.DIV, Ew.POW, Ew.WHERE, Ew.CAST}


def test_division_power_choice_and_casts():
    def ours(kind, *operands, dtype=None):
        return run(Op.ELEMENTWISE, at.ElementwiseAttributes(kind=kind, dtype=dtype), *map(torch.as_tensor, operands))[0]

    assert ours(Ew.DIV, [7, -7], [2, 2]).tolist() == [3, -3]  # ONNX: integers truncate
    assert ours(Ew.DIV, [7.0, -7.0], [2, 2]).tolist() == [3.5, -3.5]
    assert ours(Ew.POW, [2.0, 9.0], [3, 0.5]).tolist() == [8.0, 3.0]
    assert ours(Ew.WHERE, [1, 0], [5, 5], [7, 7]).tolist() == [5, 7]
    assert ours(Ew.CAST, [1.7, -1.7], dtype="int64").tolist() == [1, -1]
    assert ours(Ew.CAST, [0.5, 0.0], dtype="bool").tolist() == [True, False]
    rounded = ours(Ew.CAST, [1 + 2**-12], dtype="float16")
    assert (rounded.dtype, rounded.item()) == (torch.float32, 1.0)
    assert ours(Ew.CAST, [3], dtype="float64").dtype is torch.float32


POINTS = np.array([-6.0, -1.5, -0.5, -0.2, 0.0, 0.3, 0.5, 1.0, 1.2, 4.0, 7.0], dtype=np.float32)


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


ACTIVATIONS = [
    (Ak.RELU, {}, lambda v: np.maximum(v, 0)),
    (Ak.CLIP, {"alpha": 0.0, "beta": 6.0}, lambda v: np.clip(v, 0, 6)),
    (Ak.SIGMOID, {}, sigmoid),
    (Ak.TANH, {}, np.tanh),
    (Ak.HARD_SIGMOID, {}, lambda v: np.clip(0.2 * v + 0.5, 0, 1)),
    (Ak.HARD_SIGMOID, {"alpha": 1 / 6, "beta": 0.5}, lambda v: np.clip(v / 6 + 0.5, 0, 1)),
    (Ak.HARD_SWISH, {}, lambda v: v * np.clip(v / 6 + 0.5, 0, 1)),
    (Ak.SILU, {}, lambda v: v * sigmoid(v)),
    (Ak.GELU, {}, lambda v: v * 0.5 * (1 + torch.erf(torch.tensor(v) / 2**0.5).numpy())),
    (Ak.GELU_TANH, {}, lambda v: 0.5 * v * (1 + np.tanh((2 / np.pi) ** 0.5 * (v + 0.044715 * v**3)))),
    (Ak.LEAKY_RELU, {}, lambda v: np.where(v < 0, 0.01 * v, v)),
    (Ak.LEAKY_RELU, {"alpha": 0.3}, lambda v: np.where(v < 0, 0.3 * v, v)),
    (Ak.ELU, {"alpha": 0.7}, lambda v: np.where(v < 0, 0.7 * np.expm1(v), v)),
    (Ak.SELU, {}, lambda v: 1.0507009873554805 * np.where(v < 0, 1.6732632423543772 * np.expm1(v), v)),
    (Ak.SOFTPLUS, {}, lambda v: np.log1p(np.exp(v))),
    (Ak.MISH, {}, lambda v: v * np.tanh(np.log1p(np.exp(v)))),
    (Ak.ERF, {}, lambda v: torch.erf(torch.tensor(v)).numpy()),
    (Ak.CELU, {"alpha": 0.7}, lambda v: np.maximum(v, 0) + np.minimum(0, 0.7 * np.expm1(v / 0.7))),
    (Ak.SOFTSIGN, {}, lambda v: v / (1 + np.abs(v))),
    (Ak.LOG_SIGMOID, {}, lambda v: np.log(sigmoid(v))),
    (Ak.THRESHOLD, {"alpha": 0.5, "beta": -2.0}, lambda v: np.where(v > 0.5, v, -2)),
    (Ak.THRESHOLD, {}, lambda v: np.where(v > 1, v, 0)),
    (Ak.SOFT_SHRINK, {"alpha": 0.3}, lambda v: np.sign(v) * np.maximum(np.abs(v) - 0.3, 0)),
    (Ak.HARD_SHRINK, {}, lambda v: np.where(np.abs(v) > 0.5, v, 0)),
]


@pytest.mark.parametrize(("kind", "parameters", "formula"), ACTIVATIONS, ids=[str(a[0]) for a in ACTIVATIONS])
def test_activations_follow_their_formulas(kind, parameters, formula):
    close(
        run(Op.ACTIVATION, at.ActivationAttributes(kind=kind, **parameters), torch.tensor(POINTS))[0], formula(POINTS)
    )


def test_every_activation_is_tested():
    assert {a[0] for a in ACTIVATIONS} == set(Ak)


def test_clipping_integers_leaves_integers():
    bounded = at.ActivationAttributes(kind=Ak.CLIP, alpha=-0.5, beta=float("inf"))
    (ours,) = run(Op.ACTIVATION, bounded, torch.tensor([-3, 0, 300]))
    assert (ours.dtype, ours.tolist()) == (torch.int64, [0, 0, 300])


@pytest.mark.parametrize("kind", list(at.ReduceKind), ids=str)
@pytest.mark.parametrize("keep", [False, True])
def test_reductions_follow_numpy(kind, keep):
    values = np.array([[3, 1, 3, 1], [0, 5, 5, 0], [2, 2, 2, 2]], dtype=np.float32)
    (ours,) = run(Op.REDUCE, at.ReduceAttributes(kind=kind, axes=(1,), keepdims=keep), torch.tensor(values))
    np.testing.assert_allclose(ours.numpy(), getattr(np, kind.value)(values, 1, keepdims=keep))


def test_reductions_of_integers_and_booleans():
    def ours(kind, values):
        return run(Op.REDUCE, at.ReduceAttributes(kind=kind, axes=(0,), keepdims=False), torch.tensor(values))[0]

    assert ours(at.ReduceKind.MEAN, [7, 2, -2]).item() == 2
    assert ours(at.ReduceKind.SUM, [True, True, False]).item() == 2
    assert ours(at.ReduceKind.ARGMAX, [False, True, True]).item() == 1
    assert ours(at.ReduceKind.ARGMIN, [4, 1, 1]).item() == 1


# --- windows and formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_average_pool_with_dilation_follows_onnx(rank):
    x = seeded(2, 3, *(9, 8, 7)[:rank])
    space = {"stride": (2,) * rank, "dilation": (2, 3, 1)[:rank], "padding_begin": (1,) * rank}
    attributes = at.PoolAttributes(
        kind=at.PoolKind.AVERAGE, kernel=(3, 2, 2)[:rank], padding_end=(0,) * rank, count_include_pad=False, **space
    )
    reference = onnx_reference(
        "AveragePool", [x.numpy()], kernel_shape=attributes.kernel, strides=space["stride"],
        dilations=space["dilation"], pads=[1] * rank + [0] * rank,
    )  # fmt: skip
    close(run(Op.POOL, attributes, x)[0], reference)


def test_a_float_format_without_mantissa_holds_powers_of_two():
    x = torch.tensor([0.3, 1.4, 1.6, -3.1, 100.0])
    # 3 exponent bits, bias 3: from 2^-2 (smallest normal) to 2^3; the step is the power below, ties to even.
    assert cast_float(x, parse_format("fp4_e3m0")).tolist() == [0.25, 1.0, 2.0, -4.0, 8.0]


@pytest.mark.parametrize("mode", ["edge", "reflect", "wrap"])
@pytest.mark.parametrize("values", [seeded(3, 5), torch.arange(15).reshape(3, 5)], ids=["real", "whole"])
def test_padding_modes_follow_numpy(mode, values):
    begin, end = (1, 3), (2, 4)
    (ours,) = run(Op.PAD, at.PadAttributes(begin=begin, end=end, mode=mode), values)
    expected = np.pad(values.numpy(), list(zip(begin, end, strict=True)), mode=mode)
    np.testing.assert_array_equal(ours.numpy(), expected)


def test_padding_beyond_the_axis_repeats_the_pattern():
    for mode in ("reflect", "wrap"):
        (ours,) = run(Op.PAD, at.PadAttributes(begin=(7,), end=(9,), mode=mode), torch.arange(3))
        np.testing.assert_array_equal(ours.numpy(), np.pad(np.arange(3), (7, 9), mode=mode))
