"""Channel gating and active blocks on arrays: cycles against a slow twin, sensible limits, bytes counted by hand."""

import numpy as np
import pytest

from picojoule.accel.systolic import timing
from picojoule.accel.systolic.block_work import block_work
from picojoule.accel.systolic.live_work import gated_work
from picojoule.accel.systolic.timing import Dataflow
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.execution import BlockActivity, SkipMap, drawn_skip_map
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import constant_fill


def conv_layer(channels=8, filters=12, size=6, kernel=3, groups=1):
    pad = (kernel // 2,) * 2
    attributes = at.ConvAttributes(stride=(1, 1), padding_begin=pad, padding_end=pad, dilation=(1, 1), groups=groups)
    builder = NetworkBuilder("one")
    x = builder.input("x", TensorType(shape=(1, channels, size, size), batch_axis=0))
    weight = parameter("w", constant_fill(1.0, (filters, channels // groups, kernel, kernel)))
    (y,) = builder.add(Op.CONV, [x, weight], attributes, name="conv")
    return builder.finish([y]).layers[0]


def gated(live, base_share=0.25):
    return SkipMap(live=live, base_share=base_share)


def twin_second_pass(live, k, dataflow, rows, cols):
    """The second pass fold by fold: who is needed, how long it streams; (cycles, slots of used PEs that stream)."""
    cycles = slots = 0
    pixels, channels = live.shape
    if dataflow is Dataflow.IS:
        alive = [p for p in range(pixels) if live[p].any()]
        for c in range(0, len(alive), cols):
            held = alive[c : c + cols]
            needed = sum(any(live[p, n] for p in held) for n in range(channels))
            for r in range(0, k, rows):
                used = min(rows, k - r)
                cycles += used + needed + used + len(held) - 2
                slots += used * len(held) * needed
        return cycles, slots
    for c in range(0, channels, cols):
        needed = sum(live[p, c : c + cols].any() for p in range(pixels))
        width = min(cols, channels - c)
        along, streamed = (needed, k) if dataflow is Dataflow.OS else (k, needed)
        for r in range(0, along if needed else 0, rows):
            used = min(rows, along - r)
            cycles += used + streamed + used + width - 2
            slots += used * width * streamed
    return cycles, slots


@pytest.mark.parametrize("dataflow", Dataflow)
def test_the_second_pass_equals_its_twin(dataflow):
    rng = np.random.default_rng(dataflow)
    layer = conv_layer()
    for share in (0.0, 0.02, 0.2, 1.0):
        rows, cols = (int(v) for v in rng.integers(1, 14, 2))
        live = rng.random((3, 36, 12)) < share * rng.random((3, 36, 1)) * 2
        made = gated_work(layer, gated(live), dataflow, rows, cols)
        twins = [twin_second_pass(sample, 6 * 9, dataflow, rows, cols) for sample in live]
        assert made.rest_cycles == pytest.approx(np.mean([t[0] for t in twins]))
        assert made.lost["closed_gates"] == pytest.approx(np.mean([t[1] for t in twins]) - live.sum() / 3 * 54)
        assert made.base_cycles == timing.fold_cycles(dataflow, rows, cols, 36, 12, 18)
        together = gated_work(layer, gated(live), dataflow, rows, cols, batch=3)
        twin = twin_second_pass(live.reshape(-1, 12), 54, dataflow, rows, cols)
        assert (together.rest_cycles, together.base.m) == (twin[0], 108)


@pytest.mark.parametrize("dataflow", Dataflow)
def test_open_gates_cost_two_dense_passes_and_closed_ones_the_first(dataflow):
    layer = conv_layer()
    every = gated_work(layer, gated(np.ones((1, 36, 12), dtype=bool)), dataflow, 4, 4)
    assert every.rest_cycles == timing.fold_cycles(dataflow, 4, 4, 36, 12, 54)
    assert every.lost["closed_gates"] == 0
    assert every.useful_macs == 36 * 12 * 72
    assert every.cycles >= every.dense_cycles
    assert every.realised_share <= 1
    none = gated_work(layer, gated(np.zeros((1, 36, 12), dtype=bool)), dataflow, 4, 4)
    assert none.rest_cycles == 0
    assert none.promised == 4
    assert (none.base.k, none.rest.k, none.gate_bits) == (18, 54, 432)


def test_gates_that_open_together_gain_more_than_scattered_ones():
    """The same share of open gates: whole pixels (objects) let columns skip, independent gates do not."""
    layer = conv_layer(channels=32, filters=32, size=16)
    rng = np.random.default_rng(0)
    pixels = np.broadcast_to(rng.random((1, 256, 1)) < 0.2, (1, 256, 32)).copy()
    scattered = drawn_skip_map("conv", samples=1, pixels=256, channels=32, base_share=0.25, share=float(pixels.mean()))
    for dataflow in ("ws", "os", "is"):
        together, apart = (gated_work(layer, m, dataflow, 16, 16) for m in (gated(pixels), scattered))
        assert together.lost["closed_gates"] == 0
        assert together.speed_up > 1.5 * apart.speed_up
        assert apart.realised_share < together.realised_share < 1
        assert apart.basis == "statistics"
    assert "columns wait for pixels that their neighbours need" in apart.note
    assert apart.note.startswith("channel gating: 19% of the outputs make the second pass; ")
    assert "CGNet's accelerator: 0.86" in apart.note


def test_words_follow_the_pixels_that_are_needed():
    layer = conv_layer()
    live = np.zeros((1, 36, 12), dtype=bool)
    live[0, :9, :4] = True  # the first of three column folds, a quarter of the pixels
    made = gated_work(layer, gated(live), "ws", 8, 4)
    assert made.ifmap_reads == 3 * 36 * 18 + 9 * 54
    assert made.filter_reads == 12 * 18 + 4 * 54
    fixed = gated_work(layer, gated(live), "is", 8, 4)
    assert fixed.ifmap_reads == 36 * 18 + 9 * 54
    assert fixed.filter_reads == 9 * 12 * 18 + 3 * 4 * 54
    os = gated_work(layer, gated(live), "os", 8, 4)
    assert os.filter_reads == 5 * 12 * 18 + 2 * 4 * 54


def test_maps_of_other_layers_are_refused():
    layer = conv_layer()
    with pytest.raises(InputError) as caught:
        gated_work(layer, gated(np.ones((1, 35, 12), dtype=bool)), "ws", 4, 4)
    assert str(caught.value) == "layer 'conv' has 36 output pixels x 12 channels but its skip map 35 x 12"
    with pytest.raises(InputError, match="a batch of 2 needs as many samples in its skip map, which has 1"):
        gated_work(layer, gated(np.ones((1, 36, 12), dtype=bool)), "ws", 4, 4, batch=2)
    with pytest.raises(UnsupportedError, match="convolutions in one group and linear layers"):
        gated_work(conv_layer(groups=2), gated(np.ones((1, 36, 12), dtype=bool)), "ws", 4, 4)
    with pytest.raises(InputError, match=r"a base of 0.99 of 8 input channels leaves none to gate"):
        gated_work(layer, gated(np.ones((1, 36, 12), dtype=bool), 0.99), "ws", 4, 4)


def test_active_blocks_move_their_halo_and_compute_their_tiles():
    layer = conv_layer(channels=16, filters=32, size=12)
    active = np.zeros((2, 3, 3), dtype=bool)
    active[0, 1, 1] = active[1, 0, 0] = active[1, 2, 2] = True
    made = block_work(layer, BlockActivity(active=active, block=(4, 4)), "os", 8, 8, bytes_per_cycle=16.0)
    row = 128  # 6 pixels x 16 bytes = 96 bytes: two bursts of 64
    assert made.gather_bytes == 1.5 * 6 * row
    assert made.scatter_bytes == 1.5 * 4 * 128
    assert made.dense_bytes == 144 * 16 + 144 * 32
    assert made.gemm_m == 24
    cycles = [int(timing.fold_cycles(Dataflow.OS, 8, 8, m, 32, 144)) for m in (16, 32)]
    assert made.compute_cycles == np.mean(cycles)
    assert made.halo_share == pytest.approx(1 - 16 / 36)
    assert made.transfer_cycles == (made.gather_bytes + made.scatter_bytes) / 16
    assert made.share == pytest.approx(3 / 18)


def two_clocks(tiles, into, out, computed):
    """Walk tiles through a bus and an array with two buffers; return when the last result is out."""
    bus = array = 0.0
    done = []
    for i in range(tiles):
        if i >= 2:  # the buffer is free once its tile is computed, then its result leaves
            bus = max(bus, done[i - 2]) + out
        bus += into
        array = max(array, bus) + computed
        done.append(array)
    for i in range(max(0, tiles - 2), tiles):
        bus = max(bus, done[i]) + out
    return bus


@pytest.mark.parametrize("bytes_per_cycle", [0.25, 0.5, 0.8, 1.0, 4.0, 1e6])
def test_cycles_of_active_blocks_are_those_of_two_clocks(bytes_per_cycle):
    layer, counts = conv_layer(channels=16, filters=32, size=24), [0, 1, 2, 7, 36]
    active = np.zeros((len(counts), 6, 6), dtype=bool)
    for i, count in enumerate(counts):
        active[i].flat[:count] = True
    for i, count in enumerate([*counts, None]):
        some = active if count is None else active[i : i + 1]
        made = block_work(layer, BlockActivity(active=some, block=(4, 4)), "ws", 8, 8, bytes_per_cycle=bytes_per_cycle)
        into, out = (6 * 128 / bytes_per_cycle, 4 * 128 / bytes_per_cycle)
        runs = counts if count is None else [count]
        whole = [int(timing.fold_cycles(Dataflow.WS, 8, 8, c * 16, 32, 144)) if c else 0 for c in runs]
        walked = [two_clocks(c, into, out, w / c if c else 0) for c, w in zip(runs, whole, strict=True)]
        assert made.cycles == pytest.approx(np.mean(walked), rel=1e-9)


def test_all_blocks_active_cost_no_less_than_the_dense_layer():
    layer = conv_layer(channels=16, filters=16, size=10)
    everything = BlockActivity(active=np.ones((1, 3, 3), dtype=bool), block=(4, 4))
    for dataflow in Dataflow:
        made = block_work(layer, everything, dataflow, 8, 8, bytes_per_cycle=8.0)
        assert made.compute_cycles >= made.dense_cycles
        assert made.gather_bytes + made.scatter_bytes > made.dense_bytes
    nothing = BlockActivity(active=np.zeros((1, 3, 3), dtype=bool), block=(4, 4))
    assert block_work(layer, nothing, "ws", 8, 8, bytes_per_cycle=8.0).cycles == 0


def test_blocks_that_do_not_cover_the_result_are_refused():
    with pytest.raises(InputError) as caught:
        block_work(
            conv_layer(size=10),
            BlockActivity(active=np.ones((1, 2, 3), dtype=bool), block=(4, 4)),
            "ws",
            8,
            8,
            bytes_per_cycle=8.0,
        )
    assert str(caught.value) == (
        "layer 'conv': blocks of 4 x 4 cover 10 x 10 outputs 3 x 3 times, the activity has 2 x 3"
    )
