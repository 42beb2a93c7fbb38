"""What every accelerator promises; a new one joins by being listed in the entry points."""

import json

import pytest

from picojoule.models.zoo import build, example_inputs
from picojoule.sim.attributes import MAC_OPS, Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.hardware import load_hardware, plugins, presets
from picojoule.sim.ir import Unsupported
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.sim.technology import all_constants

PRESETS = sorted(presets())


@pytest.fixture(scope="module")
def network():
    return fold_batch_norm(from_module(build("dscnn-fashion"), example_inputs("dscnn-fashion"), name="dscnn"))


def test_every_plugin_loads_and_names_a_unit_for_every_operator():
    assert {p.kind for p in plugins()} >= {"systolic", "reram", "fpga-deform"}
    for plugin in plugins():
        assert plugin.problem == ""
        assert set(plugin.accelerator.unit_of_op) == {op.value for op in Op}
        assert plugin.accelerator.spec_type.model_fields["kind"].default == plugin.kind


@pytest.mark.parametrize("name", PRESETS)
class TestContract:
    def test_same_call_same_bytes(self, network, name):
        first, second = (load_hardware(name).evaluate(network, seed=3).to_json() for _ in range(2))
        assert first == second

    def test_totals_are_sums_and_ranges_hold_them(self, network, name):
        report = load_hardware(name).evaluate(network, batch=2)
        document = json.loads(report.to_json())
        totals = document["totals"]
        dynamic = sum(sum(layer["energy_pj"].values()) for layer in document["layers"])
        assert dynamic == pytest.approx(totals["energy_dynamic_pj"], rel=1e-9)
        assert dynamic + totals["energy_static_pj"] == pytest.approx(totals["energy_pj"], rel=1e-9)
        assert totals["energy_pj_per_sample"] * 2 == pytest.approx(totals["energy_pj"])
        assert totals["accelerator_latency_s"] + totals["host_latency_s"] == pytest.approx(totals["latency_s"])
        for metric, (low, high) in totals["ranges"].items():
            assert low <= totals[metric] <= high
        assert totals["macs"] == 2 * 1_184_336

    def test_every_energy_is_traced_to_known_constants(self, network, name):
        report = load_hardware(name).evaluate(network)
        used = {part for key in report.energy_by_constant() for part in key.split("*")}
        assert used <= set(all_constants())
        assert used <= set(report.provenance["sources"])

    def test_every_layer_has_a_row_with_a_unit(self, network, name):
        accelerator = load_hardware(name)
        report = accelerator.evaluate(network)
        assert [layer.name for layer in report.layers] == [layer.name for layer in network.layers]
        for layer in report.layers:
            assert layer.unit
            assert layer.compute_cycles >= 0 <= layer.stall_cycles
            if layer.macs and layer.utilization is not None:
                assert 0 < layer.utilization <= 1

    def test_a_larger_batch_costs_more_but_not_more_a_sample_in_time(self, network, name):
        one, eight = (load_hardware(name).evaluate(network, batch=b).totals for b in (1, 8))
        assert eight["energy_pj"] > one["energy_pj"]
        assert one["latency_s"] <= eight["latency_s"] <= 8 * one["latency_s"] * (1 + 1e-9)

    def test_arithmetic_is_integer_for_mac_layers(self, network, name):
        accelerator = load_hardware(name)
        for layer in network.layers:
            if layer.op in MAC_OPS:
                found = accelerator.arithmetic(layer)
                assert found.weight.is_integer
                assert found.activation.is_integer

    def test_it_refuses_what_it_does_not_know_and_bad_batches(self, network, name):
        accelerator = load_hardware(name)
        with pytest.raises(InputError, match="batch must be between 1 and"):
            accelerator.evaluate(network, batch=0)
        odd = type(network)(
            name="odd", inputs=network.inputs, outputs=network.outputs, layers=network.layers,
            unsupported=(Unsupported(op="Foo", layer="x", where="here"),),
        )  # fmt: skip
        with pytest.raises(UnsupportedError, match=r"^odd: cannot price 1 operator\(s\): Foo \(1x: here\)\."):
            accelerator.evaluate(odd)
        assert not accelerator.evaluate(odd, allow_unsupported=True).complete

    def test_area_is_positive_and_itemised(self, network, name):
        accelerator = load_hardware(name)
        area = accelerator.area(network)
        if area.mm2 is None:  # an FPGA has no area of its own but takes resources of its board
            assert area.items == ()
            used = accelerator.evaluate(network).totals["resources"]
            assert all(used[k] > 0 for k in ("dsp", "bram36", "lut", "ff"))
            return
        assert area.mm2 == pytest.approx(sum(item.mm2 for item in area.items))
        assert all(item.mm2 > 0 for item in area.items)
