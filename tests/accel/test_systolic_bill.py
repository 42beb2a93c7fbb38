"""One layer billed by hand, every component, so that no price can move unseen; and the laws of batches and formats."""

from dataclasses import replace

import pytest

import picojoule as pj
from picojoule.accel.systolic import SystolicArray, SystolicSpec
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.formats import parse_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.memory import peak_activation_bytes
from picojoule.sim.passes import fill_formats
from picojoule.sim.technology import (
    constant,
    register_area_um2,
    register_energy_pj,
    sram_area_mm2,
    sram_leakage_mw,
    sram_port,
)
from picojoule.sim.weights import constant_fill

M, K, N = 40, 24, 20
PLAIN = at.ConvAttributes(stride=(1, 1), padding_begin=(0, 0), padding_end=(0, 0), dilation=(1, 1))


def linear_network():
    builder = NetworkBuilder("linear")
    x = builder.input("x", TensorType(shape=(1, M, K), batch_axis=0))
    operands = [x, parameter("w", constant_fill(0.5, (N, K))), parameter("b", constant_fill(0.5, (N,)))]
    (y,) = builder.add(Op.LINEAR, operands, at.LinearAttributes(), name="fc")
    return builder.finish([y])


def moved(words, bits, port_bits, kind, accesses=None):
    """Return what words cost at a 64 KiB buffer: lanes of 256 bits woken, and bits; None: whole ports."""
    port = sram_port(64, port_bits, 45.0, "lop", kind=kind)
    lanes = words * bits / min(256, port_bits) if accesses is None else max(accesses, words * bits / 256)
    return float(lanes * port.lane_pj + words * bits * port.bit_pj)


@pytest.mark.parametrize("dataflow", ["os", "ws"])
def test_every_component_of_one_layer_by_hand(dataflow):
    spec = SystolicSpec(rows=8, cols=16, dataflow=dataflow)
    report = SystolicArray(spec).evaluate(linear_network())
    macs = M * K * N
    row_folds, col_folds = (5, 2) if dataflow == "os" else (3, 2)
    ifmap_reads = col_folds * M * K
    filter_reads = row_folds * K * N if dataflow == "os" else K * N
    passes = 1 if dataflow == "os" else row_folds
    psums = (passes - 1) * M * N
    read_bytes, write_bytes = M * K + K * N + 4 * N, M * N  # everything fits, biases are 32-bit
    registers = (8 + 8 + 32) if dataflow == "os" else (8 + 32)
    # Full folds of 8 rows: words move 8 x 7 / 2 times down a column in a drain, 8 x 9 / 2 times in a load; 20 columns in all.
    shifted_bits = 5 * 20 * 28 * 32 if dataflow == "os" else 3 * 20 * 36 * 8
    # Stillmaker and Baas from the tabulated 40 nm to 45 nm, as the technology tests check it.
    register_pj = (macs * registers + shifted_bits) * float(register_energy_pj(1, 45.0))
    # An edge access a step of a stream (os 24, ws 40 in each fold), or a row of a tile (os 40 results, ws 24 of weights).
    ifmap, filters = (10 * 24, 10 * 24) if dataflow == "os" else (6 * 40, 2 * 24)
    outputs = 2 * 40
    sums = 0 if dataflow == "os" else 2 * 2 * 40
    expected = {
        "mac": macs * (0.2 + 0.1),
        "register": register_pj,
        "sram.ifmap": moved(ifmap_reads, 8, 64, "read", ifmap) + moved(M * K, 8, 64, "write"),
        "sram.filter": moved(filter_reads, 8, 128, "read", filters) + moved(K * N, 8, 128, "write"),
        "sram.ofmap": moved(M * N, 8, 512, "write", outputs)
        + moved(M * N, 8, 512, "read")
        + moved(psums, 32, 512, "write", sums)
        + moved(psums, 32, 512, "read", sums),
        "dram": 8 * (read_bytes + write_bytes) * 8.0,
    }
    bill = report.energy_by_component()
    for component, pj_expected in expected.items():
        assert bill[component] == pytest.approx(pj_expected, rel=1e-9), component
    assert report.layers[0].dram_read_bytes == read_bytes
    assert report.layers[0].dram_write_bytes == write_bytes
    nanoseconds = report.totals["latency_s"] * 1e9
    leak = float(sram_leakage_mw(64, 45.0, "lop"))
    assert bill["leakage.sram.filter"] == pytest.approx(leak * nanoseconds)
    relative = leak / float(sram_leakage_mw(64, 45.0, "hp"))
    logic = sum(i.mm2 for i in report.area.items if not i.component.startswith("sram"))
    assert bill["leakage.logic"] == pytest.approx(12.6 * logic * relative * nanoseconds)


def test_area_by_hand():
    area = {i.component: i.mm2 for i in SystolicArray(SystolicSpec(rows=8, cols=16)).area().items}
    assert area["mac"] == pytest.approx(128 * (282 + 137) / 1e6)
    assert area["sram.filter"] == pytest.approx(float(sram_area_mm2(64, 45.0, "lop")))
    # 8 weight bits, through which the tile is loaded too, 8 of the activation, 32 of the sum.
    assert area["register"] == pytest.approx(128 * (8 + 8 + 32) * float(register_area_um2(1, 45.0)) / 1e6)


def test_narrow_accumulators_and_wide_ones_are_priced():
    bills = [
        SystolicArray(SystolicSpec(accumulator_bits=bits)).evaluate(linear_network()).energy_by_component()["mac"]
        for bits in (16, 32, 48)
    ]
    assert bills == [pytest.approx(M * K * N * (0.2 + 0.1 * b / 32)) for b in (16, 32, 48)]


def chain(bits):
    """conv -> relu -> conv with formats on what the convolutions read, as a plan sets them."""
    builder = NetworkBuilder("chain")
    x = builder.input("x", TensorType(shape=(1, 8, 16, 16), batch_axis=0))
    form = parse_format(f"uint{bits}")
    for i in range(2):
        weight = replace(parameter(f"w{i}", constant_fill(0.5, (8, 8, 1, 1))), format=parse_format(f"int{bits}"))
        (x,) = builder.add(Op.CONV, [replace(x, format=form), weight], PLAIN, name=f"conv{i}")
        (x,) = builder.add(Op.ACTIVATION, [x], at.ActivationAttributes(kind=at.ActivationKind.RELU), name=f"relu{i}")
    return builder.finish([x])


def test_what_a_layer_writes_has_the_width_its_reader_wants():
    first, _, second, _ = SystolicArray(SystolicSpec()).evaluate(chain(4)).layers
    assert first.dram_write_bytes == 8 * 256 // 2
    assert second.dram_read_bytes == 8 * 256 // 2 + 64 // 2
    assert second.dram_write_bytes == 8 * 256  # nobody says what the output is wanted in: the native 8 bits


def test_peak_memory_of_a_residual_block_by_hand():
    builder = NetworkBuilder("residual")
    x = builder.input("x", TensorType(shape=(1, 8, 16, 16), batch_axis=0))
    (y,) = builder.add(Op.CONV, [x, parameter("w", constant_fill(0.5, (8, 8, 1, 1)))], PLAIN, name="conv")
    (y,) = builder.add(Op.ACTIVATION, [y], at.ActivationAttributes(kind=at.ActivationKind.RELU), name="relu")
    (y,) = builder.add(Op.ELEMENTWISE, [x, y], at.ElementwiseAttributes(kind=at.ElementwiseKind.ADD), name="add")
    network, _ = fill_formats(builder.finish([y]), *load_hardware("edge-16x16").native)
    assert peak_activation_bytes(network, 1) == 3 * 8 * 256  # both operands and the sum; the activation is in place
    assert peak_activation_bytes(network, 5) == 5 * 3 * 8 * 256


def test_a_transposed_convolution_writes_its_outputs_and_adds_what_lands_together():
    builder = NetworkBuilder("up")
    x = builder.input("x", TensorType(shape=(1, 16, 16, 16), batch_axis=0))
    attributes = replace(PLAIN, stride=(2, 2), padding_begin=(1, 1), padding_end=(1, 1), transposed=True)
    (y,) = builder.add(Op.CONV, [x, parameter("w", constant_fill(0.5, (16, 8, 4, 4)))], attributes, name="up")
    up = SystolicArray(SystolicSpec(dataflow="os")).evaluate(builder.finish([y])).layers[0]
    assert up.dram_write_bytes == 8 * 32 * 32
    assert up.reads["sram.ofmap"] == 256 * 8 * 16 - 8 * 32 * 32


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
@pytest.mark.parametrize("batch", [2, 7])
def test_a_batch_never_costs_more_than_its_samples(dataflow, batch):
    spec = SystolicSpec(dataflow=dataflow, ifmap_sram_kib=8, filter_sram_kib=8, ofmap_sram_kib=4)
    network = pj.load("resnet20")
    one, many = (SystolicArray(spec).evaluate(network, batch=b).totals for b in (1, batch))
    assert many["energy_pj_per_sample"] <= one["energy_pj"] * (1 + 1e-9)
    assert many["latency_s"] <= batch * one["latency_s"] * (1 + 1e-9)


def test_total_utilization_counts_stalls_and_never_exceeds_one():
    for precision in ("fixed", "decomposable", "bit_serial"):
        report = SystolicArray(SystolicSpec(precision=precision)).evaluate(chain(4))
        assert 0 < report.totals["utilization"] <= 1
    fixed = SystolicArray(SystolicSpec()).evaluate(linear_network())
    assert fixed.totals["utilization"] == pytest.approx(fixed.totals["macs"] / (fixed.totals["latency_cycles"] * 256))


def test_tpu_v1_is_the_published_machine():
    spec = load_hardware("tpu-v1").spec
    assert 2 * spec.rows * spec.cols * spec.clock_mhz * 1e6 == pytest.approx(92e12, rel=0.01)  # 92 TOPS
    assert constant(f"dram.{spec.dram_type}.bit").value == 70.0
