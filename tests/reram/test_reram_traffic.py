"""Buses, router ports, links and eDRAM; written crossbars; rows read in groups; power policies; nodes."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from picojoule.reram.area import tile_busy_mw
from picojoule.reram.technology import component_classes
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.errors import InputError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.technology import ConstantClass, constant
from picojoule.sim.weights import constant_fill

from .networks import (
    EIGHT,
    attention,
    isaac,
    one_conv,
    one_linear,
    priced,
    product_of_activations,
    random_net,
    small_cnn,
)


def stages(network: Network, **changes: Any) -> str:
    (found,) = [n for n in priced(network, chips=1, **changes).coverage.notes if "slowest" in n]
    return found.split("'")[1]


# --- time on the way -------------------------------------------------------------------------------------


def test_every_resource_can_be_the_slowest_stage() -> None:
    # One token of 128 inputs: 0.8 us in the crossbar; 128 x 8 bits in, 32 x 8 bits out.
    network = one_linear(128, 32)
    assert stages(network, **EIGHT) == "fc"
    slow_bus = priced(network, **EIGHT, edram_bits_per_cycle=1)
    assert slow_bus.totals["interval_s"] == pytest.approx((128 + 32) * 8 / 1.2e9)
    assert stages(network, **EIGHT, edram_bits_per_cycle=1) in ("fc", "bus of tile 0")
    slow_port = priced(network, **EIGHT, router_bits_per_cycle=1)
    assert slow_port.totals["interval_s"] == pytest.approx((128 + 32) * 8 / 1.2e9)


def test_links_limit_what_comes_from_outside() -> None:
    network = one_conv(1024, 1, size=32, kernel=1)  # 8 Mbit in; 1024 positions of 0.8 us
    wide = priced(network, **EIGHT)
    assert wide.totals["interval_s"] == pytest.approx(1024 * 0.8e-6)
    narrow = priced(network, **EIGHT, hypertransport_links=1, read_ns=1.0, adc_bits=1, router_bits_per_cycle=65536)
    bits = 8 * (1024 + 1) * 1024
    assert narrow.totals["interval_s"] == pytest.approx(bits / 51.2e9)  # 6.4 GB/s
    assert narrow.layers[0].utilization_lost["transfer"] > 0
    assert narrow.layers[0].latency_s == pytest.approx(bits / 51.2e9, rel=1e-3)
    free = priced(network, **EIGHT, hypertransport_links=0)
    assert "link" not in free.energy_by_component()
    assert "hypertransport" not in {item.component for item in free.area.items}


def test_layers_of_a_tile_share_its_bus() -> None:
    b = NetworkBuilder("two")
    x = b.input("x", TensorType(shape=(1, 64), batch_axis=0))
    for i in range(2):
        w = parameter(f"w{i}", constant_fill(0.5, (64, 64)))
        (x,) = b.add(Op.LINEAR, [x, w], at.LinearAttributes(), name=f"fc{i}")
    report = priced(b.finish([x]), **EIGHT, edram_bits_per_cycle=1)
    assert report.totals["interval_s"] == pytest.approx(2 * 128 * 8 / 1.2e9)
    assert "the slowest pipeline stage is 'bus of tile 0'" in report.coverage.notes


def test_waiting_for_the_bus_is_a_loss_of_its_own() -> None:
    (layer,) = priced(one_linear(128, 32), **EIGHT, edram_bits_per_cycle=1).layers
    assert layer.utilization is not None
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1.0)
    assert layer.utilization_lost["transfer"] > 0
    assert layer.utilization == pytest.approx(128 * 128 / (8 * 128 * 128) * 0.8e-6 / (160 * 8 / 1.2e9))


def test_what_the_edram_cannot_hold_goes_off_the_chip_and_back() -> None:
    network = one_conv(64, 16, size=64)  # windows wait for two of 64 rows: 8 KiB
    held, short = (priced(network, **EIGHT, edram_kib=k) for k in (8.0, 2.0))
    assert "spill" not in held.energy_by_component()
    bits = 2 * 0.75 * 8 * 64 * 64 * 64
    assert short.energy_by_component()["spill"] == pytest.approx(bits * constant("dram.ddr4.bit").value)
    more = short.energy_by_component()["link"] - held.energy_by_component()["link"]
    assert more == pytest.approx(bits / 128 * constant("link.chip.128bit").value)


# --- rows in groups, writing -----------------------------------------------------------------------------


def test_rows_in_groups_are_more_reads_and_more_conversions() -> None:
    network = one_linear(200, 16, tokens=10)  # two tiles of 100 rows: four groups of 25 each
    whole, grouped = (priced(network, **EIGHT, rows_active=r) for r in (None, 30))
    assert grouped.totals["interval_s"] == pytest.approx(4 * whole.totals["interval_s"])
    bills = [{e.component: e for e in r.layers[0].energy} for r in (whole, grouped)]
    assert bills[1]["adc"].events == 4 * bills[0]["adc"].events
    assert bills[1]["sample_hold"].events == 4 * bills[0]["sample_hold"].events
    assert bills[1]["output_register"].events == 4 * bills[0]["output_register"].events
    assert bills[1]["dac"].events == bills[0]["dac"].events  # every row is driven once
    assert bills[1]["crossbar"].events == bills[0]["crossbar"].events


def test_written_products_by_hand() -> None:
    report = priced(product_of_activations(), batch=3, **EIGHT, dynamic_matmul="write")
    (layer,) = report.layers
    assert layer.unit == "crossbar"
    cells = 4 * 64 * 48 * 4  # heads x rows x columns x slices
    bill = {e.component: e.pj for e in layer.energy}
    assert bill["write"] == pytest.approx(3 * cells * 8.5 * 20.0)
    writing = 64 * 8.5 * (50 + 100) * 1e-9  # rows x pulses x (pulse and verifying read)
    reading = 32 * 8 * 100e-9
    assert report.totals["interval_s"] == pytest.approx(3 * (writing + reading))
    assert layer.utilization is not None
    assert layer.utilization_lost["writing"] > 0
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1.0)
    assert report.totals["resources"]["crossbars"] == 4 * 2  # heads x column tiles (32 weights of 4 cells)
    assert (
        f"products of two activations write {3 * cells} cells in 1 layer(s), each cell once per sample: 1e+06 inferences wear "
        "them out"
    ) in priced(product_of_activations(), batch=3, **EIGHT, dynamic_matmul="write", endurance_writes=1e6).coverage.notes
    dear = priced(product_of_activations(), **EIGHT, dynamic_matmul="write", write_pj_per_cell=40.0, write_pulses=17.0)
    assert {e.component: e.pj for e in dear.layers[0].energy}["write"] == pytest.approx(cells * 17 * 40.0)


def test_written_matrices_have_no_copies() -> None:
    report = priced(attention(), chips=1, dynamic_matmul="write", replication="balanced")
    assert {layer.unit for layer in report.layers if layer.macs} == {"crossbar"}
    assert report.totals["energy_pj"] > 0


def test_writing_the_weights_is_said_and_in_no_total() -> None:
    notes = priced(one_linear(128, 32), **EIGHT).coverage.notes
    # 128 x 32 x 4 cells x 8.5 pulses x 20 pJ; 128 rows x 8.5 x 150 ns
    assert (
        "writing the weights, once per deployment and in no total: 0.00279 mJ, 0.163 ms; cells of 1e+08 writes bear as many "
        "deployments" in notes
    )
    assert "write" not in priced(one_linear(128, 32)).energy_by_component()


# --- rows that are on ------------------------------------------------------------------------------------


def test_packed_groups_count_the_wordlines_of_their_crossbar() -> None:
    """Of 14 groups of 9 rows, 32 rows hold three whole ones and 8 rows no whole one."""
    network = one_conv(32, 32, groups=32)
    at_once = priced(network, **EIGHT)
    for rows, reads in ((128, 1), (126, 1), (32, 5), (9, 14), (8, 28)):
        report = priced(network, **EIGHT, rows_active=rows)
        assert report.totals["interval_s"] == pytest.approx(reads * at_once.totals["interval_s"])
        conversions = [{e.component: e.events for e in r.layers[0].energy}["adc"] for r in (report, at_once)]
        assert conversions[0] == conversions[1] * (2 if rows == 8 else 1)


# --- power -----------------------------------------------------------------------------------------------


def test_idle_tiles_leak_within_their_idle_share_only() -> None:
    used, whole = (priced(small_cnn(), chips=1, power_policy=p) for p in ("used_tiles", "whole_chip"))
    parts, others = used.energy_by_component(), whole.energy_by_component()
    assert others["leakage"] == pytest.approx(parts["leakage"])
    assert others["idle"] > 10 * parts["leakage"]
    assert whole.totals["energy_pj"] > used.totals["energy_pj"]


@settings(max_examples=6, deadline=None)
@given(
    batch=st.integers(1, 6),
    node=st.sampled_from([22.0, 28.0, 32.0, 45.0, 65.0]),
    links=st.integers(0, 6),
    dynamic=st.sampled_from(["digital", "host", "write"]),
    edram=st.sampled_from([0.5, 64.0]),
)
def test_power_policies_are_ordered(batch: int, node: float, links: int, dynamic: str, edram: float) -> None:
    keys = {"node_nm": node, "hypertransport_links": links, "dynamic_matmul": dynamic, "edram_kib": edram}
    for network in (small_cnn(), attention()):
        energies = [
            priced(network, batch=batch, power_policy=policy, **keys).totals["energy_pj"]
            for policy in ("dynamic_only", "used_tiles", "whole_chip")
        ]
        assert energies == sorted(energies)
        assert energies[0] < energies[1] < energies[2]


def test_a_busy_tile_of_the_table() -> None:
    spec: Any = isaac().spec
    assert tile_busy_mw(spec, (8,)) == pytest.approx(329.8, abs=0.1)


def test_idle_parts_draw_a_share_of_their_busy_power() -> None:
    report = priced(one_linear(128, 128 * 12, tokens=1000), power_policy="whole_chip")  # one tile of 168 is busy
    ns = report.totals["latency_s"] * 1e9
    parts = report.energy_by_component()
    on_tiles = sum(pj for name, pj in parts.items() if name not in ("leakage", "idle", "hypertransport", "link"))
    assert parts["idle"] == pytest.approx(0.1 * (168 * 329.8 * ns - on_tiles), rel=1e-3)
    name_plate = (168 * 329.8 + 10400.0) * ns  # 65.8 W
    assert 0.2 * name_plate < report.totals["energy_pj"] < name_plate


def test_every_component_has_a_class() -> None:
    classes = {c.component: c for c in component_classes()}
    found: set[str] = set()
    for policy in ("used_tiles", "whole_chip"):
        for dynamic in ("digital", "write"):
            for network in (small_cnn(), attention()):
                keys: dict[str, Any] = {"power_policy": policy, "dynamic_matmul": dynamic, "edram_kib": 0.5}
                found |= set(priced(network, **keys).energy_by_component())
    parts = {"row_driver": "switch", "column_select": "multiplexer", "accumulators": "per_adc", "cell_area_f2": 48.0}
    found |= set(priced(small_cnn(), **parts, device={"preset": "neurosim-rram"}).energy_by_component())
    assert found - {"vector", "host"} == set(classes)
    assert {classes[c].kind for c in ("leakage", "idle", "hypertransport")} == {ConstantClass.STATIC}
    assert {classes[c].kind for c in ("edram", "bus", "router", "link", "spill")} == {ConstantClass.PER_ACCESS}
    assert {classes[c].kind for c in ("adc", "dac", "crossbar", "write")} == {ConstantClass.PER_EVENT}


# --- nodes -----------------------------------------------------------------------------------------------


def test_parts_follow_the_node_each_in_its_own_way() -> None:
    at32, at22 = (priced(small_cnn(), node_nm=nm) for nm in (32.0, 22.0))
    areas = [{i.component: i.mm2 for i in r.area.items} for r in (at32, at22)]
    ratio = {name: areas[1][name] / areas[0][name] for name in areas[0]}
    assert ratio["crossbar"] == pytest.approx((22 / 32) ** 2)  # F^2
    assert ratio["hypertransport"] == 1.0
    assert ratio["adc"] == ratio["dac"] == pytest.approx(0.535, abs=0.001)  # Stillmaker and Baas
    assert ratio["edram"] == pytest.approx(0.481, abs=0.001)  # CACTI
    bills = [r.energy_by_component() for r in (at32, at22)]
    assert bills[1]["crossbar"] == bills[0]["crossbar"]
    assert bills[1]["link"] == bills[0]["link"]
    assert bills[1]["adc"] / bills[0]["adc"] == pytest.approx(0.519, abs=0.001)
    low, high = at22.totals["ranges"]["energy_pj"]
    assert low < at22.totals["energy_pj"] < high


@pytest.mark.parametrize("node", [14.0, 90.0])
def test_nodes_outside_the_tables_are_refused(node: float) -> None:
    with pytest.raises(InputError, match=rf"node_nm must be at (least 22|most 65), got {node}"):
        isaac(node_nm=node)


def test_the_signed_preset_follows_the_weights() -> None:
    report = load_hardware("isaac-differential-2b").evaluate(random_net())
    assert report.hardware["assumed_precision"] == "int9 weights, int8 activations"
    assert report.totals["resources"]["crossbars"] == 2 * (
        2 + 2 + 9
    )  # four slices a weight, both signs: 144, 144, 1152 rows
    assert any(n.startswith("ADC bits by slice") for n in report.coverage.notes)
