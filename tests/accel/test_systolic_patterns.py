"""Channel gates, active blocks and zero activations through `evaluate`: every figure of the layer's row, and what is refused."""

from math import ceil

import numpy as np
import pytest

import picojoule as pj
from picojoule.accel.systolic import timing
from picojoule.accel.systolic.block_work import block_work
from picojoule.accel.systolic.live_work import gated_work
from picojoule.accel.systolic.timing import Dataflow
from picojoule.activations import wants_activations
from picojoule.sim import attributes as at
from picojoule.sim.activation_source import ActivationSource
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.execution import BlockActivity, ExecutionPatterns, SkipMap
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import Weights

SIZE, WIDTH = 12, 24
PIXELS, MACS = SIZE * SIZE, SIZE * SIZE * WIDTH * 144


def network():
    values = np.random.default_rng(0).uniform(0.2, 1.0, (WIDTH, 16, 3, 3)).astype(np.float32)
    builder = NetworkBuilder("gated")
    x = builder.input("x", TensorType(shape=(1, 16, SIZE, SIZE), batch_axis=0))
    plain = at.ConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
    weight = parameter("w", Weights(shape=values.shape, load=lambda: values))
    (y,) = builder.add(Op.CONV, [x, weight], plain, name="conv")
    return builder.finish([y])


NETWORK = network()


def gates(share, samples=4, seed=1):
    """Return gates that are closed for some pixels wholly and for others by chance."""
    rng = np.random.default_rng(seed)
    live = rng.random((samples, PIXELS, WIDTH)) < share * 2 * (rng.random((samples, PIXELS, 1)) < 0.5)
    return SkipMap(live=live, base_share=0.25)


def priced(activations=None, batch=1, **options):
    report = pj.evaluate(NETWORK, "edge-16x16", overrides=options, activations=activations, batch=batch)
    return report, report.layers[0]


def pj_of(layer, component):
    return sum(line.pj for line in layer.energy if line.component == component)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_gates_reach_cycles_words_and_energy(dataflow, batch):
    skip_map = gates(0.3)
    patterns = ExecutionPatterns(skip_maps={"conv": skip_map})
    report, layer = priced(patterns, batch, dataflow=dataflow)
    _, dense = priced(None, batch, dataflow=dataflow)
    twin = gated_work(NETWORK.layers[0], skip_map, dataflow, 16, 16, batch=batch)
    one = gated_work(NETWORK.layers[0], skip_map, dataflow, 16, 16)
    assert layer.compute_cycles in (ceil(twin.cycles), batch * ceil(one.cycles))
    chosen, times = (twin, 1) if layer.compute_cycles == ceil(twin.cycles) else (one, batch)
    assert layer.reads["sram.ifmap"] == times * round(chosen.ifmap_reads)
    assert layer.reads["sram.filter"] == times * round(chosen.filter_reads)
    assert layer.reads["sram.ofmap"] == times * round(chosen.sums)
    assert layer.writes["sram.ofmap"] == batch * PIXELS * WIDTH + times * round(chosen.sums)
    assert (layer.macs, layer.reads["dram.ifmap"]) == (batch * MACS, dense.reads["dram.ifmap"])
    assert layer.dram_read_bytes == dense.dram_read_bytes
    assert layer.dram_write_bytes == dense.dram_write_bytes
    assert pj_of(layer, "mac") / pj_of(dense, "mac") == pytest.approx(twin.mac_share, rel=0.02)
    assert pj_of(layer, "sram.ifmap") < pj_of(dense, "sram.ifmap") or dataflow == "is"
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1, abs=1e-9)
    assert layer.utilization_lost["closed_gates"] > 0
    assert min(layer.utilization_lost.values()) >= 0
    assert layer.basis == "data, channel gates"
    notes = [note for note in report.coverage.notes if "channel gating" in note]
    assert notes == [f"layer 'conv': {twin.note}"]
    assert report.totals["compute_cycles"] == layer.compute_cycles
    assert report.totals["stall_cycles"] == layer.stall_cycles
    assert report.totals["energy_dynamic_pj"] == pytest.approx(layer.energy_pj)


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_fewer_open_gates_cost_less_and_all_open_ones_more_than_none(dataflow):
    found = [priced(ExecutionPatterns(skip_maps={"conv": gates(s)}), dataflow=dataflow)[1] for s in (0.05, 0.2, 0.5)]
    assert found[0].compute_cycles < found[1].compute_cycles < found[2].compute_cycles
    assert found[0].energy_pj < found[1].energy_pj < found[2].energy_pj
    everything = SkipMap(live=np.ones((1, PIXELS, WIDTH), dtype=np.bool_), base_share=0.25)
    _, whole = priced(ExecutionPatterns(skip_maps={"conv": everything}), dataflow=dataflow)
    _, dense = priced(dataflow=dataflow)
    clocked, spent = [], [pj_of(layer, "register") for layer in found]
    for share in (0.05, 0.2, 0.5):  # registers of a PE are clocked while it waits for its neighbors' pixels
        twin = gated_work(NETWORK.layers[0], gates(share), dataflow, 16, 16)
        clocked.append(twin.useful_macs + twin.lost["closed_gates"])
    assert spent[0] < spent[1]
    ratio = (clocked[1] - clocked[0]) / (clocked[2] - clocked[0])
    assert (spent[1] - spent[0]) / (spent[2] - spent[0]) == pytest.approx(ratio, rel=1e-6)
    assert whole.compute_cycles >= dense.compute_cycles
    assert pj_of(whole, "mac") == pytest.approx(pj_of(dense, "mac"))
    assert whole.utilization_lost["closed_gates"] == 0
    if dataflow == "os":  # sums of the first pass wait in the SRAM, which one pass needs none of
        assert (whole.reads["sram.ofmap"], dense.reads["sram.ofmap"]) == (PIXELS * WIDTH, 0)


def test_sums_that_do_not_fit_spill_for_open_gates_in_the_second_pass():
    small = {"dataflow": "ws", "rows": 100, "ofmap_sram_kib": 4.0}
    _, layer = priced(ExecutionPatterns(skip_maps={"conv": gates(0.3)}), **small)
    _, dense = priced(**small)
    assert dense.reads["dram.psum"] == PIXELS * WIDTH  # 144 rows in folds of 100: one spill between two
    opened = round(gates(0.3).live.sum() / 4)
    assert layer.reads["dram.psum"] == layer.writes["dram.psum"] == 2 * opened  # 36 rows at once, then 108 in two folds
    _, fits = priced(ExecutionPatterns(skip_maps={"conv": gates(0.3)}), **small | {"ofmap_sram_kib": 64.0})
    assert layer.dram_read_bytes == fits.dram_read_bytes + 2 * opened * 4
    assert layer.dram_write_bytes == fits.dram_write_bytes + 2 * opened * 4


def test_active_blocks_reach_cycles_bytes_and_energy():
    active = np.zeros((2, 3, 3), dtype=np.bool_)
    active[0, 1, 1] = active[1, 0, 0] = active[1, 2, 2] = active[1, 2, 1] = True
    activity = BlockActivity(active=active, block=(4, 4))
    report, layer = priced(ExecutionPatterns(blocks={"conv": activity}), dataflow="os")
    _, dense = priced(dataflow="os")
    tile = 6 * 128  # six rows of 6 pixels x 16 channels: two bursts of 64 bytes each
    assert layer.reads["dram.ifmap"] == 2 * tile  # 1 and 3 blocks: 2 in the mean
    assert layer.dram_read_bytes == 2 * tile + WIDTH * 144
    assert layer.dram_write_bytes == 2 * 16 * WIDTH == layer.writes["dram.ofmap"]
    assert layer.compute_cycles == timing.fold_cycles(Dataflow.OS, 16, 16, 32, WIDTH, 144)
    assert layer.reads["sram.ofmap"] == 0
    assert pj_of(layer, "mac") / pj_of(dense, "mac") == pytest.approx(32 / PIXELS)
    assert layer.energy_pj < dense.energy_pj
    assert layer.latency_s < dense.latency_s
    assert layer.basis == "data, active blocks"
    (note,) = [note for note in report.coverage.notes if "block activity" in note]
    made = block_work(NETWORK.layers[0], activity, "os", 16, 16, bytes_per_cycle=1.0)
    assert f"{made.dense_cycles / made.compute_cycles:.2f} times fewer cycles where blocks promise 4.50" in note
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1, abs=1e-9)
    nothing = BlockActivity(active=np.zeros((1, 3, 3), dtype=np.bool_), block=(4, 4))
    _, least = priced(ExecutionPatterns(blocks={"conv": nothing}), dataflow="os")
    assert least.compute_cycles == timing.fold_cycles(Dataflow.OS, 16, 16, 16, WIDTH, 144)  # a tile is always run


def test_gating_rests_on_zero_activations_of_a_source():
    inputs = np.random.default_rng(2).integers(0, 3, (1, 144, 60))
    source = ActivationSource(inputs={"conv": (inputs[..., :20], inputs[..., 20:])})
    _, plain = priced(zero_gating=True)
    busy = np.count_nonzero(inputs) / inputs.size
    for activations in (source, ExecutionPatterns(activations=source)):
        report, layer = priced(activations, zero_gating=True)
        assert pj_of(layer, "mac") / pj_of(plain, "mac") == pytest.approx(busy)
        assert layer.compute_cycles == plain.compute_cycles
        assert layer.basis == "data"
        assert any("(zero weights or activations)" in note for note in report.coverage.notes)


def test_data_are_followed_where_gating_asks_for_them():
    assert wants_activations(load_hardware("edge-16x16", {"zero_gating": True}))
    assert not wants_activations(load_hardware("edge-16x16"))


def test_patterns_that_cannot_be_priced_are_refused():
    live, blocks = gates(0.3), BlockActivity(active=np.ones((1, 3, 3), dtype=np.bool_), block=(4, 4))
    with pytest.raises(InputError) as caught:
        priced(ExecutionPatterns(skip_maps={"konv": live}))
    assert str(caught.value) == "an execution pattern is given for 'konv', which is no layer of the array in gated"
    with pytest.raises(InputError, match="layer 'conv' has a skip map and block activity; give one of them"):
        priced(ExecutionPatterns(skip_maps={"conv": live}, blocks={"conv": blocks}))
    patterns = ExecutionPatterns(skip_maps={"conv": live})
    for options, said in (
        ({"compat": "scalesim"}, "compat: scalesim"),
        ({"zero_skipping": "weights"}, "zero_skipping"),
        ({"precision": "bit_serial"}, "precision other than fixed with channel gates"),
    ):
        with pytest.raises(UnsupportedError) as refused:
            priced(patterns, **options)
        assert str(refused.value) == (f"{said} is not priced together with execution patterns; leave one of them out")
    with pytest.raises(InputError, match="a batch of 5 needs as many samples in its skip map, which has 4"):
        priced(patterns, batch=5)
    with pytest.raises(
        UnsupportedError, match=r"execution patterns are priced on systolic arrays, and .* is of kind reram"
    ):
        pj.evaluate(NETWORK, "isaac", activations=patterns)
