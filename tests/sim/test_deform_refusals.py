"""What deformable layers refuse, in one sentence: constructor arguments, maps, offsets, and what is recorded."""

import numpy as np
import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.numerics.deform import hardware_offsets
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.protocol import OffsetArithmetic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"form": "round"}, "DeformConv2d: unknown form 'round'; choose from free, bound, square, fixed"),
        ({"form": "bound"}, "DeformConv2d: form 'bound' needs bound=, the largest offset in pixels (the paper has 7)"),
        ({"bound": float("nan")}, "DeformConv2d: bound must be a positive number of pixels, got nan"),
        (
            {"form": "square", "bound": 0.5},
            "DeformConv2d: a square starts at d = 1, so its bound must be at least 1, got 0.5",
        ),
        (
            {"form": "square", "kernel_size": 2},
            "DeformConv2d: a square has a middle tap, so kernel_size must be odd, got (2, 2)",
        ),
        (
            {"form": "fixed", "bound": 2},
            "DeformConv2d: form 'fixed' has no offsets, so it takes neither bound= nor modulated=True",
        ),
        ({"groups": 3}, "DeformConv2d: 4 channels do not divide into groups=3"),
        ({"stride": 0}, "DeformConv2d: stride must be a whole number from 1 on, or two of them (y, x), got 0"),
        (
            {"kernel_size": 3.0},
            "DeformConv2d: kernel_size must be a whole number from 1 on, or two of them (y, x), got 3.0",
        ),
        (
            {"kernel_size": (3,)},
            "DeformConv2d: kernel_size must be a whole number from 1 on, or two of them (y, x), got (3,)",
        ),
        (
            {"dilation": (3, 3, 5)},
            "DeformConv2d: dilation must be a whole number from 1 on, or two of them (y, x), got (3, 3, 5)",
        ),
        (
            {"padding": "same"},
            "DeformConv2d: padding must be a whole number from 0 on, or two of them (y, x), got 'same'",
        ),
        ({"padding": -1}, "DeformConv2d: padding must be a whole number from 0 on, or two of them (y, x), got -1"),
        ({"in_channels": 4.0}, "DeformConv2d: in_channels must be a whole number from 1 on, got 4.0"),
        ({"out_channels": 0}, "DeformConv2d: out_channels must be a whole number from 1 on, got 0"),
        ({"groups": True}, "DeformConv2d: groups must be a whole number from 1 on, got True"),
        ({"offset_groups": None}, "DeformConv2d: offset_groups must be a whole number from 1 on, got None"),
        ({"offset_kernel": (3, 3)}, "DeformConv2d: offset_kernel must be a whole number from 1 on, got (3, 3)"),
        ({"bound": "7"}, "DeformConv2d: bound must be a positive number of pixels, got '7'"),
        (
            {"bound": 0.5, "rounded": True},
            "DeformConv2d: whole offsets within 0.5 are all 0; take bound=1 or more, or form='fixed'",
        ),
        (
            {"kernel_size": 2, "offset_kernel": 1},
            "DeformConv2d: an offset convolution of 1 cannot be centered on a kernel of (2, 2); take offset_kernel=2 or odd "
            "kernels",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError) as error:
        DeformConv2d(**({"in_channels": 4, "out_channels": 4} | arguments))
    assert str(error.value) == message


def test_sizes_may_be_lists_and_numbers_of_numpy():
    module = DeformConv2d(np.int64(4), 4, [3, 5], padding=(np.int32(1), 2))
    assert (module.kernel_size, module.padding, module.in_channels) == ((3, 5), (1, 2), 4)
    assert {type(v) for v in (*module.kernel_size, *module.padding, module.in_channels)} == {int}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 3, 8, 8), "DeformConv2d: takes 4 channels, got 3 in [1, 3, 8, 8]"),
        (
            torch.zeros(4, 8, 8),
            "DeformConv2d: its input must be a real tensor [B, C, H, W], got torch.float32 [4, 8, 8]",
        ),
        (
            torch.zeros(1, 4, 8, 8, dtype=torch.int64),
            "DeformConv2d: its input must be a real tensor [B, C, H, W], got torch.int64 [1, 4, 8, 8]",
        ),
        (np.zeros((1, 4, 8, 8)), "DeformConv2d: its input must be a real tensor [B, C, H, W], got ndarray"),
        (
            torch.zeros(1, 4, 8, 2),
            "DeformConv2d: the map must be at least 3 x 3 for a kernel of (3, 3) with dilation (2, 2) and padding (1, 1), got "
            "[8, 2]",
        ),
    ],
    ids=["channels", "axes", "integers", "array", "small"],
)
@pytest.mark.parametrize("form", ["free", "fixed"])
def test_maps_that_do_not_fit_are_refused(form, x, message):
    module = DeformConv2d(4, 4, dilation=2, form=form)
    for call in (module, module.offsets):
        with pytest.raises(InputError) as error:
            call(x)
        assert str(error.value) == message
    assert module(torch.zeros(1, 4, 3, 3)).shape == (1, 4, 1, 1)


@pytest.mark.parametrize("how", [None, OffsetArithmetic(rounded=False), OffsetArithmetic()], ids=str)
def test_only_an_engine_that_rounds_is_said_to_read_whole_pixels(how):
    network = pj.trace(DeformConv2d(2, 2).eval(), torch.randn(1, 2, 4, 4))
    (layer,) = (y for y in network.layers if y.op is Op.DEFORM_CONV)
    offset = torch.full((1, 18, 4, 4), torch.nan)
    with pytest.raises(InputError) as error:
        hardware_offsets(layer, offset, how)
    rounds = how is not None and how.rounded
    said = "and hardware that reads whole pixels has no address for it" if rounds else "which is no place in the ifmap"
    sentence = (
        f"layer '{layer.name}': an offset is NaN or infinite, {said}; look at what the offset convolution is given"
    )
    assert str(error.value) == sentence


NETWORK = nn.Sequential(DeformConv2d(2, 2))


@pytest.mark.parametrize(
    ("network", "x", "message"),
    [
        ("x", "x", "record_offsets takes a network or a torch module, got str"),
        (None, torch.zeros(1, 2, 4, 4), "record_offsets takes a network or a torch module, got NoneType"),
        (
            NETWORK,
            None,
            "example inputs are a tensor, a sequence of them, or a mapping of argument names to them, got NoneType",
        ),
        (
            NETWORK,
            "x",
            "example inputs are a tensor, a sequence of them, or a mapping of argument names to them, got str",
        ),
        (NETWORK, [None], "example input 0 must be a tensor, got NoneType"),
    ],
)
def test_what_is_no_network_or_input_is_not_recorded(network, x, message):
    traced = [pj.trace(network.eval(), torch.zeros(1, 2, 4, 4))] if isinstance(network, nn.Module) else []
    for given in (network, *traced):
        with pytest.raises(InputError) as error:
            pj.record_offsets(given, x)
        assert str(error.value) == message


def test_too_few_inputs_are_not_recorded():
    for given in (NETWORK, pj.trace(NETWORK.eval(), torch.zeros(1, 2, 4, 4))):
        with pytest.raises(InputError):
            pj.record_offsets(given, [])


class Adding(nn.Module):
    def __init__(self):
        super().__init__()
        self.deform = DeformConv2d(2, 2, 1, padding=0)
        nn.init.constant_(self.deform.offset_conv.weight, 1.0)

    def forward(self, x, y):
        return self.deform(x) + y


def test_inputs_by_name_are_taken_by_name():
    x, y = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    module = Adding().eval()
    network = pj.trace(module, (x, y))
    for given in (module, network):
        (found,) = pj.record_offsets(given, {"y": y, "x": x}).offsets.values()
        assert (found == 2).all()
    with pytest.raises(InputError, match=r"^inputs of Adding are x, y, got x, z$"):
        pj.record_offsets(network, {"x": x, "z": y})
