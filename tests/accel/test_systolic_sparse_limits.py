"""Where leaving out zeros stops: patterns that save nothing, loads that are not shortened, pairs of options that are refused."""

from dataclasses import replace

import numpy as np
import pytest

import picojoule as pj
from picojoule.accel.systolic import timing
from picojoule.accel.systolic.sparse_work import sparse_work
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.timing import Dataflow
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.designs import price_designs
from picojoule.sim.errors import InputError
from picojoule.sim.formats import parse_format, parse_sparsity
from picojoule.sim.gemm import gemm_view
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import Weights

INT8 = parse_format("int8", per="channel")


def network(values, sparsity="unstructured", size=16):
    kernel = values.shape[2]
    builder = NetworkBuilder("one")
    x = builder.input("x", TensorType(shape=(1, values.shape[1], size, size), batch_axis=0))
    pad = (kernel // 2,) * 2
    attributes = at.ConvAttributes(stride=(1, 1), padding_begin=pad, padding_end=pad, dilation=(1, 1))
    held = Weights(shape=values.shape, load=lambda: values.astype(np.float32))
    (y,) = builder.add(Op.CONV, [x, parameter("w", held)], attributes, name="conv")
    made = builder.finish([y])
    (layer,) = made.layers
    declared = parse_sparsity(
        sparsity, 1.0 if sparsity == "unstructured" else None
    )  # the weights say how dense they are
    operands = (layer.operands[0], replace(layer.operands[1], sparsity=declared))
    return replace(made, layers=(replace(layer, operands=operands),))


def work_of(values, sparsity="unstructured", **options):
    layer = network(values, sparsity).layers[0]
    spec = SystolicSpec(rows=16, cols=16, **options)
    return sparse_work(layer, gemm_view(layer, 1), INT8, spec, 16, 16, spec.dataflow)


def n_of_m(shape, n, m, seed=0):
    """Return weights of which the first n of every m input channels, in an order of each output's own, are kept."""
    rng = np.random.default_rng(seed)
    place = rng.permuted(np.broadcast_to(np.arange(shape[1]) % m < n, shape[:2]).reshape(shape[0], -1, m), axis=2)
    return rng.uniform(0.3, 1.0, shape) * place.reshape(*shape[:2], 1, 1)


def priced(made, **options):
    return pj.evaluate(made, "edge-16x16", overrides=options).layers[0]


def test_input_stationary_pes_load_the_words_of_whole_groups():
    made = network(n_of_m((64, 64, 1, 1), 2, 4), "2:4")
    layer = priced(made, dataflow="is", structured_sparsity="2:4")
    plain = priced(made, dataflow="is")
    short = timing.fold_cycles(Dataflow.IS, 16, 16, 256, 64, 32)
    folds = 16 * 2
    assert layer.compute_cycles == short + folds * 16  # 32 rows to load for the 16 of a fold
    assert layer.reads["sram.ifmap"] == plain.reads["sram.ifmap"] == 256 * 64
    assert layer.compute_cycles < plain.compute_cycles
    hidden = priced(made, dataflow="is", structured_sparsity="2:4", overlap_load=True)
    overlapped = timing.fold_cycles(Dataflow.IS, 16, 16, 256, 64, 32, overlap_load=True)
    assert hidden.compute_cycles == overlapped + 16  # the first load is exposed
    for found in (layer, hidden):
        assert found.utilization + sum(found.utilization_lost.values()) == pytest.approx(1)
    for dataflow in ("ws", "os"):
        assert priced(made, dataflow=dataflow, structured_sparsity="2:4").compute_cycles == timing.fold_cycles(
            Dataflow.of(dataflow), 16, 16, 256, 64, 32
        )
    base = load_hardware("edge-16x16", {"structured_sparsity": "2:4"})
    keys = {"dataflow": ["is", "ws", "is", "os"], "rows": [16, 16, 24, 24], "overlap_load": [False, False, True, False]}
    many = price_designs(base, made, keys)
    for i in range(4):
        one = load_hardware(base.spec, {key: values[i] for key, values in keys.items()}).evaluate(made)
        assert many.totals["compute_cycles"][i] == one.totals["compute_cycles"]
        assert many.totals["energy_pj"][i] == pytest.approx(one.totals["energy_pj"], rel=1e-12)


def test_a_pattern_that_leaves_nothing_out_is_not_stored_compressed():
    values = np.zeros((64, 64, 3, 3))
    values[:, ::2] = n_of_m((64, 32, 3, 3), 32, 32)  # every other channel is dead: 2 of 4 are left, in all groups
    work = work_of(values, structured_sparsity="2:4")
    assert work.gemm.k == work.ifmap_k == 288
    assert (work.stored_weight_bits, work.metadata_bits) == (64 * 288 * 8, 0)
    assert any(note.endswith("keeps more than 2: nothing is left to compress") for note in work.notes)
    assert priced(network(values), structured_sparsity="2:4").dram_read_bytes == priced(network(values)).dram_read_bytes


def test_a_pattern_that_leaves_little_out_is_taken_and_its_storage_named():
    work = work_of(n_of_m((8, 64, 1, 1), 31, 32), structured_sparsity="31:32")
    assert (work.gemm.k, work.ifmap_k) == (62, 64)
    assert work.notes == (
        "31:32 weights take 1.57 times the storage of dense ones: positions cost more than words save",
    )


def test_gating_of_weights_that_are_declared_dense_changes_no_cycle():
    values = n_of_m((32, 32, 3, 3), 16, 32)
    values[5], values[:, 7] = 0, 0
    plain, gated = priced(network(values, "dense")), priced(network(values, "dense"), zero_gating=True)
    same = ("compute_cycles", "stall_cycles", "reads", "writes", "dram_read_bytes", "utilization", "utilization_lost")
    assert all(getattr(plain, name) == getattr(gated, name) for name in same)
    assert gated.energy_pj < plain.energy_pj
    assert priced(network(values), zero_gating=True).compute_cycles < plain.compute_cycles  # declared: removed


def test_a_share_that_rounds_to_nothing_is_not_said():
    values = np.ones((64, 64, 3, 3))
    values[0, 0] = 0  # 0.02 %
    work = work_of(values, zero_gating=True)
    assert (work.gated_share, work.notes) == (0, ())
    values[:32, :1] = 0  # 0.8 %
    assert work_of(values, zero_gating=True).notes[0].startswith("zero gating: PEs rest in 1% of the MACs")


def test_skipping_writes_the_sums_of_the_folds_it_fills():
    values = n_of_m((16, 64, 1, 1), 16, 64)
    small = {"dataflow": "ws", "ofmap_sram_kib": 1.0, "zero_skipping": "weights"}
    dense, skipped = (priced(network(v), **small) for v in (np.ones_like(values), values))
    assert dense.reads["dram.psum"] == 3 * 256 * 16  # four folds
    assert skipped.reads["dram.psum"] == 0  # one
    assert skipped.utilization + sum(skipped.utilization_lost.values()) == pytest.approx(1)
    assert min(skipped.utilization_lost.values()) >= 0


def test_two_machines_for_zeros_and_scalesim_are_refused_together():
    made = network(n_of_m((8, 8, 3, 3), 2, 4), "2:4")
    with pytest.raises(InputError, match="zero_skipping and structured_sparsity are two machines for leaving out zero"):
        priced(made, zero_skipping="weights", structured_sparsity="2:4")
    for option in ({"zero_skipping": "weights"}, {"structured_sparsity": "2:4"}):
        with pytest.raises(
            InputError, match=f"as SCALE-Sim does, which has no {next(iter(option))}; leave one of them"
        ):
            priced(made, compat="scalesim", **option)
    dense = network(np.ones((8, 8, 3, 3)))
    for options in ({}, {"zero_gating": True}):
        found, plain = (priced(n, compat="scalesim", **options) for n in (made, dense))
        assert (found.compute_cycles, found.reads) == (plain.compute_cycles, plain.reads)


def test_lanes_of_bit_planes_are_a_key():
    made = network(np.ones((8, 64, 3, 3)))
    few, many = (priced(made, precision="bit_plane", dataflow="os", plane_lanes=lanes) for lanes in (64, 128))
    assert few.compute_cycles == timing.fold_cycles(Dataflow.OS, 16, 16, 256, 8, 576)
    assert many.compute_cycles == timing.fold_cycles(Dataflow.OS, 16, 16, 256, 8, 5 * 64)  # 576 in fives
