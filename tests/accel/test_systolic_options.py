"""Options of systolic arrays together: totals add up, many designs equal one by one, and nothing is silently ignored."""

from dataclasses import replace

import numpy as np
import pytest

import picojoule as pj
from picojoule.accel.systolic import SystolicSpec
from picojoule.accel.systolic.load import load_of
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.designs import DESIGN_METRICS, price_designs
from picojoule.sim.errors import InfeasibleError, InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import Weights

OPTIONS = {
    "toggles": {"datapath_energy": "toggles"},
    "toggles, ordered": {"datapath_energy": "toggles", "dataflow": "is", "weight_order": "segments"},
    "sign and magnitude": {"datapath_energy": "toggles", "dataflow": "is", "number_code": "sign_magnitude"},
    "zero gating": {"zero_gating": True},
    "zero skipping": {"zero_skipping": "weights"},
    "2:4": {"structured_sparsity": "2:4"},
    "bit planes": {"precision": "bit_plane"},
    "bit serial": {"precision": "bit_serial"},
    "block float": {"pe_format": "block_float"},
    "block float on chip": {"pe_format": "block_float", "keep_on_chip": True},
    "one SRAM": {"sram": "shared", "sram_kib": 200.0},
    "on chip": {"keep_on_chip": True},
    "on chip in one SRAM": {"keep_on_chip": True, "sram": "shared", "sram_kib": 60.0},
    "float": {"pe_format": "float"},
    "ternary": {"pe_format": "ternary"},
    "slow DRAM": {"dram_latency_ns": 200.0, "dram_burst_bytes": 512},
    "groups in sequence": {"groups": "sequential"},
}


def weight(name, shape, seed, zeros=0.0):
    """Return random weights of which a share is zero, but in no channel all."""
    rng = np.random.default_rng(seed)
    kept = rng.random(shape) >= zeros
    place = np.arange(shape[1] * 9)
    kept.reshape(shape[0], -1)[place % shape[0], place] = True
    values = np.where(kept, np.sign(rng.normal(size=shape)) * rng.uniform(0.3, 1.0, shape), 0.0)
    return parameter(name, Weights(shape=shape, load=lambda: values.astype(np.float32)))


def small_network():
    """Return a convolution, a sparse one, a depthwise one, an addition and a linear layer, with values."""
    builder = NetworkBuilder("small")
    x = builder.input("x", TensorType(shape=(1, 8, 10, 10), batch_axis=0))
    plain = at.ConvAttributes(stride=(1, 1), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
    (y,) = builder.add(Op.CONV, [x, weight("a", (16, 8, 3, 3), 0)], plain, name="dense")
    (z,) = builder.add(Op.CONV, [y, weight("b", (16, 16, 3, 3), 1, 0.6)], plain, name="sparse")
    (d,) = builder.add(Op.CONV, [z, weight("c", (16, 1, 3, 3), 2, 0.3)], replace(plain, groups=16), name="depthwise")
    (y,) = builder.add(Op.ELEMENTWISE, [y, d], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name="add")
    return builder.finish([y])


NETWORK = small_network()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("option", OPTIONS)
def test_many_designs_are_priced_as_each_of_them_and_layers_add_up(option, batch):
    base = load_hardware("edge-16x16", OPTIONS[option])
    keys = {"rows": [4, 24, 40], "cols": [16, 5, 16]}
    found = price_designs(base, NETWORK, keys, batch=batch)
    assert not any(found.infeasible)
    for i in range(3):
        point = {key: values[i] for key, values in keys.items()}
        report = load_hardware(base.spec, point).evaluate(NETWORK, batch=batch)
        for metric in DESIGN_METRICS:
            assert found.totals[metric][i] == pytest.approx(report.totals[metric], rel=1e-12, abs=0), metric
        totals = report.totals
        for metric in ("compute_cycles", "stall_cycles"):
            assert sum(getattr(layer, metric) for layer in report.layers) == totals[metric]
        dynamic = sum(layer.energy_pj for layer in report.layers)
        assert totals["energy_dynamic_pj"] == pytest.approx(dynamic, rel=1e-12)
        for layer in report.layers:
            if layer.utilization is not None:
                assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1, abs=1e-9)
                assert min(layer.utilization, *layer.utilization_lost.values()) >= -1e-12


def by_name(options, batch=1, mapping="default"):
    report = pj.evaluate(NETWORK, "edge-16x16", overrides=options, batch=batch, mapping=mapping)
    return report, {layer.name: layer for layer in report.layers}


def test_zeros_save_energy_when_gated_and_cycles_when_skipped():
    _, dense = by_name({"dataflow": "ws"})
    _, gated = by_name({"dataflow": "ws", "zero_gating": True})
    _, skipped = by_name({"dataflow": "ws", "zero_skipping": "weights"})
    assert gated["sparse"].compute_cycles == dense["sparse"].compute_cycles
    mac = {name: sum(e.pj for e in layers["sparse"].energy if e.component == "mac") for name, layers in
           {"dense": dense, "gated": gated, "skipped": skipped}.items()}  # fmt: skip
    zeros = np.asarray(NETWORK.layers[1].operands[1].weights.array()) == 0
    assert mac["gated"] / mac["dense"] == pytest.approx(1 - zeros.mean(), rel=1e-9)
    assert mac["skipped"] == pytest.approx(mac["gated"])
    assert skipped["sparse"].compute_cycles < dense["sparse"].compute_cycles
    assert skipped["sparse"].utilization_lost["imbalance"] > 0
    assert skipped["sparse"].basis == "data"
    assert skipped["sparse"].macs == dense["sparse"].macs  # what the network asks for


def test_what_is_kept_on_chip_is_neither_written_nor_read():
    _, apart = by_name({})
    report, kept = by_name({"keep_on_chip": True})
    assert any(note.startswith("keep_on_chip: 3 value(s) stay in SRAM") for note in report.coverage.notes)
    assert kept["dense"].writes["dram.ofmap"] == kept["sparse"].reads["dram.ifmap"] == 0
    assert kept["dense"].dram_read_bytes == apart["dense"].dram_read_bytes  # the input comes from DRAM
    assert kept["add"].dram_read_bytes == 0
    assert kept["add"].dram_write_bytes == apart["add"].dram_write_bytes  # the output goes there
    assert kept["sparse"].dram_read_bytes == apart["sparse"].dram_read_bytes - apart["sparse"].reads["dram.ifmap"]


def test_a_searched_mapping_is_named_and_never_worse():
    overrides = {"ifmap_sram_kib": 1.0, "filter_sram_kib": 1.0, "ofmap_sram_kib": 2.0, "dram_gib_per_s": 0.5}
    for objective, metric in (("latency", "latency_cycles"), ("energy", "energy_pj")):
        options = {**overrides, "mapping_objective": objective}
        default, _ = by_name(options)
        searched, layers = by_name(options, mapping="search")
        assert searched.totals[metric] < default.totals[metric]
        assert any("mapping m " in layer.basis for layer in layers.values())
        assert searched.totals["stall_cycles"] == sum(layer.stall_cycles for layer in layers.values())


def test_prices_follow_weights_that_change():
    values = np.ones((4, 8), dtype=np.float32)
    builder = NetworkBuilder("changing")
    x = builder.input("x", TensorType(shape=(1, 8), batch_axis=0))
    handle = parameter("w", Weights(shape=(4, 8), load=lambda: values, origin=lambda: values))
    (y,) = builder.add(Op.LINEAR, [x, handle], at.LinearAttributes(), name="fc")
    network = builder.finish([y])
    gating = load_hardware("edge-16x16", {"zero_gating": True})
    first = gating.evaluate(network).energy_by_component()["mac"]
    values[:, ::2] = 0
    assert gating.evaluate(network).energy_by_component()["mac"] == pytest.approx(first / 2)


def test_sizes_of_an_earlier_design_are_not_those_of_a_later_one():
    keys = {"dram_gib_per_s": [4.0, 8.0]}
    for changes in ({"rows": 8}, {"rows": 32, "dataflow": "is", "ifmap_sram_kib": 9.0}, {}):
        base = load_hardware("edge-16x16", changes)
        found = price_designs(base, NETWORK, keys)
        assert found.totals["energy_pj"][1] == pytest.approx(base.evaluate(NETWORK).totals["energy_pj"], rel=1e-12)


def test_a_workload_is_remembered_for_equal_shared_keys_only():
    spec = SystolicSpec()
    first = load_of(NETWORK, spec, 1)
    assert load_of(NETWORK, spec.model_copy(update={"rows": 99, "ifmap_sram_kib": 3.0}), 1) is first
    assert load_of(NETWORK, spec.model_copy(update={"weight_bits": 16}), 1) is not first
    assert load_of(NETWORK, spec, 2) is not first
    assert load_of(small_network(), spec, 1) is not first
    assert all(o.weights is None for layer in first.workload.network.layers for o in layer.operands)


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sram": "shared"}, "sram: shared needs sram_kib, the capacity of the one SRAM in KiB"),
        ({"sram_kib": 8.0}, "sram_kib is the capacity of a shared SRAM; set sram: shared, or leave it out"),
        (
            {"structured_sparsity": "4:2"},
            "structured_sparsity is refused: a pattern is written N:M with 1 <= N < M <= 64, such as 2:4, got '4:2'",
        ),
        ({"structured_sparsity": "2:65"}, "structured_sparsity is refused: a pattern is written"),
        ({"groups": "beside"}, "groups must be 'side_by_side' or 'sequential', got 'beside'"),
        ({"dataflow": "wss"}, "dataflow must be 'os', 'ws' or 'is', got 'wss'"),
        ({"dram_gib_per_s": 0.0}, "dram_gib_per_s must be at least 0.000001, got 0.0"),
        ({"dram_gib_per_s": -1.0}, "dram_gib_per_s must be at least 0.000001, got -1.0"),
        ({"dram_gib_per_s": float("nan")}, "dram_gib_per_s must be a finite number, got nan"),
        ({"dram_latency_ns": -1.0}, "dram_latency_ns must be at least 0, got -1.0"),
        ({"dram_burst_bytes": 0}, "dram_burst_bytes must be at least 1, got 0"),
        ({"sram": "shared", "sram_kib": 65537.0}, "sram_kib must be at most 65536, got 65537.0"),
        ({"filter_sram_kib": 0.0}, "filter_sram_kib must be greater than 0, got 0.0"),
    ],
)
def test_a_bad_key_is_refused_in_one_sentence(changes, message):
    base = load_hardware("edge-16x16").spec
    with pytest.raises(InputError) as error:
        load_hardware(base, changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_sram_too_small_for_a_tile_is_infeasible_and_says_what_would_do():
    with pytest.raises(InfeasibleError) as error:
        by_name({"dataflow": "ws", "filter_sram_kib": 0.1})
    assert str(error.value) == (
        "layer 'dense' needs 512 bytes of filter SRAM, double-buffered, but there are 102; "
        "set filter_sram_kib to at least 0.5 or use a smaller array"
    )
    by_name({"dataflow": "ws", "filter_sram_kib": 0.5})
    with pytest.raises(InfeasibleError, match=r"^layer 'dense' needs \d+ bytes of shared SRAM"):
        by_name({"sram": "shared", "sram_kib": 0.2})
    sizes = [0.1, 0.5, 0.3]
    found = price_designs(load_hardware("edge-16x16", {"dataflow": "ws"}), NETWORK, {"filter_sram_kib": sizes})
    assert [bool(text) for text in found.infeasible] == [True, False, True]
    assert found.infeasible[0] == str(error.value) or found.infeasible[0].startswith("layer 'dense' needs 512 bytes")
    assert np.isnan(found.totals["energy_pj"]).tolist() == [True, False, True]
