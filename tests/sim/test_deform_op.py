"""The operator against a plain NumPy twin, torch's grid_sample, finite differences, and torch's ordinary convolution."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from picojoule.sim.errors import InputError
from picojoule.sim.numerics.deform_op import deform_conv2d


def pixel(plane, row, col):
    inside = 0 <= row < plane.shape[0] and 0 <= col < plane.shape[1]
    return plane[row, col] if inside else 0.0


def bilinear(plane, y, x):
    """Return the plane's value at a real position; zero outside."""
    if not (-1 < y < plane.shape[0] and -1 < x < plane.shape[1]):
        return 0.0
    row, col = int(np.floor(y)), int(np.floor(x))
    below, right = y - row, x - col
    above = (1 - right) * pixel(plane, row, col) + right * pixel(plane, row, col + 1)
    return (1 - below) * above + below * (
        (1 - right) * pixel(plane, row + 1, col) + right * pixel(plane, row + 1, col + 1)
    )


def twin(x, weight, offset, mask, stride, padding, dilation, groups, offset_groups):
    """Plain NumPy twin of the compiled kernels: slow, and obviously right."""
    out, share, kh, kw = weight.shape
    y = np.zeros((len(x), out, *offset.shape[2:]))
    per_offsets, per_filters = x.shape[1] // offset_groups, out // groups
    for b, o, r, c in np.ndindex(y.shape):
        for i, k in np.ndindex(share, kh * kw):
            channel = (o // per_filters) * share + i
            entry = (channel // per_offsets) * kh * kw + k
            row = r * stride[0] - padding[0] + (k // kw) * dilation[0] + offset[b, 2 * entry, r, c]
            col = c * stride[1] - padding[1] + (k % kw) * dilation[1] + offset[b, 2 * entry + 1, r, c]
            scale = 1.0 if mask is None else mask[b, entry, r, c]
            y[b, o, r, c] += weight[o, i, k // kw, k % kw] * scale * bilinear(x[b, channel], row, col)
    return y


def grid_sample_formulation(x, weight, offset, groups):
    """Return a 3x3 convolution with padding 1 as one F.grid_sample per tap and a product; what the operator is compared with."""
    _, channels, height, width = x.shape
    row, col = torch.arange(height).view(1, -1, 1).to(x), torch.arange(width).view(1, 1, -1).to(x)
    columns = []
    for tap in range(9):
        y = row - 1 + tap // 3 + offset[:, 2 * tap]
        z = col - 1 + tap % 3 + offset[:, 2 * tap + 1]
        grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1)
        columns.append(F.grid_sample(x, grid, align_corners=False))
    stacked = torch.stack(columns, 2)
    if groups == channels:
        return torch.einsum("bckhw,ck->bchw", stacked, weight.reshape(channels, 9))
    return torch.einsum("bckhw,ock->bohw", stacked, weight.reshape(len(weight), channels, 9))


@st.composite
def calls(draw):
    groups, offset_groups = draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (4, 1), (4, 4), (2, 4)]))
    channels, out = 4, groups * draw(st.integers(1, 2))
    kernel, stride, dilation = ((draw(st.integers(1, high)), draw(st.integers(1, high))) for high in (3, 2, 2))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    height, width = draw(st.integers(5, 6)), draw(st.integers(5, 6))
    size = [
        (n + padding[i] + padding[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i, n in enumerate((height, width))
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    taps = kernel[0] * kernel[1] * offset_groups
    offset = rng.normal(scale=draw(st.sampled_from([0.5, 3.0])), size=(2, 2 * taps, *size))
    if draw(st.booleans()):
        offset = np.rint(offset)
    offset[rng.random(offset.shape) < 0.05] = draw(st.sampled_from([-1.0, 1e9, -1e9, np.inf]))
    mask = rng.random((2, taps, *size)) if draw(st.booleans()) else None
    x, weight = rng.normal(size=(2, channels, height, width)), rng.normal(size=(out, channels // groups, *kernel))
    return x, weight, offset, mask, stride, padding, dilation, groups, offset_groups


def torches(*arrays):
    return [None if a is None else torch.from_numpy(np.array(a)) for a in arrays]


@settings(max_examples=12, deadline=None)
@given(calls())
def test_equals_its_slow_twin(call):
    check_twin(call)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(calls())
def test_equals_its_slow_twin_on_many(call):
    check_twin(call)


def check_twin(call):
    x, weight, offset, mask = torches(*call[:4])
    bias = torch.arange(len(weight)).double()
    y = deform_conv2d(x, weight, offset, mask, bias, *call[4:])
    np.testing.assert_allclose(y, twin(*call) + np.arange(len(weight)).reshape(1, -1, 1, 1), atol=1e-9)


@pytest.mark.parametrize("groups", [1, 8])
@pytest.mark.parametrize("rounded", [False, True])
def test_equals_the_grid_sample_formulation_and_its_gradients(groups, rounded):
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 9, 10).double(), torch.randn(8, 8 // groups, 3, 3).double()
    offset = 2 * torch.randn(2, 18, 9, 10).double()
    leaves = [t.requires_grad_() for t in (x, weight, offset.round() if rounded else offset)]
    made = deform_conv2d(*leaves, None, None, (1, 1), (1, 1, 1, 1), (1, 1), groups, 1)
    plain = grid_sample_formulation(*leaves, groups)
    torch.testing.assert_close(made, plain)
    wanted = 2 if rounded else 3  # at whole positions the other one may look above and left
    given_back = [torch.autograd.grad(y.square().sum(), leaves) for y in (made, plain)]
    for ours, theirs in list(zip(*given_back, strict=True))[:wanted]:
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("groups", "offset_groups", "modulated"), [(1, 1, True), (4, 2, False), (2, 4, True), (4, 1, True)]
)
def test_gradients_are_those_of_finite_differences(groups, offset_groups, modulated):
    torch.manual_seed(1)
    x, weight, bias = torch.randn(2, 4, 4, 5), torch.randn(4, 4 // groups, 2, 2), torch.randn(4)
    offset = torch.rand(2, 8 * offset_groups, 3, 5) * 5 - 2.5
    mask = torch.randn(2, 4 * offset_groups, 3, 5) if modulated else None
    leaves = [None if t is None else t.double().requires_grad_() for t in (x, weight, offset, mask, bias)]
    rest = ((2, 1), (1, 0, 2, 1), (1, 1), groups, offset_groups)
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, *rest), leaves, fast_mode=True)


def test_the_gradient_of_a_whole_offset_looks_to_both_sides():
    x = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]]]])
    offset = torch.zeros(1, 2, 3, 3, requires_grad=True)
    y = deform_conv2d(x, torch.ones(1, 1, 1, 1), offset, None, None, (1, 1), (0,) * 4, (1, 1), 1, 1)
    (y[0, 0, 1, 1] + y[0, 0, 0, 2]).backward()
    assert offset.grad[0, :, 1, 1].tolist() == [(128 - 2) / 2, (32 - 8) / 2]
    assert offset.grad[0, :, 0, 2].tolist() == [32 / 2, -2 / 2]  # outside there are zeros


def test_gradients_at_kinks_are_what_small_steps_to_both_sides_measure():
    torch.manual_seed(5)
    x, weight = torch.randn(1, 2, 4, 5, dtype=torch.float64), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    offset = torch.randint(-4, 5, (1, 18, 4, 5)).double() + 0.5 * torch.randint(0, 2, (1, 18, 4, 5))
    rest = (None, None, (1, 1), (1,) * 4, (1, 1), 1, 1)
    leaves = [t.requires_grad_() for t in (x, weight, offset)]
    assert torch.autograd.gradcheck(lambda *t: deform_conv2d(*t, *rest), leaves)


@pytest.mark.parametrize(("groups", "padding"), [(1, (1, 1, 1, 1)), (6, (1, 1, 1, 1)), (2, (0, 1, 2, 1))])
def test_without_offsets_it_is_the_ordinary_convolution_bit_for_bit(groups, padding):
    torch.manual_seed(2)
    x, weight, bias = torch.randn(2, 6, 9, 9), torch.randn(6, 6 // groups, 3, 3), torch.randn(6)
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    top, left, bottom, right = padding
    plain = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, 2, 0, 1, groups)
    if padding == (1, 1, 1, 1):
        plain = F.conv2d(x, weight, bias, 2, 1, 1, groups)
    offset = torch.zeros(2, 18, *plain.shape[2:])
    made = deform_conv2d(x, weight, offset, None, bias, (2, 2), padding, (1, 1), groups, 1)
    assert torch.equal(made, plain)
    kept = torch.autograd.grad(made.sum(), leaves, retain_graph=True)
    for ours, theirs in zip(kept, torch.autograd.grad(plain.sum(), leaves), strict=True):
        torch.testing.assert_close(ours, theirs)
    moving = deform_conv2d(x, weight, offset + 1e-9, None, bias, (2, 2), padding, (1, 1), groups, 1)
    torch.testing.assert_close(moving, plain, atol=1e-4, rtol=1e-4)  # by the kernels


def test_a_nan_offset_spoils_its_own_sample_only():
    offset = torch.full((1, 18, 4, 4), 0.5)
    offset[0, 3, 1, 2] = torch.nan
    y = deform_conv2d(
        torch.randn(1, 2, 4, 4), torch.ones(1, 2, 3, 3), offset, None, None, (1, 1), (1,) * 4, (1, 1), 1, 1
    )
    assert y.isnan().nonzero().tolist() == [[0, 0, 1, 2]]


def test_lower_precision_is_computed_in_single():
    torch.manual_seed(3)
    x, weight, offset = torch.randn(1, 4, 5, 5), torch.randn(4, 4, 3, 3), torch.randn(1, 18, 5, 5)
    rest = (None, None, (1, 1), (1,) * 4, (1, 1), 1, 1)
    made = deform_conv2d(x.bfloat16(), weight, offset, *rest)
    assert made.dtype is torch.bfloat16
    assert torch.equal(made, deform_conv2d(x.bfloat16().float(), weight, offset, *rest).bfloat16())


def test_torch_counts_its_operations_as_those_of_a_convolution():
    x, weight = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(8, 2, 3, 3, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        deform_conv2d(x, weight, torch.randn(2, 18, 6, 6), None, None, (1, 1), (1,) * 4, (1, 1), 2, 1).sum().backward()
    plain = 2 * 2 * 8 * 36 * 2 * 9
    assert sorted(counter.get_flop_counts()["Global"].values()) == [plain, 2 * plain]


def test_torch_finds_nothing_to_object_to():
    x, weight = torch.randn(2, 2, 4, 4), torch.randn(2, 1, 3, 3, requires_grad=True)
    arguments = (x, weight, torch.randn(2, 18, 4, 4), None, None, (1, 1), (1,) * 4, (1, 1), 2, 1)
    torch.library.opcheck(
        torch.ops.picojoule.deform_conv2d.default, arguments, test_utils=("test_schema", "test_faketensor")
    )


X, WEIGHT, OFFSET = torch.zeros(1, 4, 5, 5), torch.zeros(4, 4, 3, 3), torch.zeros(1, 18, 5, 5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"offset": torch.zeros(1, 9, 5, 5)},
            "deform_conv2d: offset must have shape [1, 18, 5, 5] for these windows, got [1, 9, 5, 5]",
        ),
        (
            {"mask": torch.zeros(1, 18, 5, 5)},
            "deform_conv2d: mask must have shape [1, 9, 5, 5] for these windows, got [1, 18, 5, 5]",
        ),
        ({"x": X[0]}, "deform_conv2d: x must be a real tensor of 4 axes, got torch.float32 [4, 5, 5]"),
        ({"x": X.long()}, "deform_conv2d: x must be a real tensor of 4 axes, got torch.int64 [1, 4, 5, 5]"),
        ({"groups": 2}, "deform_conv2d: 4 filters of 4 channels in 2 groups do not fit 4 channels"),
        ({"offset_groups": 3}, "deform_conv2d: 4 channels cannot be shared by 3 offset groups"),
        ({"bias": torch.zeros(3)}, "deform_conv2d: 4 filters but a bias of 3"),
        ({"dilation": (9, 1)}, "deform_conv2d: a window of [3, 3] does not fit the ifmap [5, 5] with its padding"),
        (
            {"padding": (1, 1)},
            "deform_conv2d: stride and dilation must be two numbers from 1 on and padding four from 0 on, got [1, 1], [1, 1] "
            "and [1, 1]",
        ),
    ],
)
def test_operands_that_do_not_fit_are_refused(changed, message):
    given_ones = {
        "x": X, "weight": WEIGHT, "offset": OFFSET, "mask": None, "bias": None, "stride": (1, 1), "padding": (1,) * 4,
        "dilation": (1, 1), "groups": 1, "offset_groups": 1,
    }  # fmt: skip
    with pytest.raises(InputError) as error:
        deform_conv2d(**given_ones | changed)
    assert str(error.value) == message
