"""Small networks for every kind of layer, for tests that must hold for all of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant, parameter
from picojoule.sim.ir import Network, Operand, TensorType
from picojoule.sim.weights import from_array

Examples = dict[type[Any], list[Network]]


def values(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def one_layer(
    a: Any,
    *inputs: tuple[int, ...],
    weights: Sequence[Any] = (),
    result: tuple[int, ...] | None = None,
    op: Op | None = None,
) -> Network:
    """Return a network of one layer: its inputs, then stored operands (whole numbers become constants)."""
    name = type(a).__name__.removesuffix("Attributes")
    op = op or Op("".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_"))
    builder = NetworkBuilder(f"{op} example")
    operands: list[Operand] = [
        builder.input(f"x{i}", TensorType(shape=s, batch_axis=0 if s[:1] == (1,) else None))
        for i, s in enumerate(inputs)
    ]
    for i, w in enumerate(weights):
        array = np.asarray(w)
        real = array.dtype.kind == "f"
        operands.append(parameter(f"w{i}", from_array(array)) if real else constant(f"c{i}", array))
    types = [TensorType(shape=result, batch_axis=0)] if result else None
    return builder.finish(builder.add(op, operands, a, name="layer", types=types))


def conv(rank: int, **changes: Any) -> at.ConvAttributes:
    ones = (1,) * rank
    given = {"stride": ones, "padding_begin": ones, "padding_end": ones, "dilation": ones} | changes
    return at.ConvAttributes(**given)


def pool(kind: at.PoolKind, **changes: Any) -> at.PoolAttributes:
    given = {
        "kernel": (3, 2), "stride": (2, 2), "padding_begin": (1, 0), "padding_end": (0, 0), "dilation": (1, 1)
    } | changes  # fmt: skip
    return at.PoolAttributes(kind=kind, **given)


def pools() -> list[Network]:
    made = [one_layer(pool(kind), (1, 3, 7, 8)) for kind in at.PoolKind]
    made += [one_layer(pool(kind, ceil_mode=True), (1, 3, 7, 9)) for kind in at.PoolKind]
    made += [one_layer(pool(at.PoolKind.AVERAGE, count_include_pad=False, ceil_mode=True), (1, 3, 7, 9))]
    made += [one_layer(pool(at.PoolKind.MAX, dilation=(2, 1)), (1, 3, 9, 8))]
    empty = dict.fromkeys(("kernel", "stride", "padding_begin", "padding_end", "dilation"), ())
    made += [one_layer(pool(kind, output_size=(1, 1), **empty), (1, 3, 7, 8)) for kind in at.PoolKind]
    return made + [one_layer(pool(kind, output_size=(3, 4), **empty), (1, 3, 7, 8)) for kind in at.PoolKind]


def norms() -> list[Network]:
    four, one = [values(4, seed=i) for i in range(3)], np.abs(values(4, seed=3)) + 0.1
    made = [one_layer(at.NormAttributes(kind=at.NormKind.BATCH), (1, 4, 5), weights=[*four, one])]
    for kind, shape, extent in (
        (at.NormKind.LAYER, (1, 3, 4), 4), (at.NormKind.GROUP, (1, 4, 3, 3), 4), (at.NormKind.INSTANCE, (1, 4, 3, 3), 4),
    ):  # fmt: skip
        pair = [values(extent, seed=4), values(extent, seed=5)]
        made.append(one_layer(at.NormAttributes(kind=kind, groups=2), shape, weights=pair))
        bare = at.NormAttributes(kind=kind, groups=2, has_scale=False, has_bias=False)
        made.append(one_layer(bare, shape))
    rms = at.NormAttributes(kind=at.NormKind.RMS, has_bias=False, axes=2)
    made.append(one_layer(rms, (1, 3, 4), weights=[values(3, 4)]))
    lrn = at.NormAttributes(kind=at.NormKind.LRN, has_scale=False, has_bias=False, size=3, alpha=0.3)
    return [*made, one_layer(lrn, (1, 5, 3, 3))]


def activations() -> list[Network]:
    given = {
        at.ActivationKind.CLIP: [(-0.5, 0.7), (-np.inf, 0.5), (0.1, None)],
        at.ActivationKind.THRESHOLD: [(0.2, -3.0)],
    }
    return [
        one_layer(at.ActivationAttributes(kind=kind, alpha=alpha, beta=beta), (1, 3, 4))
        for kind in at.ActivationKind
        for alpha, beta in given.get(kind, [(None, None)])
    ] + [one_layer(at.ActivationAttributes(kind=at.ActivationKind.SOFTPLUS, alpha=2.0), (1, 3, 4))]


UNARY = {
    "neg", "abs", "sqrt", "rsqrt", "exp", "log", "reciprocal", "sign", "round", "floor", "ceil", "sin", "cos", "tan", "asin",
    "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "log1p", "expm1", "trunc", "not", "is_nan", "is_inf", "copy",
}  # fmt: skip


def elementwise() -> list[Network]:
    made = []
    for kind in at.ElementwiseKind:
        if kind is at.ElementwiseKind.CAST:
            made += [
                one_layer(at.ElementwiseAttributes(kind=kind, dtype=d), (1, 3, 4)) for d in ("int64", "bool", "float16")
            ]
        elif kind is at.ElementwiseKind.WHERE:
            made.append(one_layer(at.ElementwiseAttributes(kind=kind), (1, 3, 4), (1, 3, 4), (1, 3, 1)))
        else:
            inputs = [(1, 3, 4)] if kind.value in UNARY else [(1, 3, 4), (1, 1, 4)]
            made.append(one_layer(at.ElementwiseAttributes(kind=kind), *inputs))
    return made


def recurrent() -> list[Network]:
    made = []
    for kind, gates in at.GATES.items():
        for reverse, time_axis in ((False, 0), (True, 1)):
            a = at.RecurrentAttributes(kind=kind, hidden=3, time_axis=time_axis, reverse=reverse, has_bias=not reverse)
            builder = NetworkBuilder(f"{kind} example")
            shape = (5, 1, 4) if time_axis == 0 else (1, 5, 4)
            x = builder.input("x0", TensorType(shape=shape, batch_axis=1 - time_axis))
            w = [
                parameter("w", from_array(values(gates * 3, 4))),
                parameter("b", from_array(values(gates * 3, seed=1))),
            ]
            y = builder.add(Op.LINEAR, [x, *w], at.LinearAttributes(), name="product")[0]
            r = [parameter("r", from_array(values(gates * 3, 3, seed=2)))]
            r += [parameter("rb", from_array(values(gates * 3, seed=3)))] if a.has_bias else []
            made.append(builder.finish(builder.add(Op.RECURRENT, [y, *r], a, name="layer")))
    alone = at.RecurrentAttributes(kind=at.RecurrentKind.GRU, hidden=3, reset_after=False)
    builder = NetworkBuilder("gru alone")
    x = builder.input("x0", TensorType(shape=(4, 1, 9), batch_axis=1))
    made.append(
        builder.finish(builder.add(Op.RECURRENT, [x, parameter("r", from_array(values(9, 3)))], alone, name="layer"))
    )
    return made


def quantizers() -> list[Network]:
    def one(kind: at.QuantizeKind, low: int, high: int, **changes: Any) -> at.QuantizeAttributes:
        return at.QuantizeAttributes(kind=kind, low=low, high=high, **changes)

    step, steps = np.float32(0.05), np.array([0.1, 0.2, 0.3], np.float32)
    fake = at.QuantizeKind.FAKE
    return [
        one_layer(one(fake, -127, 127), (1, 3, 4), weights=[step]),
        one_layer(one(fake, 0, 15, has_zero_point=True), (1, 3, 4), weights=[step, np.array(7)]),
        one_layer(one(fake, -300, 300), (1, 3, 4), weights=[step / 10]),
        one_layer(one(fake, -128, 127, axis=1), (1, 3, 4), weights=[steps]),
        one_layer(one(at.QuantizeKind.QUANTIZE, -128, 127), (1, 3, 4), weights=[step]),
        there_and_back(one(at.QuantizeKind.QUANTIZE, 0, 255), one(at.QuantizeKind.DEQUANTIZE, 0, 255), step),
        one_layer(one(at.QuantizeKind.DYNAMIC, 0, 255), (1, 3, 4)),
    ]


def there_and_back(to: at.QuantizeAttributes, back: at.QuantizeAttributes, step: Any) -> Network:
    builder = NetworkBuilder("quantize and dequantize")
    x = builder.input("x0", TensorType(shape=(1, 3, 4), batch_axis=0))
    operand = parameter("step", from_array(np.asarray(step)))
    y = builder.add(Op.QUANTIZE, [x, operand], to, name="to")[0]
    return builder.finish(builder.add(Op.QUANTIZE, [y, operand], back, name="layer"))


def deformable(a: at.DeformConvAttributes) -> Network:
    builder = NetworkBuilder("deformable example")
    shapes = {"x": (1, 2, 5, 5), "offset": (1, 18, 5, 5), "mask": (1, 9, 5, 5)}
    x, offset, mask = (builder.input(n, TensorType(shape=s, batch_axis=0)) for n, s in shapes.items())
    w, b = parameter("w", from_array(values(3, 2, 3, 3))), parameter("b", from_array(values(3)))
    return builder.finish(builder.add(Op.DEFORM_CONV, [x, w, offset, mask, b], a, name="layer"))


def resizes() -> list[Network]:
    made = [
        one_layer(at.ResizeAttributes(mode=mode, coordinates=place), (1, 2, 4, 5), result=(1, 2, 8, 7))
        for mode in ("nearest", "linear", "cubic")
        for place in ("half_pixel", "asymmetric", "align_corners")
    ]
    scaled = at.ResizeAttributes(mode="linear", scales=(1.0, 1.0, 1.7, 2.0))
    return [*made, one_layer(scaled, (1, 2, 4, 5), result=(1, 2, 6, 10))]


def indexing() -> Examples:
    index = np.array([[[0, 1, 1], [2, 0, 1]]])
    elements, nd = at.GatherKind.ELEMENTS, at.GatherKind.ND
    places = np.array([[0, 1], [1, 2]])
    return {
        at.EmbeddingAttributes: [
            indexed(Op.EMBEDDING, at.EmbeddingAttributes(), values(6, 3), (1, 4)),
            one_layer(at.EmbeddingAttributes(axis=2), (1, 3, 4), weights=[np.array([1, -1, 0])]),
        ],
        at.GatherAttributes: [
            one_layer(at.GatherAttributes(kind=elements, axis=1), (1, 3, 3), weights=[index]),
            one_layer(at.GatherAttributes(kind=nd), (3, 4, 2), weights=[places]),
        ],
        at.ScatterAttributes: [
            one_layer(
                at.ScatterAttributes(kind=elements, axis=1, reduction=r), (1, 3, 3), weights=[index, values(1, 2, 3)]
            )
            for r in ("none", "add", "mul", "max", "min")
        ] + [one_layer(at.ScatterAttributes(kind=nd), (3, 4, 2), weights=[places, values(2, 2)])],
    }  # fmt: skip


def indexed(op: Op, a: Any, table: Any, indices: tuple[int, ...]) -> Network:
    builder = NetworkBuilder(f"{op} example")
    x = builder.input("indices", TensorType(shape=indices, batch_axis=0))
    return builder.finish(builder.add(op, [parameter("table", from_array(table)), x], a, name="layer"))


def all_examples() -> Examples:
    deform = at.DeformConvAttributes(
        stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1), has_mask=True, has_bias=True
    )
    transposed = {"transposed": True, "stride": (2, 2)}
    corner = {"padding_begin": (0, 1), "padding_end": (2, 1)}
    return {
        at.ConvAttributes: [
            one_layer(conv(1), (1, 4, 9), weights=[values(6, 4, 3), values(6)]),
            one_layer(conv(2, stride=(2, 1), dilation=(1, 2), groups=2, **corner), (1, 4, 9, 9), weights=[values(6, 2, 3, 3)]),
            one_layer(conv(3), (1, 2, 4, 4, 4), weights=[values(3, 2, 3, 3, 3)]),
            one_layer(conv(2, output_padding=(1, 0), **transposed), (1, 4, 5, 5), weights=[values(4, 3, 3, 3), values(3)]),
            one_layer(conv(2, groups=2, **transposed, **corner), (1, 4, 5, 5), weights=[values(4, 3, 3, 3)]),
        ],
        at.DeformConvAttributes: [
            deformable(deform)
        ],
        at.LinearAttributes: [
            one_layer(at.LinearAttributes(), (1, 5), weights=[values(3, 5), values(3)]),
            one_layer(at.LinearAttributes(), (1, 2, 5), weights=[values(3, 5)]),
        ],
        at.MatmulAttributes: [
            one_layer(at.MatmulAttributes(), (1, 2, 3, 4), (1, 2, 4, 5)),
            one_layer(at.MatmulAttributes(), (1, 3, 4), weights=[values(4, 5)]),
        ],
        at.PoolAttributes: pools(),
        at.NormAttributes: norms(),
        at.ActivationAttributes: activations(),
        at.SoftmaxAttributes: [one_layer(at.SoftmaxAttributes(axis=2, log=log), (1, 3, 4)) for log in (False, True)],
        at.ElementwiseAttributes: elementwise(),
        at.ReduceAttributes: [
            one_layer(at.ReduceAttributes(kind=kind, axes=axes, keepdims=keep), (1, 3, 4, 5))
            for kind in at.ReduceKind
            for axes, keep in (((2,), False), ((2,) if kind.value.startswith("arg") else (2, 3), True))
        ],
        at.ConcatAttributes: [one_layer(at.ConcatAttributes(axis=1), (1, 3, 4), (1, 2, 4))],
        at.SplitAttributes: [one_layer(at.SplitAttributes(axis=1, sizes=(1, 3, 2)), (1, 6, 4))],
        at.SliceAttributes: [
            one_layer(at.SliceAttributes(axes=(0, 1, 2), starts=(0, 1, 5), stops=(1, 6, -1), steps=(1, 2, -1)), (1, 7, 6))
        ],
        at.PadAttributes: [
            one_layer(at.PadAttributes(begin=(0, 0, 1), end=(0, 0, 2), mode=mode, value=value), (1, 3, 5))
            for mode, value in (("constant", 1.5), ("constant", -np.inf), ("edge", 0.0), ("reflect", 0.0), ("wrap", 0.0))
        ],
        at.ReshapeAttributes: [one_layer(at.ReshapeAttributes(), (1, 3, 4), result=(1, 2, 6))],
        at.TransposeAttributes: [one_layer(at.TransposeAttributes(permutation=(0, 2, 1)), (1, 3, 4))],
        at.ExpandAttributes: [
            one_layer(at.ExpandAttributes(), (1, 1, 4), result=(1, 3, 4)),
        ],
        at.ResizeAttributes: resizes(),
        at.RecurrentAttributes: recurrent(),
        at.QuantizeAttributes: quantizers(),
        at.SortAttributes: [one_layer(at.SortAttributes(axis=1, count=2, largest=b), (1, 5, 3)) for b in (True, False)],
        at.CumulativeAttributes: [
            one_layer(at.CumulativeAttributes(kind=kind, axis=1, exclusive=e, reverse=r), (1, 5, 3))
            for kind in at.CumulativeKind for e, r in ((False, False), (True, True))
        ],
        at.GridSampleAttributes: [
            one_layer(at.GridSampleAttributes(mode=mode, padding=padding), (1, 2, 5, 5), (1, 3, 4, 2))
            for mode in ("linear", "nearest", "cubic") for padding in ("zeros", "border", "reflection")
        ],
        at.OpaqueAttributes: [one_layer(at.OpaqueAttributes(original="Wobble"), (1, 3), result=(1, 5))],
    } | indexing()  # fmt: skip


@pytest.fixture(scope="session")
def examples_of() -> Callable[[type[Any]], list[Network]]:
    """Return a function from a class of attributes to its example networks; it fails where there are none."""
    made = all_examples()

    def found(kind: type[Any]) -> list[Network]:
        assert made.get(kind), f"{kind.__name__} has no example; add one to tests/sim/conftest.py"
        return made[kind]

    return found


class AgainstRuntime:
    """Imports an ONNX graph and compares its execution with ONNX Runtime's, for several batches."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "net.onnx"

    def save(
        self,
        nodes: Sequence[Any],
        inputs: Mapping[str, Any],
        stored: Mapping[str, Any] | None = None,
        *,
        outputs: Sequence[str] = ("y",),
        opset: int = 17,
        types: Mapping[str, int] | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> Path:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        types = types or {}
        graph = helper.make_graph(
            list(nodes),
            "g",
            [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), None) for n in outputs],
            [
                v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(np.asarray(v), n)
                for n, v in (stored or {}).items()
            ],
            value_info=[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (known or {}).items()],
        )
        sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        self.path.write_bytes(helper.make_model(graph, opset_imports=sets, ir_version=10).SerializeToString())
        return self.path

    def agree(
        self,
        net: Network,
        batches: Sequence[int] = (1, 3),
        *,
        feeds: Mapping[str, Callable[[tuple[int, ...]], Any]] | None = None,
        rtol: float = 2e-4,
        atol: float = 2e-5,
    ) -> None:
        import onnxruntime
        import torch

        from picojoule.sim.numerics.executor import Executor

        assert not net.unsupported
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(11)
        for batch in batches:
            given = {}
            for declared in net.inputs:
                shape = declared.type.at(batch)
                make = (feeds or {}).get(declared.name)
                given[declared.name] = make(shape) if make else random.standard_normal(shape).astype(np.float32)
            expected = session.run(None, given)
            with torch.no_grad():
                got = Executor(net).run([torch.from_numpy(given[r.name]) for r in net.inputs])
            assert len(got) == len(expected)
            for name, ours, theirs in zip(net.outputs, got, expected, strict=True):
                assert tuple(ours.shape) == theirs.shape == net.values()[name].type.at(batch)
                np.testing.assert_allclose(
                    ours.numpy().astype(np.float64), theirs.astype(np.float64), rtol=rtol, atol=atol
                )


@pytest.fixture
def runtime(tmp_path: Path) -> AgainstRuntime:
    return AgainstRuntime(tmp_path)
