"""Resizing, looking up, sorting, quantising and recurrent layers against torch, ONNX Runtime and ONNX's own evaluator."""

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, constant
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.ir import TensorType
from picojoule.sim.numerics.executor import Executor


def seeded(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(op, attributes, *operands, fixed=(), shape=None):
    """Execute one layer; `operands` are inputs of the network (no batch), `fixed` are constants behind them."""
    builder = NetworkBuilder("one")
    made = [builder.input(f"x{i}", TensorType(shape=tuple(t.shape))) for i, t in enumerate(operands)]
    made += [constant(f"c{i}", np.asarray(value)) for i, value in enumerate(fixed)]
    types = None if shape is None else [TensorType(shape=shape)]
    results = builder.add(op, made, attributes, name="layer", types=types)
    with torch.no_grad():
        found = Executor(builder.finish(results)).run(list(operands))
    for tensor, result in zip(found, results, strict=True):
        assert tuple(tensor.shape) == result.shape
    return found


def onnx_node(kind, inputs, outputs=1, *, runtime=False, **attributes):
    """Run one ONNX node (opset 20): in ONNX Runtime, or in ONNX's reference evaluator."""
    arrays = {f"i{i}": np.asarray(v) for i, v in enumerate(inputs) if v is not None}
    names = [f"i{i}" if v is not None else "" for i, v in enumerate(inputs)]
    made = [f"y{i}" for i in range(outputs)]
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in arrays.items()
    ]
    node = helper.make_node(kind, names, made, **attributes)
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info(n, 0, None) for n in made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    if not runtime:
        return ReferenceEvaluator(model).run(None, arrays)
    for out, array in zip(model.graph.output, ReferenceEvaluator(model).run(None, arrays), strict=True):
        out.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, arrays)


def close(ours, reference, tolerance=1e-5):
    expected = reference if isinstance(reference, torch.Tensor) else torch.tensor(reference.copy())
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


# --- resampling -------------------------------------------------------------------------------------------------------

IMAGE = seeded(2, 3, 9, 7)
NO_SHAPE = np.array([], dtype=np.float32)


@pytest.mark.parametrize("size", [(18, 21), (5, 4), (13, 6), (1, 1)])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_smooth_resizing_is_what_torch_interpolates(mode, align, size):
    attributes = at.ResizeAttributes(mode=mode, coordinates="align_corners" if align else "half_pixel")
    reference = F.interpolate(
        IMAGE, size=size, mode={"linear": "bilinear", "cubic": "bicubic"}[mode], align_corners=align
    )
    close(run(Op.RESIZE, attributes, IMAGE, shape=(2, 3, *size))[0], reference, 1e-4)


@pytest.mark.parametrize("size", [(18, 21), (5, 4), (13, 6)])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel"])
def test_nearest_resizing_is_what_torch_interpolates(coordinates, size):
    attributes = at.ResizeAttributes(
        mode="nearest",
        coordinates=coordinates,
        nearest_rounding="floor" if coordinates == "asymmetric" else "round_prefer_ceil",
    )
    mode = "nearest" if coordinates == "asymmetric" else "nearest-exact"
    assert torch.equal(
        run(Op.RESIZE, attributes, IMAGE, shape=(2, 3, *size))[0], F.interpolate(IMAGE, size=size, mode=mode)
    )


@pytest.mark.parametrize(("mode", "torch_mode"), [("linear", "bilinear"), ("cubic", "bicubic"), ("nearest", "nearest")])
def test_stated_scales_place_the_samples(mode, torch_mode):
    factor = 1.3
    coordinates = "asymmetric" if mode == "nearest" else "half_pixel"
    reference = F.interpolate(IMAGE, scale_factor=factor, mode=torch_mode, recompute_scale_factor=False)
    attributes = at.ResizeAttributes(mode=mode, coordinates=coordinates, scales=(1.0, 1.0, factor, factor))
    close(run(Op.RESIZE, attributes, IMAGE, shape=tuple(reference.shape))[0], reference, 1e-4)
    by_sizes = at.ResizeAttributes(mode=mode, coordinates=coordinates)
    assert not torch.allclose(run(Op.RESIZE, by_sizes, IMAGE, shape=tuple(reference.shape))[0], reference, atol=1e-3)


@pytest.mark.parametrize("scale", [2.0, 0.6, 1.7])
@pytest.mark.parametrize("coordinates", ["asymmetric", "half_pixel", "align_corners"])
@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_resizing_is_what_onnx_runtime_computes(mode, coordinates, scale):
    x = IMAGE.numpy()
    extra = {"cubic_coeff_a": -0.5} if mode == "cubic" else {}
    (reference,) = onnx_node(
        "Resize", [x, None, np.array([1, 1, scale, scale], dtype=np.float32)], runtime=True, mode=mode,
        coordinate_transformation_mode=coordinates, nearest_mode="round_prefer_floor", **extra,
    )  # fmt: skip
    attributes = at.ResizeAttributes(
        mode=mode,
        coordinates=coordinates,
        nearest_rounding="round_prefer_floor",
        scales=(1.0, 1.0, scale, scale),
        cubic_a=-0.5,
    )
    close(run(Op.RESIZE, attributes, IMAGE, shape=reference.shape)[0], reference, 1e-4)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grid_samples_are_what_onnx_runtime_computes(mode, padding, align):
    grid = 1.3 * seeded(2, 4, 5, 2, seed=3).clamp(-1, 1)
    (reference,) = onnx_node(
        "GridSample",
        [IMAGE.numpy(), grid.numpy()],
        runtime=True,
        mode=mode,
        padding_mode=padding,
        align_corners=int(align),
    )
    attributes = at.GridSampleAttributes(mode=mode, padding=padding, align_corners=align)
    close(run(Op.GRID_SAMPLE, attributes, IMAGE, grid)[0], reference, 1e-4)


def test_grid_samples_of_volumes_and_what_is_refused():
    x, grid = seeded(1, 2, 4, 5, 6), seeded(1, 2, 3, 4, 3, seed=1)
    close(run(Op.GRID_SAMPLE, at.GridSampleAttributes(), x, grid)[0], F.grid_sample(x, grid, align_corners=False))
    with pytest.raises(
        UnsupportedError,
        match=r"^layer 'layer': cubic sampling of 3 axes cannot be executed; linear and nearest run on 2 or 3 axes, cubic on 2$",
    ):
        run(Op.GRID_SAMPLE, at.GridSampleAttributes(mode="cubic"), x, grid)


# --- indices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gathering_elements_follows_onnx(axis):
    data = seeded(3, 4, 5)
    indices = torch.randint(-3, 3, (3, 3, 3), generator=torch.Generator().manual_seed(1))
    (ours,) = run(Op.GATHER, at.GatherAttributes(kind=at.GatherKind.ELEMENTS, axis=axis), data, indices)
    cut = data[tuple(slice(None) if i == axis else slice(3) for i in range(3))]
    close(ours, onnx_node("GatherElements", [cut.numpy(), indices.numpy()], axis=axis)[0])


@pytest.mark.parametrize(
    ("batch_axes", "shape"), [(0, (2, 3, 2)), (0, (2, 1)), (1, (3, 2, 2)), (2, (3, 4, 1)), (0, (4, 3))]
)
def test_gathering_slices_follows_onnx(batch_axes, shape):
    data = seeded(3, 4, 5)
    indices = torch.randint(-3, 3, shape, generator=torch.Generator().manual_seed(1))
    (ours,) = run(Op.GATHER, at.GatherAttributes(kind=at.GatherKind.ND, batch_axes=batch_axes), data, indices)
    close(ours, onnx_node("GatherND", [data.numpy(), indices.numpy()], batch_dims=batch_axes)[0])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scattering_follows_onnx(reduction):
    data, updates = seeded(4, 5), seeded(3, 5, seed=2)
    places = [[0, 1, 2, 3, 3], [1, 2, 3, 0, 0], [2, 3, 0, 1, -3]] if reduction == "none" else [[0, 1, 1, -1, 3]] * 3
    indices = torch.tensor(places)
    inputs = [data.numpy(), indices.numpy(), updates.numpy()]
    attributes = at.ScatterAttributes(kind=at.GatherKind.ELEMENTS, axis=0, reduction=reduction)
    (reference,) = onnx_node("ScatterElements", inputs, runtime=True, axis=0, reduction=reduction)
    close(run(Op.SCATTER, attributes, data, indices, updates)[0], reference)
    rows = torch.tensor([[[1], [3]], [[0], [2]]]) if reduction == "none" else torch.tensor([[[1], [-1]], [[1], [3]]])
    updates = seeded(2, 2, 5, seed=3)
    attributes = at.ScatterAttributes(kind=at.GatherKind.ND, reduction=reduction)
    inputs = [data.numpy(), rows.numpy(), updates.numpy()]
    close(
        run(Op.SCATTER, attributes, data, rows, updates)[0],
        onnx_node("ScatterND", inputs, runtime=True, reduction=reduction)[0],
    )


def test_an_index_outside_its_axis_names_the_layer():
    with pytest.raises(
        InputError, match=r"^layer 'layer': index 7 is outside an axis of 5; indices must lie between -5 and 4$"
    ):
        run(Op.EMBEDDING, at.EmbeddingAttributes(), seeded(5, 2), torch.tensor([1, 7]))
    with pytest.raises(InputError, match="index -4 is outside an axis of 3"):
        run(Op.GATHER, at.GatherAttributes(kind=at.GatherKind.ND), seeded(3, 2), torch.tensor([[-4]]))


@pytest.mark.parametrize("largest", [True, False])
def test_equal_values_sort_by_their_index(largest):
    x = np.array([[3, 1, 3, 2, 1, 3], [0, 0, 0, 0, 0, 0]], dtype=np.float32)
    values, indices = run(Op.SORT, at.SortAttributes(axis=1, count=4, largest=largest), torch.tensor(x))
    reference = onnx_node("TopK", [x, np.array([4])], 2, runtime=True, axis=1, largest=int(largest))
    np.testing.assert_array_equal(values, reference[0])
    np.testing.assert_array_equal(indices, reference[1])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_running_totals_follow_onnx(exclusive, reverse):
    x = seeded(3, 5)
    attributes = {"axis": 1, "exclusive": exclusive, "reverse": reverse}
    (reference,) = onnx_node("CumSum", [x.numpy(), np.array(1)], exclusive=int(exclusive), reverse=int(reverse))
    close(run(Op.CUMULATIVE, at.CumulativeAttributes(kind=at.CumulativeKind.SUM, **attributes), x)[0], reference)
    products = run(Op.CUMULATIVE, at.CumulativeAttributes(kind=at.CumulativeKind.PROD, **attributes), x)[0]
    turned = x.flip(1) if reverse else x
    expected = torch.ones(3, 5)
    for i in range(5):
        expected[:, i] = turned[:, : i + (not exclusive)].prod(1)
    close(products, expected.flip(1) if reverse else expected)


# --- quantisers -------------------------------------------------------------------------------------------------------


def quantizer(kind, low, high, axis=None, zero=True):
    return at.QuantizeAttributes(kind=at.QuantizeKind(kind), low=low, high=high, axis=axis, has_zero_point=zero)


TIES = torch.tensor([[-1.25, -0.75, -0.25, 0.25], [0.75, 1.25, 40.0, -40.0]])


@pytest.mark.parametrize(("axis", "scale"), [(None, 0.5), (0, [0.5, 0.25]), (1, [0.5, 0.25, 1.0, 0.3])])
def test_codes_are_those_of_onnx(axis, scale):
    scale = np.array(scale, dtype=np.float32)
    zero = (np.arange(scale.size).reshape(scale.shape) * 3 - 2).astype(np.int8)
    inputs = [TIES.numpy(), scale, zero]
    extra = {} if axis is None else {"axis": axis}
    (codes,) = run(Op.QUANTIZE, quantizer("quantize", -128, 127, axis), TIES, fixed=[scale, zero])
    assert codes.dtype is torch.float32
    reference = onnx_node("QuantizeLinear", inputs, runtime=True, **extra)[0]
    np.testing.assert_array_equal(codes, reference)
    (values,) = run(Op.QUANTIZE, quantizer("dequantize", -128, 127, axis), codes, fixed=[scale, zero])
    np.testing.assert_array_equal(
        values, onnx_node("DequantizeLinear", [reference, scale, zero], runtime=True, **extra)[0]
    )
    (fake,) = run(Op.QUANTIZE, quantizer("fake", -128, 127, axis), TIES, fixed=[scale, zero])
    assert torch.equal(fake, values)


def test_integer_codes_do_not_wrap_around():
    codes = torch.tensor([3, 250], dtype=torch.uint8)
    (values,) = run(Op.QUANTIZE, quantizer("dequantize", 0, 255), codes, fixed=[np.float32(0.5), np.uint8(200)])
    assert values.tolist() == [-98.5, 25.0]


def test_fake_quantizers_are_those_of_torch():
    x = 3 * seeded(5, 64)
    scale, zero = torch.tensor([0.1, 0.05, 0.2, 0.01, 0.3]), torch.tensor([0, 3, -5, 1, 7], dtype=torch.int32)
    (ours,) = run(Op.QUANTIZE, quantizer("fake", -128, 127, 0), x, fixed=[scale, zero])
    close(ours, torch.fake_quantize_per_channel_affine(x, scale, zero, 0, -128, 127), 1e-6)
    (ours,) = run(Op.QUANTIZE, quantizer("fake", -8, 7), x, fixed=[np.float32(0.25), np.int64(2)])
    close(ours, torch.fake_quantize_per_tensor_affine(x, 0.25, 2, -8, 7), 1e-6)


def test_gradients_pass_straight_through_a_quantizer_and_stop_outside():
    builder = NetworkBuilder("fake")
    x = builder.input("x", TensorType(shape=(4,)))
    made = builder.add(
        Op.QUANTIZE, [x, constant("scale", np.float32(0.5))], quantizer("fake", -4, 3, zero=False), name="q"
    )
    value = torch.tensor([-3.0, -1.1, 1.4, 2.0], requires_grad=True)
    Executor(builder.finish(made)).run([value])[0].sum().backward()
    assert value.grad.tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("values", [seeded(4, 5), seeded(4, 5).abs() + 1, -seeded(4, 5).abs(), torch.zeros(2, 3)])
def test_a_dynamic_quantizer_is_that_of_onnx(values):
    ours = run(Op.QUANTIZE, quantizer("dynamic", 0, 255, zero=False), values)
    for mine, reference in zip(
        ours, onnx_node("DynamicQuantizeLinear", [values.numpy()], 3, runtime=True), strict=True
    ):
        np.testing.assert_allclose(mine, reference, rtol=1e-6)


# --- recurrent layers -------------------------------------------------------------------------------------------------

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6


@pytest.mark.parametrize("time_axis", [0, 1])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("kind", list(at.RecurrentKind), ids=str)
def test_recurrent_layers_are_those_of_torch(kind, state, time_axis):
    torch.manual_seed(0)
    shared = {"batch_first": time_axis == 1}
    module = {
        at.RecurrentKind.LSTM: lambda: nn.LSTM(INPUTS, HIDDEN, **shared),
        at.RecurrentKind.GRU: lambda: nn.GRU(INPUTS, HIDDEN, **shared),
        at.RecurrentKind.RNN_TANH: lambda: nn.RNN(INPUTS, HIDDEN, **shared),
        at.RecurrentKind.RNN_RELU: lambda: nn.RNN(INPUTS, HIDDEN, nonlinearity="relu", **shared),
    }[kind]()
    x = seeded(*((BATCH, STEPS) if time_axis else (STEPS, BATCH)), INPUTS)
    states = [seeded(BATCH, HIDDEN, seed=4), seeded(BATCH, HIDDEN, seed=5)][: 2 if kind is at.RecurrentKind.LSTM else 1]
    given = None
    if state:
        given = tuple(s[None] for s in states) if len(states) == 2 else states[0][None]
    with torch.no_grad():
        y, last = module(x, given)
        gates = F.linear(x, module.weight_ih_l0, module.bias_ih_l0)
        fixed = [module.weight_hh_l0.numpy(), module.bias_hh_l0.numpy(), *(s.numpy() for s in states if state)]
    attributes = at.RecurrentAttributes(kind=kind, hidden=HIDDEN, time_axis=time_axis, has_bias=True, has_state=state)
    ours = run(Op.RECURRENT, attributes, gates, fixed=fixed)
    close(ours[0], y)
    for mine, theirs in zip(ours[1:], last if isinstance(last, tuple) else (last,), strict=True):
        close(mine, theirs[0])


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_both_gru_forms_are_those_of_onnx_runtime(reverse, reset_after):
    w, r, x = seeded(18, INPUTS), seeded(18, HIDDEN, seed=1), seeded(STEPS, BATCH, INPUTS, seed=2)
    bias = seeded(36, seed=3)
    order = torch.cat([torch.arange(6, 12), torch.arange(6), torch.arange(12, 18)])  # ours r z n, theirs z r h
    y, last = onnx_node(
        "GRU", [x.numpy(), w[order][None].numpy(), r[order][None].numpy(),
                torch.cat([bias[:18][order], bias[18:][order]])[None].numpy()],
        2, runtime=True, hidden_size=HIDDEN, direction="reverse" if reverse else "forward",
        linear_before_reset=int(reset_after),
    )  # fmt: skip
    attributes = at.RecurrentAttributes(
        kind=at.RecurrentKind.GRU, hidden=HIDDEN, has_bias=True, reverse=reverse, reset_after=reset_after
    )
    ours = run(Op.RECURRENT, attributes, F.linear(x, w, bias[:18]), fixed=[r.numpy(), bias[18:].numpy()])
    close(ours[0], y[:, 0])
    close(ours[1], last[0])


def test_a_fixed_initial_state_serves_every_sample_of_a_batch():
    builder = NetworkBuilder("state")
    gates = builder.input("x", TensorType(shape=(STEPS, 1, HIDDEN), batch_axis=1))
    weight, h = seeded(HIDDEN, HIDDEN).numpy(), seeded(1, HIDDEN).numpy()
    attributes = at.RecurrentAttributes(kind=at.RecurrentKind.RNN_TANH, hidden=HIDDEN, has_state=True)
    y, _ = builder.add(Op.RECURRENT, [gates, constant("r", weight), constant("h", h)], attributes, name="rnn")
    executor = Executor(builder.finish([y]))
    x = seeded(STEPS, BATCH, HIDDEN)
    with torch.no_grad():
        (together,) = executor.run([x])
        for b in range(BATCH):
            close(together[:, b : b + 1], executor.run([x[:, b : b + 1]])[0])


def test_operators_without_floats_run_on_integers_and_booleans():
    whole = torch.tensor([[5, 1, 4], [2, 6, 3]])
    assert run(Op.SORT, at.SortAttributes(axis=1, count=2, largest=False), whole)[0].dtype is torch.int64
    (made,) = run(Op.CUMULATIVE, at.CumulativeAttributes(kind=at.CumulativeKind.SUM, axis=1), whole > 2)
    assert made.tolist() == [[1, 1, 2], [0, 1, 2]]
    attributes = at.ScatterAttributes(kind=at.GatherKind.ELEMENTS, axis=1)
    (made,) = run(Op.SCATTER, attributes, whole, torch.tensor([[0], [2]]), torch.tensor([[9], [9]]))
    assert made.tolist() == [[9, 1, 4], [2, 6, 9]]
