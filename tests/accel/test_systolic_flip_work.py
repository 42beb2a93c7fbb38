"""What bits that flip cost beside the multiplier, what exponents of block floats move, and what reports say of designs."""

from dataclasses import replace

import numpy as np
import pytest

from picojoule.accel.systolic import SystolicArray, SystolicSpec, toggles
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.energy import EnergyModel
from picojoule.accel.systolic.flips import FlipRates, fold_table
from picojoule.sim import attributes as at
from picojoule.sim import technology as tech
from picojoule.sim.activation_source import ActivationSource
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.formats import parse_format
from picojoule.sim.ir import TensorType
from picojoule.sim.weights import from_array

PLAIN = at.ConvAttributes(stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1))
FLIPS = {"datapath_energy": "toggles", "dataflow": "is"}


def conv(channels=64, outputs=64, groups=1, size=4, kernel=1, form=""):
    builder = NetworkBuilder("conv")
    x = builder.input("x", TensorType(shape=(1, channels, size, size), batch_axis=0))
    drawn = np.random.default_rng(0).laplace(size=(outputs, channels // groups, kernel, kernel))
    w = parameter("w", from_array(drawn.astype(np.float32)))
    if form:
        x, w = replace(x, format=parse_format(form)), replace(w, format=parse_format(form))
    return builder.finish(builder.add(Op.CONV, [x, w], replace(PLAIN, groups=groups), name="conv"))


def evaluated(network, activations=None, **keys):
    return SystolicArray(SystolicSpec(**keys)).evaluate(network, activations=activations)


# --- flips --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "sizes", "array"), [(1, (3, 7, 9), (4, 3)), (5, (2, 2, 3), (7, 5)), (2, (4, 4, 6), (4, 4))]
)
def test_held_words_flip_from_fold_to_fold(groups, sizes, array):
    """Walked PE by PE: the word a PE holds while it multiplies, in the order of folds."""
    m, n, k = sizes
    rng = np.random.default_rng(1)
    w, x = rng.integers(-128, 128, (groups, n, k)), rng.integers(-128, 128, (groups, k, m))
    for dataflow, tile in (("ws", w.swapaxes(1, 2)), ("is", x)):
        held, total = np.zeros((99, 99), dtype=int), 0
        for first, members, low, height, left, width in fold_table(groups, *tile.shape[1:], *array).tolist():
            for q in range(members):
                for i in range(height):
                    for c in range(width):
                        word, pe = int(tile[first + q, low + i, left + c]) & 255, (q * height + i, q * width + c)
                        total += (int(held[pe]) ^ word).bit_count()
                        held[pe] = word
        flips = toggles.port_flips(w, x, dataflow, *array)
        assert (flips.weight_mac if dataflow == "ws" else flips.activation_mac) == total


def test_a_linear_layer_for_one_sample_meets_a_new_weight_in_every_mac():
    rng = np.random.default_rng(2)
    w, x = rng.integers(-128, 128, (1, 256, 256)), rng.integers(-128, 128, (1, 256, 1))
    flips = toggles.port_flips(w, x, "ws", 16, 16)
    expected = toggles.expected_flips("ws", 16, 16, m=1, n=256, k=256)
    assert flips.weight_mac / (8 * flips.macs) == pytest.approx(0.5, abs=0.005)
    assert expected.weight_mac == pytest.approx(flips.weight_mac, rel=0.01)
    assert FlipRates.of(flips, "ws", 8, 8).weight_register == 0.0
    assert FlipRates.of(flips, "ws", 8, 8).load == pytest.approx(0.5, abs=0.005)


def test_registers_by_hand():
    """ws: activation and sum are clocked each step; a load moves weights; sums and shadow copies are random data."""
    rates = FlipRates(weight=0.1, activation=0.2, weight_register=0.0, activation_register=0.2, load=0.3)
    model = EnergyModel(DesignArrays.of(SystolicSpec(dataflow="ws", overlap_load=True)))
    bit = float(tech.register_energy_pj(1, 45.0))

    def part(rate):
        return 0.88 + 0.12 * 2 * rate

    found = sum(charge.pj.item() for charge in model.toggled_registers(100.0, 40.0, 7.0, rates))
    assert found == pytest.approx(bit * (100 * 32 + 7 * 8 + 100 * 8 * part(0.2) + 40 * 8 * part(0.3)))
    halves = FlipRates(weight=0.5, activation=0.5, weight_register=0.5, activation_register=0.5, load=0.5)
    for flow in ("os", "ws", "is"):
        model = EnergyModel(DesignArrays.of(SystolicSpec(dataflow=flow, overlap_load=True)))
        random = sum(charge.pj.item() for charge in model.toggled_registers(100.0, 40.0, 7.0, halves))
        assert random == pytest.approx(sum(charge.pj.item() for charge in model.registers(100.0, 40.0, 7.0)))


def test_quiet_data_save_register_energy():
    network = conv()
    quiet = ActivationSource(inputs={"conv": (np.zeros((1, 64, 16), dtype=int),)})
    loud, still = (
        evaluated(network, **FLIPS | {"dataflow": "ws"}),
        evaluated(network, quiet, **FLIPS | {"dataflow": "ws"}),
    )
    assert still.energy_by_component()["register"] < loud.energy_by_component()["register"]
    assert still.energy_by_component()["mac"] < loud.energy_by_component()["mac"]


def test_words_are_as_wide_as_the_multiplier_that_is_priced():
    """Sign and magnitude of 4 bits leave the other 4 inputs of an 8-bit PE at rest."""
    network = conv(form="int4")
    own = evaluated(network, **FLIPS, number_code="sign_magnitude", weight_bits=4, activation_bits=4)
    wide = evaluated(network, **FLIPS, number_code="sign_magnitude", activation_bits=4)

    def rate(report, weight, activation):
        macs = report.layers[0].macs
        parts = tech.multiply_add_energy_pj(weight, activation, 32, 45.0).energy_by_constant
        multiply = sum(float(v) for key, v in parts.items() if "multiply" in key)
        slope = sum(e.pj for e in report.layers[0].energy if "mac.toggle.slope" in e.constant)
        return slope / (macs * multiply * 0.56) - 0.5 / 64  # but for the activations' half, once per 64 channels

    assert rate(wide, 8, 4) == pytest.approx(rate(own, 4, 4) / 2, rel=1e-6)


def test_orders_of_segments_pay_for_their_table():
    """64 channels, 4 row folds of 16, 16 pixels: 64 addresses of 6 bits are six reads of 64 bits in each of 4 folds."""
    network = conv()
    plain, channels, segments = (
        evaluated(network, **FLIPS, weight_order=order) for order in ("as_is", "channels", "segments")
    )
    assert "sram.order" not in plain.energy_by_component() | channels.energy_by_component()
    (line,) = [e for e in segments.layers[0].energy if e.component == "sram.order"]
    kib = 4 * 64 * 6 / 8192
    assert line.events == 4 * 6
    assert line.pj_per_event == pytest.approx(float(tech.sram_energy_pj(kib, 64, 45.0, "lop", kind="read")))
    (area,) = [a.mm2 for a in segments.area.items if a.component == "sram.order"]
    assert area == pytest.approx(float(tech.sram_area_mm2(kib, 45.0, "lop")))
    assert any(e.component == "leakage.sram.order" for e in segments.static_energy)


def test_reports_say_what_flips_rest_on():
    network, rng = conv(), np.random.default_rng(3)
    source = ActivationSource(
        inputs={"conv": tuple(rng.integers(0, 99, (1, 64, 16)) for _ in range(3))}, origin="a split"
    )
    counted, guessed = evaluated(network, source, **FLIPS), evaluated(network, **FLIPS | {"dataflow": "os"})
    assert any("mean over 3 inputs (a split), widest 95 % interval +-" in note for note in counted.coverage.notes)
    assert (counted.layers[0].basis, guessed.layers[0].basis) == ("data", "statistics")
    assert any("1 of 1 array layers: activations are taken as random" in note for note in guessed.coverage.notes)
    assert any("its linear law is off by -14 % to +84 %" in note for note in guessed.coverage.notes)
    drawn = evaluated(replace(network, weights="random"), **FLIPS | {"dataflow": "ws", "weight_order": "channels"})
    assert any("weights are drawn at random" in note for note in drawn.coverage.notes)
    assert any("in dataflow ws: weight_order saves nothing" in note for note in drawn.coverage.notes)


# --- block floats, ports, notes -----------------------------------------------------------------------------------------


def test_exponents_of_block_floats_travel():
    whole, block = (evaluated(conv(), pe_format=kind).layers[0] for kind in ("integer", "block_float"))
    assert block.dram_read_bytes - whole.dram_read_bytes == (64 * 16 + 64 * 64) // 16  # one byte for 16 elements
    assert block.dram_write_bytes - whole.dram_write_bytes == 64 * 16 // 16
    for part in ("dram", "sram.ifmap", "sram.filter", "sram.ofmap"):
        assert sum(e.pj for e in block.energy if e.component == part) > sum(
            e.pj for e in whole.energy if e.component == part
        )


def test_a_depthwise_convolution_has_an_exponent_per_element():
    whole, block = (evaluated(conv(groups=64), pe_format=kind).layers[0] for kind in ("integer", "block_float"))
    assert block.dram_read_bytes == 2 * whole.dram_read_bytes
    assert block.dram_write_bytes == whole.dram_write_bytes * 17 // 16  # results in blocks of all channels


def test_a_port_beyond_the_widest_is_several_srams():
    def lane(rows):
        spec = SystolicSpec(rows=rows, ifmap_sram_kib=65536, dataflow="ws")
        return float(EnergyModel(DesignArrays.of(spec))._port_prices("ifmap", "read").lane_pj.item())

    assert lane(2048) == pytest.approx(float(tech.sram_port(32768, 8192, 45.0, "lop").lane_pj))
    assert lane(65536) <= lane(2048) <= lane(1024)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"number_code": "sign_magnitude"}, "number_code changes nothing with datapath_energy: average; use toggles"),
        ({"float_format": "fp16"}, "float_format changes nothing with pe_format: integer"),
        ({"pe_format": "float", "weight_bits": 4}, "weight_bits changes nothing with pe_format: float"),
        ({"precision": "decomposable"}, "decomposable PEs are priced as plain multipliers"),
        ({"clock_mhz": 10000, "sram_cell": "lstp"}, "a cycle 0.1 ns; at most"),
    ],
)
def test_reports_say_what_changes_nothing_or_is_left_out(keys, said):
    network = conv(size=1)
    assert any(said in note for note in evaluated(network, **keys).coverage.notes)
    assert not any(said in note for note in evaluated(network).coverage.notes)
