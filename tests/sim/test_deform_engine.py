"""The hardware twin of deformable layers against an engine that walks its line buffer in integers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.formats import Granularity, integer_format
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.quantize import best_step
from picojoule.sim.protocol import Arithmetic, OffsetArithmetic
from picojoule.sim.requantise import SHIFT, requantise, scale_of
from picojoule.twin import HardwareTwin

WEIGHT, ACTIVATION = integer_format(4, per=Granularity.CHANNEL), integer_format(8)


def engine(x, w, offset, stride, reach, bits, held=False):
    """Return the integer products of a depthwise 3x3 deformable layer, padding 1, as the engine makes them.

    x int [C, H, W]; w int [C, 9]; offset int [18, Oh, Ow]. The buffer holds `reach` rows above and below the pixel; rows enter
    and leave as the pixel moves down, and only rows in it can be read. `held`: taps beyond are read at the reach.
    """
    channels, height, width = x.shape
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    out = np.zeros((channels, *offset.shape[1:]), np.int64)
    buffer, entering = {}, 0
    for r in range(offset.shape[1]):
        middle_row = r * stride
        while entering < height and entering <= middle_row + reach:
            buffer[entering], entering = x[:, entering], entering + 1
        buffer = {row: pixels for row, pixels in buffer.items() if row >= middle_row - reach}
        assert len(buffer) <= 2 * reach + 1
        for c in range(offset.shape[2]):
            sums = [0] * channels
            for k in range(9):
                down, right = k // 3 - 1 + offset[2 * k, r, c], k % 3 - 1 + offset[2 * k + 1, r, c]
                if held:
                    down, right = max(-reach, min(reach, down)), max(-reach, min(reach, right))
                row, col = middle_row + down, c * stride + right
                if 0 <= row < height and 0 <= col < width:
                    pixels = buffer[row]  # KeyError: the row is not in the buffer
                    sums = [(s + int(w[i, k]) * int(pixels[i, col])) & mask for i, s in enumerate(sums)]
            out[:, r, c] = [s - 2 * half if s >= half else s for s in sums]
    return out


class Net(nn.Module):
    def __init__(self, groups=6, **form):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.deform = DeformConv2d(6, 6, groups=groups, bias=False, **form)

    def forward(self, x):
        return self.deform(self.stem(x).relu())


def made(std=2.0, **form):
    torch.manual_seed(0)
    module, x = Net(**form).eval(), torch.randn(2, 3, 11, 9)
    if module.deform.offset_conv is not None:
        nn.init.normal_(module.deform.offset_conv.weight, std=std)
    return module, x


def twin_of(module, x, *, bits=24, reach=None):
    arithmetic = Arithmetic(weight=WEIGHT, activation=ACTIVATION, accumulator_bits=bits)
    deformed = Arithmetic(
        weight=WEIGHT, activation=ACTIVATION, accumulator_bits=bits, offsets=OffsetArithmetic(reach=reach)
    )
    return HardwareTwin(
        module, x, SimpleNamespace(arithmetic=lambda y: deformed if y.op is Op.DEFORM_CONV else arithmetic)
    )


def integers(twin, x):
    """Return what the deformable layer read and made: codes of x and w, whole offsets, and its products."""
    (layer,) = (y for y in twin.network.layers if y.op is Op.DEFORM_CONV)
    seen = {}
    with torch.no_grad():
        (y,) = twin._executor.run([x], lambda at, operands: seen.update({at.name: operands}))
    read, weight, offset = seen[layer.name][:3]
    quantizer = twin._calibration.quantizers[layer.name, layer.operands[0].name]
    step_w = best_step(weight, WEIGHT, 0)
    codes = np.clip(np.rint(read.numpy() / np.float32(quantizer.step)), quantizer.format.qmin, quantizer.format.qmax)
    filters = np.clip(np.rint((weight / step_w).numpy()), WEIGHT.qmin, WEIGHT.qmax).reshape(len(weight), 9)
    products = y.double().numpy() / (quantizer.step * step_w.double().reshape(1, -1, 1, 1).numpy())
    whole = np.rint(products)
    assert np.abs(products - whole).max() < 0.01
    return codes.astype(np.int64), filters.astype(np.int64), np.rint(offset.numpy()).astype(np.int64), whole


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("form", "reach"),
    [
        ({"form": "square", "bound": 4, "rounded": True}, 4),
        ({"form": "bound", "bound": 3, "rounded": True}, 4),
        ({"form": "bound", "bound": 2.6}, 4),  # rounded by the engine
        ({"form": "fixed"}, 1),
    ],
    ids=str,
)
def test_integer_products_are_those_of_the_line_buffer(form, reach, stride):
    module, x = made(stride=stride, **form)
    codes, filters, offset, products = integers(twin_of(module, x), x)
    assert len(np.unique(offset)) > 2 or form["form"] == "fixed"
    for b in range(len(x)):
        np.testing.assert_array_equal(engine(codes[b], filters, offset[b], stride, reach, 24), products[b])


def test_narrow_accumulators_wrap_around():
    module, x = made(form="square", bound=4, rounded=True)
    codes, filters, offset, products = integers(twin_of(module, x, bits=9), x)
    np.testing.assert_array_equal(engine(codes[0], filters, offset[0], 1, 4, 9), products[0])
    assert (products[0] != engine(codes[0], filters, offset[0], 1, 4, 24)).any()


def test_taps_beyond_the_line_buffer_are_held_at_its_edge():
    module, x = made(std=6.0, form="free")
    codes, filters, offset, products = integers(twin_of(module, x, reach=3), x)
    assert np.abs(offset).max() > 4
    with pytest.raises(KeyError):
        engine(codes[0], filters, offset[0], 1, 3, 24)
    np.testing.assert_array_equal(engine(codes[0], filters, offset[0], 1, 3, 24, held=True), products[0])


def test_gradients_reach_the_users_own_parameters():
    module, x = made(form="square", bound=4, rounded=True, std=0.3)
    twin = twin_of(module, x)
    twin(x).square().sum().backward()
    through = {name: p.grad.clone() for name, p in module.named_parameters()}
    assert set(through) == {
        "stem.weight",
        "stem.bias",
        "deform.weight",
        "deform.offset_conv.weight",
        "deform.offset_conv.bias",
    }
    module.zero_grad()
    module(x).square().sum().backward()
    for name, p in module.named_parameters():  # straight through: those of the float module, nearly
        cosine = torch.nn.functional.cosine_similarity(through[name].flatten(), p.grad.flatten(), dim=0)
        assert cosine > 0.5, name


def test_without_offsets_the_twin_is_that_of_the_depthwise_convolution():
    torch.manual_seed(0)
    deform, plain = DeformConv2d(6, 6, groups=6, form="square", rounded=True), nn.Conv2d(6, 6, 3, padding=1, groups=6)
    plain.load_state_dict({"weight": deform.weight, "bias": deform.bias})
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(twin_of(deform, x)(x), twin_of(plain, x)(x))
    assert torch.equal(deform(x), plain(x))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_offsets_that_are_no_numbers_are_refused(bad):
    module, x = made(form="free")
    twin = twin_of(module, x)
    with torch.no_grad():
        module.deform.offset_conv.bias[3] = bad
    with pytest.raises(InputError) as error:
        twin(x)
    assert str(error.value) == (
        "layer 'deform': an offset is NaN or infinite, and hardware that reads whole pixels has no address for it; look at what "
        "the offset convolution is given"
    )


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("groups", [1, 6])
def test_tiny_maps_run_on_the_published_engine(size, groups):
    module, _ = made(form="square", bound=7, rounded=True, groups=groups)
    x = torch.randn(2, 3, size, size)
    twin = pj.hardware_twin(module, x, "ultra96-codenet")
    assert twin(x).shape == module(x).shape


# --- the requantiser ----------------------------------------------------------------------------------------------------


def test_a_requantiser_by_hand():
    sums = np.array([-70000, -1, 0, 1, 65536, 1000000])
    assert requantise(sums, 32768, 16, 3, 0, 127).tolist() == [0, 2, 3, 3, 127, 127]
    assert requantise(sums, 1, SHIFT, 0, -128, 127).tolist() == [-2, -1, 0, 0, 1, 15]


def test_it_is_within_one_code_of_the_real_multiplication():
    rng = np.random.default_rng(0)
    sums, ratio = rng.integers(-(2**19), 2**19, (5000, 4)), rng.uniform(2**-13, 2**-12, 4)
    bias = rng.integers(-20, 20, 4)
    exact = np.clip(np.rint(sums * ratio + bias), -127, 127)
    assert np.abs(requantise(sums, scale_of(ratio), SHIFT, bias, -127, 127) - exact).max() <= 1 + 2**19 * 2.0**-17
    small = np.abs(sums) < 2**16  # where the scale's own rounding is below half a code
    assert np.abs(requantise(sums, scale_of(ratio), SHIFT, bias, -127, 127) - exact)[small].max() <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: requantise(np.array([1]), 65536, 16, 0, 0, 9),
            "a requantiser's scale has 16 bits, got 65536 to 65536",
        ),
        (lambda: requantise(np.array([2**40]), 1, 16, 0, 0, 9), "a requantiser takes accumulators of up to 32 bits"),
        (
            lambda: requantise(np.array([0.5]), 1, 16, 0, 0, 9),
            "requantise takes whole numbers, got float64 and a scale of int64",
        ),
        (
            lambda: scale_of(1.5),
            "a requantiser multiplies by less than 1 (16 bits, shifted by 16), got 1.5; take a larger step",
        ),
    ],
)
def test_a_requantiser_refuses_what_it_cannot_hold(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value) == message
