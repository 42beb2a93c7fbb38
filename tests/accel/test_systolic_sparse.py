"""What an array makes of zero weights: removal, N:M, gating, skipping, storage, and the reasons it gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import picojoule as pj
from picojoule.accel.systolic import SystolicSpec
from picojoule.accel.systolic.recurrence import turn_sizes
from picojoule.accel.systolic.sparse_work import sparse_work
from picojoule.accel.systolic.timing import Dataflow
from picojoule.accel.systolic.zero_pattern import zero_pattern
from picojoule.accel.systolic.zero_skipping import skipping_cycles
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import parse_format, parse_sparsity
from picojoule.sim.gemm import Gemm, gemm_view
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill, from_array

INT8 = parse_format("int8", per="channel")
UNSTRUCTURED = parse_sparsity("unstructured", 1.0)  # the weights say how dense they are


def conv_layer(weight, groups=1, sparsity=UNSTRUCTURED, size=6):
    """A 3x3 (or 1x1) convolution without padding over size x size pixels."""
    attributes = at.ConvAttributes(
        stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1), groups=groups
    )
    builder = NetworkBuilder("one")
    x = builder.input("x", TensorType(shape=(1, weight.shape[1] * groups, size, size), batch_axis=0))
    (y,) = builder.add(Op.CONV, [x, parameter("w", from_array(weight))], attributes, name="conv")
    (layer,) = builder.finish([y]).layers
    operands = (layer.operands[0], replace(layer.operands[1], sparsity=sparsity))
    return replace(layer, operands=operands)


def work_of(layer, spec=None, **options):
    spec = spec or SystolicSpec(rows=8, cols=8, **options)
    return sparse_work(layer, gemm_view(layer, 1), INT8, spec, spec.rows, spec.cols, spec.dataflow)


def random_weight(shape, density, seed=0):
    rng = np.random.default_rng(seed)
    value = rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1.0, shape)  # nothing rounds to zero
    return (value * (rng.random(shape) < density)).astype(np.float32)


def two_of_four(shape, seed=0):
    """Two of every four input channels at each window position."""
    rng = np.random.default_rng(seed)
    order = rng.random((shape[0], shape[1] // 4, 4, *shape[2:])).argsort(axis=2)
    return (random_weight(shape, 1.0, seed).reshape(order.shape) * (order < 2)).reshape(shape)


# --- removal ----------------------------------------------------------------------------------------------------------


def test_zero_channels_and_positions_leave_the_array():
    weight = random_weight((6, 4, 3, 3), 1.0)
    weight[[1, 4]] = 0  # output channels
    weight[:, 2] = 0  # an input channel
    weight[:, :, 0, 0] = 0  # a corner of every window
    work = work_of(conv_layer(weight))
    assert work.gemm == Gemm(m=16, n=4, k=3 * 8)
    assert work.ifmap_share == 0.75
    assert (work.stored_weights, work.stored_weight_bits, work.metadata_bits) == (96, 768, 0)
    assert work.notes == ("wholly zero weights are left out: 4 of 6 output channels, 24 of 36 reduction positions run",)
    assert work.compute_cycles is None
    assert work.gated_share == 0
    assert work.basis == "data"


def test_groups_lose_their_own_channels_and_run_at_the_largest_size():
    weight = random_weight((6, 2, 3, 3), 1.0)  # 3 groups of 2 outputs and 2 inputs
    weight[0:2] = 0  # the first group
    weight[2] = 0  # one of the second group's two outputs
    work = work_of(conv_layer(weight, groups=3))
    assert work.gemm == Gemm(m=16, n=2, k=18, groups=2)
    assert work.lost == {"imbalance": 18 * 16}
    assert "2 of 3 groups run" in work.notes[0]


def test_a_layer_of_zeros_is_still_run():
    work = work_of(conv_layer(np.zeros((4, 4, 1, 1), dtype=np.float32), sparsity=parse_sparsity("row", 0.0)))
    assert work.gemm == Gemm(m=36, n=1, k=1)


def test_small_values_round_to_zeros_that_count():
    weight = random_weight((4, 4, 1, 1), 1.0)
    weight[:, 1] *= 1e-4
    assert work_of(conv_layer(weight)).gemm.k == 3


def test_dense_layers_and_two_activations_are_left_alone():
    weight = random_weight((4, 4, 1, 1), 1.0)
    assert work_of(conv_layer(weight, sparsity=parse_sparsity("dense"))) is None


# --- N:M --------------------------------------------------------------------------------------------------------------


def test_the_array_takes_two_of_four():
    layer = conv_layer(two_of_four((8, 16, 3, 3)), sparsity=parse_sparsity("2:4"))
    work = work_of(layer, structured_sparsity="2:4")
    assert work.gemm == Gemm(m=16, n=8, k=72)
    assert work.ifmap_k == 144  # every ifmap word comes by
    assert (work.stored_weights, work.stored_weight_bits, work.metadata_bits) == (576, 576 * 8, 576 * 2)
    assert work.notes == ()


def test_two_of_four_on_plain_pes_saves_storage_and_says_why_no_cycle():
    layer = conv_layer(two_of_four((8, 16, 3, 3)), sparsity=parse_sparsity("2:4"))
    work = work_of(layer)
    assert work.gemm == Gemm(m=16, n=8, k=144)
    assert (work.stored_weight_bits, work.metadata_bits) == (576 * 8, 576 * 2)
    assert work.notes == (
        "2:4 weights are stored compressed, but these PEs take dense ones: no cycle is saved; structured_sparsity=2:4 "
        "would run 2 of 4 positions",
    )


def test_fewer_than_the_pattern_keeps_fit_in():
    weight = two_of_four((8, 16, 3, 3))
    first = (np.cumsum((weight != 0).reshape(8, 4, 4, 3, 3), axis=2) == 1).reshape(weight.shape)
    work = work_of(
        conv_layer(weight * first, sparsity=parse_sparsity("1:4")), structured_sparsity="2:4", zero_gating=True
    )
    assert work.gemm.k == 72
    assert work.gated_share == 0.5  # half of the places stay empty


def test_a_short_last_group_and_dead_channels_keep_what_they_have():
    weight = np.zeros((2, 7, 1, 1), dtype=np.float32)
    weight[:, [0, 1, 5]] = 1.0  # groups of 4 and of 3 channels; channels 2, 3, 4 and 6 are dead
    work = work_of(conv_layer(weight, sparsity=parse_sparsity("2:4")), structured_sparsity="2:4")
    assert work.gemm.k == 3
    assert work.ifmap_k == 3


def test_unstructured_zeros_do_not_fit_the_pattern():
    work = work_of(conv_layer(random_weight((32, 16, 3, 3), 0.5)), structured_sparsity="2:4")
    assert work.gemm.k == 144
    assert work.notes[0].startswith("the PEs take 2:4 but ")
    assert work.notes[0].endswith("% of the groups of 4 input channels keep more than 2 weights: multiplied as dense")


def test_weights_that_break_their_declared_pattern_are_refused():
    weight = two_of_four((8, 16, 1, 1))
    weight[0, :3] = 1.0
    layer = conv_layer(weight, sparsity=parse_sparsity("2:4"))
    with pytest.raises(InputError) as caught:
        work_of(layer, structured_sparsity="2:4")
    assert str(caught.value) == (
        "layer 'conv': its weights are declared 2:4 but 1 of 32 groups of 4 input channels keep more than 2; prune it to 2:4 "
        "or declare it unstructured"
    )
    drawn = zero_pattern(layer, INT8, random_weights=True)
    assert drawn.basis == "statistics"
    assert drawn.broken_groups(2, 4)[0] == 0


# --- gating, skipping, nothing ----------------------------------------------------------------------------------------


def test_unstructured_zeros_save_nothing_on_plain_pes():
    work = work_of(conv_layer(random_weight((32, 16, 3, 3), 0.5)))
    assert work.gemm == Gemm(m=16, n=32, k=144)
    assert (work.gated_share, work.compute_cycles, work.stored_weight_bits) == (0, None, 32 * 16 * 9 * 8)
    zeros = 1 - np.count_nonzero(random_weight((32, 16, 3, 3), 0.5)) / 4608
    assert work.notes == (
        f"{zeros:.0%} of the weights are zeros at no regular places: stored and multiplied like any other value, no cycle, "
        "byte or energy is saved; what would help: N:M pruning with structured_sparsity, zero_gating (energy), "
        "zero_skipping: weights (cycles, storage) or removing whole channels",
    )


def test_gating_rests_where_either_operand_is_zero():
    weight = random_weight((8, 4, 3, 3), 0.4)
    layer = conv_layer(weight)
    live = weight.reshape(8, 36) != 0
    plain = work_of(layer, zero_gating=True)
    assert (1 - plain.gated_share) * plain.gemm.macs == pytest.approx(live.sum() * 16)
    inputs = np.random.default_rng(3).integers(-2, 3, (1, 36, 50))
    spec = SystolicSpec(rows=8, cols=8, zero_gating=True)
    work = sparse_work(layer, gemm_view(layer, 1), INT8, spec, 8, 8, "ws", inputs=inputs)
    both = live[:, :, None] & (inputs[0] != 0)[None]
    assert (1 - work.gated_share) * work.gemm.macs == pytest.approx(both.mean() * 16 * 8 * 36)
    assert work.compute_cycles is None
    assert "every cycle is still taken" in work.notes[-1]
    with pytest.raises(UnsupportedError, match=r"must be \[1, 36, samples\], got \[1, 35, 50\]"):
        sparse_work(layer, gemm_view(layer, 1), INT8, spec, 8, 8, "ws", inputs=inputs[:, 1:])


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_skipping_takes_the_cycles_of_the_real_pattern(dataflow):
    even, odd = np.zeros((16, 64, 1, 1), dtype=np.float32), random_weight((16, 64, 1, 1), 0.25)
    for out in range(16):
        even[out, out % 4 :: 4] = 1.0  # every channel and every position keeps a quarter
    spec = SystolicSpec(rows=16, cols=16, dataflow=dataflow, zero_skipping="weights")
    perfect, uneven = (work_of(conv_layer(w, size=16), spec) for w in (even, odd))
    assert perfect.lost["imbalance"] == 0
    assert uneven.lost["imbalance"] > 0
    assert perfect.compute_cycles < uneven.compute_cycles
    assert perfect.gated_share == perfect.skipped_share == 0.75
    kept = np.count_nonzero(odd)
    assert (uneven.stored_weights, uneven.stored_weight_bits, uneven.metadata_bits) == (kept, 8 * kept, 16 * 64)
    macs = kept * 256
    assert uneven.compute_cycles * 256 == macs + sum(uneven.lost.values())
    assert perfect.folded_k == (16 if dataflow == "ws" else None)  # every column fills a quarter of the 64 rows


def test_a_small_gain_is_explained():
    weight = random_weight((32, 256, 1, 1), 0.1)
    spec = SystolicSpec(rows=4, cols=32, dataflow="ws", zero_skipping="weights")
    uneven, short = (work_of(conv_layer(weight, size=size), spec) for size in (24, 2))
    said = "zero skipping gains less than the zeros promise: cycles are lost to "
    assert uneven.notes[-1] == said + "imbalance"
    assert short.notes[-1] == said + "fill and drain"


def test_skipping_needs_one_mac_a_pe():
    layer = conv_layer(random_weight((8, 16, 1, 1), 0.1))
    with pytest.raises(UnsupportedError) as caught:
        work_of(layer, zero_skipping="weights", precision="decomposable")
    assert str(caught.value) == (
        "layer 'conv': zero skipping picks one weight for each MAC of a PE, which decomposable PEs do not have; use precision "
        "fixed or bit_serial, or zero_skipping none"
    )


def test_serial_pes_skip_whole_weights():
    layer = conv_layer(random_weight((8, 16, 1, 1), 0.3))
    spec = SystolicSpec(rows=8, cols=8, dataflow="ws", zero_skipping="weights", precision="bit_serial")
    one = work_of(layer, dataflow="ws", zero_skipping="weights")
    assert work_of(layer, spec).compute_cycles > 2 * one.compute_cycles


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["unstructured", "row", "column", "2:4", "block4x4"])
def test_a_declared_density_without_weights_is_drawn(text):
    sparsity = parse_sparsity(text, 0.5)
    layer = conv_layer(np.ones((32, 32, 3, 3), dtype=np.float32), sparsity=sparsity)
    bare = replace(layer.operands[1], weights=constant_fill(1.0, (32, 32, 3, 3)))
    layer = replace(layer, operands=(layer.operands[0], bare))
    pattern = zero_pattern(layer, INT8)
    assert pattern.density == pytest.approx(0.5, abs=0.05)
    assert pattern.live.tolist() == zero_pattern(layer, INT8).live.tolist()
    work = work_of(layer, structured_sparsity="2:4" if text == "2:4" else None)
    assert work.basis == "statistics"
    assert work.notes[-1] == (
        f"a pattern of density {pattern.density:.2f} was drawn at random: it is declared, and no weights have it"
    )
    sizes = {"row": (16, 288), "column": (32, 144), "2:4": (32, 144), "unstructured": (32, 288)}
    if text in sizes:  # a small layer may lose a whole row of blocks by chance
        assert (work.gemm.n, work.gemm.k) == sizes[text]


def test_weights_denser_than_declared_stand_for_what_will_be():
    layer = conv_layer(random_weight((16, 16, 3, 3), 1.0), sparsity=parse_sparsity("unstructured", 0.25))
    work = work_of(layer, zero_gating=True)
    assert work.basis == "statistics"
    assert work.gated_share == pytest.approx(0.75, abs=0.03)


# --- other layers -----------------------------------------------------------------------------------------------------


def test_formats_without_codes_are_read_as_they_are_turned_like_the_codes():
    weight = random_weight((6, 4, 2, 2), 0.6)  # transposed: 6 input channels, 4 x window outputs
    attributes = at.ConvAttributes(
        stride=(2, 2), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1), transposed=True, output_padding=(0, 0)
    )
    builder = NetworkBuilder("one")
    x = builder.input("x", TensorType(shape=(1, 6, 5, 5), batch_axis=0))
    (y,) = builder.add(Op.CONV, [x, parameter("w", from_array(weight))], attributes, name="up")
    (layer,) = builder.finish([y]).layers
    codes, values = zero_pattern(layer, INT8), zero_pattern(layer, parse_format("bf16"))
    assert values.live.shape == (1, 16, 6)
    assert values.live.tolist() == codes.live.tolist()
    assert values.live[0].T.tolist() == (weight.reshape(6, 16) != 0).tolist()


@pytest.mark.parametrize("cell", [torch.nn.LSTM, torch.nn.GRU])
def test_recurrent_layers_skip_in_every_step_and_keep_their_gates(cell):
    torch.manual_seed(0)
    module = cell(10, 24, batch_first=True)
    with torch.no_grad():
        module.weight_hh_l0 *= torch.rand_like(module.weight_hh_l0) < 0.3
        module.weight_hh_l0[:, 3] = 0  # nobody reads this h
        module.weight_hh_l0[5] = 0  # this gate takes nothing from h, and is still made
    network = pj.trace(module, (torch.randn(2, 7, 10),))
    layer = next(layer for layer in network.layers if layer.op is Op.RECURRENT)
    gemm = gemm_view(layer, 2)
    for dataflow in ("os", "ws", "is"):
        spec = SystolicSpec(rows=8, cols=8, dataflow=dataflow, zero_skipping="weights")
        work = sparse_work(layer, gemm, INT8, spec, 8, 8, dataflow)
        assert work.gemm == replace(gemm, k=23)
        turns = turn_sizes(layer, work.gemm)
        live = zero_pattern(layer, INT8).without_dead(outputs=False).live.reshape(-1, turns.n, 23)
        step = skipping_cycles(live, 2, Dataflow.of(dataflow), 8, 8, side_by_side=False)
        assert work.compute_cycles == 7 * step.cycles
