"""Parts of layers that run: patterns are checked, and what is computed equals the whole layer where it runs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from picojoule.sim.errors import InputError
from picojoule.sim.execution import BlockActivity, SkipMap, blocks_of, drawn_skip_map
from picojoule.sim.numerics.gated_conv import ChannelGatedConv2d, block_conv2d


def whole_numbers(generator, *shape):
    """Small integers as floats: every sum of them is exact, in any order, as in the hardware's accumulators."""
    return torch.randint(-8, 9, shape, generator=generator).float()


def gated(threshold, seed=0):
    generator = torch.Generator().manual_seed(seed)
    conv = ChannelGatedConv2d(8, 6, 3, base=2, stride=2, threshold=threshold).eval()
    with torch.no_grad():
        conv.weight.copy_(whole_numbers(generator, *conv.weight.shape))
    return conv, whole_numbers(generator, 2, 8, 9, 9)


def test_open_gates_give_the_ungated_convolution_bit_for_bit():
    conv, x = gated(threshold=-1e9)
    with torch.no_grad():
        y = conv(x)
        whole = conv.norm_all(F.conv2d(x, conv.weight, stride=2, padding=1))
    assert conv.gates.all()
    assert torch.equal(y, whole)


def test_closed_gates_keep_the_base_and_others_choose_per_output():
    conv, x = gated(threshold=1e9)
    with torch.no_grad():
        y = conv(x)
        base = conv.norm_base(F.conv2d(x[:, :2], conv.weight[:, :2], stride=2, padding=1))
        assert not conv.gates.any()
        assert torch.equal(y, base)
        some, x = gated(threshold=10.0)
        y, first, second = some(x), *some.passes(x)
        assert 0 < some.gates.float().mean() < 1
        assert torch.equal(y, torch.where(some.gates, some.norm_all(first + second), some.norm_base(first)))


def test_gates_learn():
    conv, x = gated(threshold=0.0)
    conv.train()
    (conv(x).square().mean() + conv.threshold_penalty(1.0)).backward()
    assert conv.threshold.grad.abs().min() > 0
    assert conv.weight.grad[:, :2].abs().sum() > 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", [(4, 4), (3, 5)])
def test_block_convolution_equals_the_dense_one_where_blocks_are_active(stride, block):
    generator = torch.Generator().manual_seed(1)
    x, w = whole_numbers(generator, 2, 3, 13, 15), whole_numbers(generator, 4, 3, 3, 3)
    dense = F.conv2d(x, w, stride=stride, padding=1)
    mask = np.random.default_rng(1).random((2, *dense.shape[2:])) < 0.04
    activity = blocks_of(mask, block)
    assert 0 < activity.share < 1
    y = block_conv2d(x, w, torch.from_numpy(activity.active), block, stride=(stride, stride), padding=(1, 1))
    where = np.repeat(np.repeat(activity.active, block[0], 1), block[1], 2)[:, None, : dense.shape[2], : dense.shape[3]]
    where = torch.from_numpy(np.broadcast_to(where, dense.shape).copy())
    assert torch.equal(y[where], dense[where])
    assert not y[~where].any()
    assert where[:, 0][torch.from_numpy(mask)].all()


def test_shares_follow_the_maps():
    live = np.zeros((1, 4, 2), dtype=bool)
    live[0, 0] = True
    made = SkipMap(live=live, base_share=0.25)
    assert made.share == 0.25
    assert made.mac_share == 0.25 + 0.75 * 0.25
    drawn = drawn_skip_map("conv", samples=2, pixels=500, channels=10, base_share=0.5, share=0.3)
    assert drawn.basis == "statistics"
    assert drawn.share == pytest.approx(0.3, abs=0.02)
    again = drawn_skip_map("conv", samples=2, pixels=500, channels=10, base_share=0.5, share=0.3)
    assert np.array_equal(drawn.live, again.live)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SkipMap(live=np.ones((2, 3)), base_share=0.5),
         "a skip map is a boolean array [samples, pixels, channels], got float64 [2, 3]"),
        (lambda: SkipMap(live=np.ones((1, 2, 3), dtype=bool), base_share=1.0),
         "base_share is the share of input channels in the first pass, above 0 and below 1, got 1.0"),
        (lambda: BlockActivity(active=np.ones((2, 3)), block=(2, 2)),
         "block activity is a boolean array [samples, down, across], got float64 [2, 3]"),
        (lambda: BlockActivity(active=np.ones((1, 2, 3), dtype=bool), block=(0, 2)),
         "a block has at least 1 x 1 output pixels, got 0 x 2"),
        (lambda: blocks_of(np.ones((2, 3), dtype=bool), (2, 2)), "an activity mask is [samples, rows, columns], got [2, 3]"),
        (lambda: drawn_skip_map("c", samples=1, pixels=1, channels=1, base_share=0.5, share=2.0),
         "the share of open gates lies between 0 and 1, got 2.0"),
        (lambda: ChannelGatedConv2d(8, 6, 3, base=8), "a gated convolution's base is 1 to 7 of its 8 input channels, got 8"),
    ],
)  # fmt: skip
def test_wrong_patterns_are_refused_in_a_sentence(make, sentence):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == sentence
