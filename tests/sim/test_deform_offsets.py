"""What the workload says about offsets, and offsets as data: recorded, saved, refused."""

import json
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import picojoule as pj
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.deform_op import deform_conv2d
from picojoule.sim.offsets import OffsetForm, OffsetStatistics, OffsetTrace, Sampling, sampling_of

X = torch.randn(2, 3, 8, 7)
GRID = torch.tensor([[i, j] for i in (-1.0, 0, 1) for j in (-1.0, 0, 1)]).reshape(1, 18, 1, 1)


class Own(nn.Module):
    """A user's module: offsets by a function of what a convolution makes."""

    def __init__(self, channels, make):
        super().__init__()
        self.conv, self.weight = nn.Conv2d(3, channels, 1), nn.Parameter(torch.randn(4, 3, 3, 3))
        self.register_buffer("grid", GRID)
        self.make = make

    def forward(self, x):
        offset = self.make(self, self.conv(x))
        return deform_conv2d(x, self.weight, offset, None, None, (1, 1), (1,) * 4, (1, 1), 1, 1)


def joined(_, d):
    """Return square offsets the long way: a concatenation of d - 1, its negative and zero."""
    d = d.relu().clamp(max=8) - 1
    signs = GRID.flatten().tolist()
    return torch.cat([d * 0 if s == 0 else d if s > 0 else -d for s in signs], 1)


def apart(_, moves):
    """Return a dilation of its own for rows and for columns: nearly a square, but of two numbers."""
    rows, cols = moves[:, :1] - 1, moves[:, 1:] - 1
    return torch.cat([(cols if k % 2 else rows) * s for k, s in enumerate(GRID.flatten().tolist())], 1)


def straight_through(_, moves):
    clipped = moves.clamp(-4, 4)
    return clipped + (clipped.round() - clipped).detach()


def channels_last(_, moves):
    return moves.permute(0, 2, 3, 1).clamp(-2, 2).permute(0, 3, 1, 2)


CASES = {
    "free": (DeformConv2d(3, 4), OffsetForm.FREE, None, None, False, 0, "offset_conv"),
    "rounded": (DeformConv2d(3, 4, rounded=True), OffsetForm.FREE, None, None, True, 1, "offset_conv"),
    "bound": (DeformConv2d(3, 4, form="bound", bound=7), OffsetForm.BOUND, -7, 7, False, 1, "offset_conv"),
    "square": (
        DeformConv2d(3, 4, form="square", bound=5, rounded=True), OffsetForm.SQUARE, 0, 5, True, 6, "offset_conv",
    ),
    "open square": (DeformConv2d(3, 4, form="square", offset_groups=3), OffsetForm.SQUARE, 0, None, False, 5, "offset_conv"),
    "dilated square": (
        DeformConv2d(3, 4, 5, padding=4, dilation=2, form="square", bound=3), OffsetForm.SQUARE, 0, 3, False, 5, "offset_conv",
    ),
    "fixed": (DeformConv2d(3, 4, form="fixed"), OffsetForm.FIXED, 0, 0, True, 1, ""),
    "d times the grid": (
        Own(1, lambda self, d: d.clamp(0, 8) * self.grid - self.grid), OffsetForm.SQUARE, 0, 8, False, 3, "conv",
    ),
    "joined": (Own(1, joined), OffsetForm.SQUARE, 0, 8, False, None, "conv"),
    "tanh": (Own(18, lambda _, m: 7 * m.tanh()), OffsetForm.BOUND, -7, 7, False, 1, "tanh"),
    "one side": (Own(18, lambda _, m: m.clamp(min=-3)), OffsetForm.FREE, -3, None, False, 1, "conv"),
    "numbers": (
        Own(18, lambda _, m: torch.minimum(m.relu(), torch.tensor(6.0)).round()), OffsetForm.BOUND, 0, 6, True, None, "conv",
    ),
    "straight through": (Own(18, straight_through), OffsetForm.BOUND, -4, 4, True, 4, "conv"),
    "channels last": (Own(18, channels_last), OffsetForm.BOUND, -2, 2, False, 3, "conv"),
    "half pixels": (Own(18, lambda _, m: m.round() / 2), OffsetForm.FREE, None, None, False, 2, "conv"),
    "half beside": (Own(18, lambda _, m: m.clamp(-4, 4).round() + 0.5), OffsetForm.BOUND, -3.5, 4.5, False, 3, "conv"),
    "rows and columns apart": (Own(2, apart), OffsetForm.FREE, None, None, False, 0, "cat"),
    "another pattern": (Own(1, lambda self, d: d * self.grid.flip(1)), OffsetForm.FREE, None, None, False, 0, "mul"),
    "two sources": (Own(18, lambda _, m: m.clamp(-1, 1) * m), OffsetForm.FREE, None, None, False, 0, "mul"),
    "another one per pixel": (
        Own(18, lambda _, m: m.clamp(-1, 1) + torch.arange(7.0)), OffsetForm.FREE, None, None, False, 0, "add",
    ),
}  # fmt: skip


def deform_layer(network):
    return next(layer for layer in network.layers if layer.op is Op.DEFORM_CONV)


@pytest.mark.parametrize("name", CASES)
def test_a_network_says_how_its_offsets_come_about(name, tmp_path):
    module, form, low, high, rounded, absorbed, source = CASES[name]
    network = pj.trace(module.eval(), X)
    pj.export(network, tmp_path / "net.onnx")
    for read in (network, pj.load(tmp_path / "net.onnx")):
        found = sampling_of(read, deform_layer(read))
        assert (found.form, found.low, found.high, found.rounded) == (form, low, high, rounded)
        assert found.source_value.removesuffix(":0").endswith(source)
        if absorbed is not None:
            assert len(found.absorbed) == absorbed
        kept = [layer.name for layer in read.layers if layer.name not in found.absorbed]
        assert all(read.values()[r.name] for layer in read.layers for r in layer.results)
        assert deform_layer(read).name in kept


def test_a_layer_that_serves_something_else_too_is_not_absorbed():
    class Shared(Own):
        def forward(self, x):
            moves = self.conv(x).clamp(-2, 2)
            return deform_conv2d(x, self.weight, moves.round(), None, None, (1, 1), (1,) * 4, (1, 1), 1, 1), moves

    network = pj.trace(Shared(18, None).eval(), X)
    found = sampling_of(network, deform_layer(network))
    assert (found.form, found.low, found.high, found.absorbed, found.source_value) == (
        OffsetForm.BOUND, -2, 2, ("round",), "clamp",
    )  # fmt: skip


def test_two_layers_may_share_what_makes_their_offsets():
    class Twice(Own):
        def forward(self, x):
            moves = self.conv(x).clamp(-2, 2)
            parts = [deform_conv2d(x, self.weight, moves, None, None, (1, 1), (1,) * 4, (1, 1), 1, 1) for _ in "ab"]
            return parts[0] + parts[1]

    network = pj.trace(Twice(18, None).eval(), X)
    for layer in network.layers:
        if layer.op is Op.DEFORM_CONV:
            assert sampling_of(network, layer).absorbed == ("clamp",)


def test_only_deformable_layers_have_a_sampling():
    network = pj.trace(nn.Conv2d(3, 4, 1), X)
    with pytest.raises(InputError) as error:
        sampling_of(network, network.layers[0])
    assert str(error.value).endswith("is a conv, not a deformable convolution")


@pytest.mark.parametrize(
    ("form", "low", "high", "kernel", "dilation", "reach"),
    [
        ("square", 0, 7, (3, 3), (1, 1), 7),
        ("square", 0, 4, (5, 3), (1, 2), 8),
        ("bound", -7, 7, (3, 3), (1, 1), 8),
        ("bound", -1, 6, (5, 5), (2, 1), 10),
        ("fixed", 0, 0, (3, 3), (1, 2), 2),
        ("free", None, None, (3, 3), (1, 1), None),
        ("free", -3, None, (3, 3), (1, 1), None),
    ],
)
def test_the_reach_of_taps(form, low, high, kernel, dilation, reach):
    sampling = Sampling(form=OffsetForm(form), low=low, high=high, rounded=True)
    assert sampling.reach(kernel, dilation) == reach


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.sampled_from([1, 2]), st.integers(0, 2**16))
def test_recorded_offsets_stay_within_the_stated_range(bound, dilation, seed):
    torch.manual_seed(seed)
    module = DeformConv2d(3, 3, 3, padding=dilation, dilation=dilation, form="square", bound=bound, rounded=True)
    nn.init.normal_(module.offset_conv.weight, std=3.0)
    network = pj.trace(module.eval(), X)
    layer = deform_layer(network)
    trace = pj.record_offsets(network, X)
    reach = sampling_of(network, layer).reach((3, 3), (dilation, dilation))
    moved = trace.of(layer) + dilation * GRID.numpy().astype(int)
    assert np.abs(moved).max() <= reach == max(bound, 0) * dilation
    np.testing.assert_array_equal(trace.of(layer), module.offsets(X).detach().numpy())


def test_offsets_are_recorded_rounded_and_within_int16():
    module = DeformConv2d(1, 1, 1, padding=0)
    nn.init.constant_(module.offset_conv.weight, 1.0)
    x = torch.tensor([0.5, 1.5, 1e9, -1e9, -2.5]).reshape(1, 1, 1, 5)
    trace = pj.record_offsets(module, x)
    ((name, found),) = trace.offsets.items()
    assert (found[0, 0, 0].tolist(), found.dtype, trace.source) == ([0, 2, 32767, -32767, -2], np.int16, "data")
    assert pj.record_offsets(module, x.numpy()).digest() == trace.digest()
    with torch.no_grad():
        module.offset_conv.bias[1] = torch.nan
    with pytest.raises(InputError) as error:
        pj.record_offsets(module, x)
    assert str(error.value) == (
        f"layer '{name}': 5 of 10 offsets are NaN or infinite; look at what its offset convolution is given, or train it again"
    )


def test_a_network_without_offsets_has_none_to_record():
    with pytest.raises(InputError, match="has no deformable convolution, so there are no offsets to record"):
        pj.record_offsets(nn.Conv2d(3, 4, 1), X)


def test_a_trace_comes_back_from_its_file_and_its_bytes_are_always_the_same(tmp_path):
    offsets = {"a/b": np.arange(36, dtype=np.int16).reshape(1, 18, 1, 2), "file": -np.ones((2, 18, 3, 3), np.int16)}
    trace = OffsetTrace(offsets=offsets, source="data")
    for name in ("one.npz", "two.npz"):
        trace.save(tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = OffsetTrace.load(tmp_path / "one.npz")
    assert (back.source, list(back.offsets)) == ("data", list(offsets))
    assert all(np.array_equal(back.offsets[k], v) for k, v in offsets.items())


def test_torn_and_foreign_files_are_refused(tmp_path):
    whole, torn = tmp_path / "whole.npz", tmp_path / "torn.npz"
    OffsetTrace(offsets={"a": np.zeros((1, 18, 2, 2), np.int16)}).save(whole)
    for data, message in (
        (whole.read_bytes()[:200], "is no offset trace (BadZipFile); write one with record_offsets"),
        (b"nothing of the kind", "is no offset trace (BadZipFile); write one with record_offsets"),
        (b"", "is empty, expected an offset trace (.npz)"),
    ):
        torn.write_bytes(data)
        with pytest.raises(InputError) as error:
            OffsetTrace.load(torn)
        assert str(error.value) == f"{torn}: {message}"
    np.savez(torn, a=np.zeros(3))
    with pytest.raises(InputError, match="is no offset trace"):
        OffsetTrace.load(torn)
    np.savez(torn, index=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is no offset trace"):
        OffsetTrace.load(torn)
    np.savez_compressed(torn, index=np.zeros(1 << 20, np.uint8))
    with pytest.raises(InputError, match="its records unpack to"):
        OffsetTrace.load(torn)
    index = np.frombuffer(json.dumps({"schema": 2, "source": "data", "layers": []}).encode(), np.uint8)
    with zipfile.ZipFile(torn, "w") as archive, archive.open("index.npy", "w") as record:
        np.lib.format.write_array(record, index)
    with pytest.raises(InputError) as error:
        OffsetTrace.load(torn)
    assert str(error.value) == f"{torn}: offset trace of schema 2, this version reads 1"


def test_a_trace_of_other_shapes_or_layers_is_refused():
    network = pj.trace(DeformConv2d(3, 4).eval(), X)
    layer = deform_layer(network)
    with pytest.raises(InputError) as error:
        OffsetTrace(offsets={"other": np.zeros((1, 18, 8, 7), np.int16)}).of(layer)
    assert str(error.value) == (
        f"the offset trace has no layer '{layer.name}', only other; record it with this network"
    )
    with pytest.raises(InputError) as error:
        OffsetTrace(offsets={layer.name: np.zeros((1, 18, 4, 4), np.int16)}).of(layer)
    assert str(error.value) == (
        f"the offset trace of layer '{layer.name}' has shape [18, 4, 4] per sample, the layer takes [18, 8, 7]; record it with "
        "this network and input size"
    )
    with pytest.raises(InputError) as error:
        OffsetTrace(offsets={"a": np.zeros((18, 4, 4), np.int32)})
    assert str(error.value) == (
        "offsets of layer 'a' must be int16 [samples, 2 per tap, rows, columns], got int32 [18, 4, 4]"
    )


@pytest.mark.parametrize(
    ("given_ones", "message"),
    [
        (
            {"distribution": "cauchy"},
            "offset statistics: unknown distribution 'cauchy'; choose uniform, normal or fixed",
        ),
        (
            {"low": 0.2, "high": 0.8},
            "offset statistics: low and high must hold a whole number of pixels up to 32767 between them, got 0.2 and 0.8",
        ),
        ({"std": float("nan")}, "offset statistics: std must be 0 or more pixels, got nan"),
    ],
)
def test_statistics_that_mean_nothing_are_refused(given_ones, message):
    with pytest.raises(InputError) as error:
        OffsetStatistics(**given_ones)
    assert str(error.value) == message
