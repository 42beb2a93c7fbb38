"""Recurrent layers on a systolic array, billed by hand: three steps of two samples on 4 x 4 PEs."""

from dataclasses import replace

import pytest

from picojoule.accel.systolic import SystolicArray, SystolicSpec
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, RecurrentKind
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.formats import parse_format
from picojoule.sim.ir import TensorType
from picojoule.sim.technology import constant, register_energy_pj, sram_energy_pj, sram_port
from picojoule.sim.weights import constant_fill

STEPS, BATCH, HIDDEN = 3, 2, 6
UNITS = BATCH * HIDDEN


def recurrent_network(kind=RecurrentKind.LSTM, *, steps=STEPS, hidden=HIDDEN, bias=True, state=False, **extra):
    builder = NetworkBuilder("recurrent")
    rows = at.GATES[kind] * hidden
    operands = [
        builder.input("gates", TensorType(shape=(steps, 1, rows), batch_axis=1)),
        parameter("r", constant_fill(0.5, (rows, hidden))),
    ]
    operands += [parameter("b", constant_fill(0.5, (rows,)))] if bias else []
    count = (2 if kind is RecurrentKind.LSTM else 1) if state else 0
    operands += [builder.input(f"s{i}", TensorType(shape=(1, hidden), batch_axis=0)) for i in range(count)]
    attributes = at.RecurrentAttributes(kind=kind, hidden=hidden, has_bias=bias, has_state=state, **extra)
    made = builder.add(Op.RECURRENT, operands, attributes, name="rnn")
    return builder.finish(made)


def evaluate(network, **spec):
    return SystolicArray(SystolicSpec(rows=4, cols=4, **spec)).evaluate(network, batch=BATCH)


def word(bits, kind, capacity=64, port_word=None):
    """One word's share of an access of a port that is four words of its own width, or of `port_word` bits, wide."""
    port_bits = 4 * (port_word or bits)
    return float(sram_energy_pj(capacity, port_bits, 45.0, "lop", kind=kind)) * bits / port_bits


@pytest.mark.parametrize("dataflow", ["os", "ws"])
def test_every_component_of_an_lstm_by_hand(dataflow):
    report = evaluate(recurrent_network(), dataflow=dataflow)
    (layer,) = report.layers
    n, k, m = 4 * HIDDEN, HIDDEN, BATCH  # the product of one step
    macs = STEPS * m * n * k
    column_folds = 6
    passes = 1 if dataflow == "os" else 2  # 6 rows of the reduction on 4 PEs
    ifmap_reads = STEPS * column_folds * m * k
    filter_reads = STEPS * n * k
    sums_written = STEPS * passes * m * n + STEPS * UNITS  # partial sums and the new c
    sums_read = STEPS * (passes - 1) * m * n + (
        STEPS * m * n + STEPS * UNITS
    )  # by the array; by the vector unit, with the old c
    results = STEPS * UNITS + UNITS + UNITS  # y, last h, last c
    read_bytes = STEPS * m * n + n * k + 4 * n  # gates, the weight once, 32-bit biases
    registers = (8 + 8 + 32) if dataflow == "os" else (8 + 32)
    # 2 rows drain: one word of a column moves once. 4 and 2 rows load: 10 and 3 moves.
    shifted_bits = STEPS * n * (32 if dataflow == "os" else 13 * 8)
    # The ifmap's port of 4 words is read in each of 6 (os) or 2 steps of a fold, whatever the fold uses of it.
    ifmap_accesses = STEPS * 6 * 6 if dataflow == "os" else STEPS * 12 * 2
    results_port = sram_port(64, 4 * 32, 45.0, "lop", kind="write")  # written four at a time, read in whole ports
    ifmap_port = sram_port(64, 32, 45.0, "lop", kind="read")
    multiply, add = 3.1, 0.1  # Horowitz, 32 bits at 45 nm
    # Per unit: four gate sums and one of c; f c, i g, o tanh(c); five curves of six multiply-adds into 64 bits.
    cell = 5 * add + 3 * multiply + 5 * 6 * (multiply + 0.2)
    expected = {
        "mac": macs * (0.2 + 0.1),
        "register": (macs * registers + shifted_bits) * float(register_energy_pj(1, 45.0)),
        "sram.ifmap": float(ifmap_accesses * ifmap_port.lane_pj + ifmap_reads * 8 * ifmap_port.bit_pj)
        + STEPS * UNITS * word(8, "write"),
        "sram.filter": filter_reads * word(8, "read") + n * k * word(8, "write"),
        "sram.ofmap": sums_written * word(32, "write")
        + sums_read * word(32, "read")
        + float(results / 4 * results_port.lane_pj + results * 8 * results_port.bit_pj)
        + results * word(8, "read", port_word=32),
        "dram": 8 * (read_bytes + results) * constant("dram.lpddr4.bit").value,
        "vector": STEPS * UNITS * cell,
    }
    bill = {line.component: 0.0 for line in layer.energy}
    for line in layer.energy:
        bill[line.component] += line.pj
    assert set(bill) == set(expected)
    for component, pj in expected.items():
        assert bill[component] == pytest.approx(pj, rel=1e-4), component
    assert (layer.macs, layer.dram_read_bytes, layer.dram_write_bytes) == (macs, read_bytes, results)
    assert layer.reads["dram.gates"] == STEPS * m * n


@pytest.mark.parametrize(("dataflow", "fold_pair"), [("os", 6 + 2 + 4 - 2 + 2), ("ws", (4 + 4 + 4) + (2 + 2 + 4))])
def test_the_time_of_an_lstm_by_hand(dataflow, fold_pair):
    report = evaluate(recurrent_network(), dataflow=dataflow, dram_gib_per_s=1e5)
    (layer,) = report.layers
    # os: a fold streams 6 and drains 2 rows. ws: folds of 4 and 2 rows load, then stream two rows with their skew.
    compute = STEPS * 6 * fold_pair
    # 5 additions, 3 multiplications and 5 curves of 6 steps for each of 12 units, on 4 lanes, in each step.
    dependence = STEPS * (5 + 3 + 5 * 6) * UNITS // 4
    assert layer.compute_cycles == compute
    assert layer.stall_cycles == dependence + 1  # and a cycle for the first words of DRAM
    total = compute + dependence + 1
    assert layer.utilization_lost["dependence"] == pytest.approx(dependence / total)
    assert layer.utilization == pytest.approx(layer.macs / (16 * total))
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1.0)
    assert report.totals["latency_cycles"] == total


def test_what_does_not_fit_moves_in_every_step():
    spec = {"ifmap_sram_kib": 0.015, "filter_sram_kib": 0.125, "ofmap_sram_kib": 0.0625}
    whole = evaluate(recurrent_network()).layers[0]
    small = evaluate(recurrent_network(), **spec).layers[0]
    n, k = 4 * HIDDEN, HIDDEN
    assert whole.reads["dram.filter"] == n * k
    assert small.reads["dram.filter"] == STEPS * n * k  # 144 bytes, half of 128
    assert whole.reads["dram.ifmap"] == 0
    assert small.reads["dram.ifmap"] == STEPS * 6 * UNITS  # h, 12 bytes, half of 15: once per column fold
    assert whole.reads["dram.psum"] == whole.writes["dram.psum"] == 0
    assert small.reads["dram.psum"] == small.writes["dram.psum"] == STEPS * UNITS  # c, 48 bytes, half of 64
    assert small.dram_read_bytes == STEPS * (BATCH * n + n * k + 6 * UNITS + 4 * UNITS) + 4 * n
    assert small.dram_write_bytes == whole.dram_write_bytes + STEPS * 4 * UNITS


def test_given_states_are_read_once():
    free, given = (evaluate(recurrent_network(state=state)).layers[0] for state in (False, True))
    assert given.reads["dram.gates"] - free.reads["dram.gates"] == 2 * UNITS
    assert given.dram_read_bytes - free.dram_read_bytes == 2 * UNITS


def test_a_gru_that_resets_first_multiplies_twice_a_step():
    after, before = (
        evaluate(recurrent_network(RecurrentKind.GRU, reset_after=reset), dram_gib_per_s=1e5).layers[0]
        for reset in (True, False)
    )
    # 18 columns of 6: folds of (4, 2) rows by (4, 4, 4, 4, 2) columns, or for each of three gates by (4, 2).
    assert after.compute_cycles == STEPS * (4 * (12 + 8) + (10 + 6))
    assert before.compute_cycles == STEPS * 3 * ((12 + 8) + (10 + 6))
    assert after.macs == before.macs == STEPS * BATCH * 18 * 6
    assert before.energy_pj >= after.energy_pj


def test_cells_with_less_work_wait_less():
    waits = {
        kind: evaluate(recurrent_network(kind), dram_gib_per_s=1e5).layers[0].utilization_lost["dependence"]
        for kind in RecurrentKind
    }
    assert waits[RecurrentKind.LSTM] > waits[RecurrentKind.RNN_TANH] > waits[RecurrentKind.RNN_RELU] > 0


def test_more_steps_cost_in_proportion_and_a_batch_less_than_its_samples():
    array = SystolicArray(SystolicSpec(filter_sram_kib=1, ifmap_sram_kib=1, ofmap_sram_kib=1))
    one, two = (array.evaluate(recurrent_network(hidden=64, steps=s, bias=False)).layers[0] for s in (5, 10))
    assert two.compute_cycles == 2 * one.compute_cycles
    assert two.reads["dram.filter"] == 2 * one.reads["dram.filter"]
    network = recurrent_network(hidden=64, steps=20)
    single, batch = (array.evaluate(network, batch=b).totals for b in (1, 6))
    assert batch["energy_pj_per_sample"] <= single["energy_pj"] * (1 + 1e-9)
    assert batch["latency_s"] <= 6 * single["latency_s"] * (1 + 1e-9)


@pytest.mark.parametrize("precision", ["fixed", "decomposable", "bit_serial"])
@pytest.mark.parametrize("compat", ["none", "scalesim"])
def test_every_precision_and_compatibility_prices_a_recurrent_layer(precision, compat):
    (layer,) = evaluate(recurrent_network(), precision=precision, compat=compat, dataflow="is").layers
    assert 0 < layer.utilization <= 1
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1.0)


def test_unsigned_gates_leave_the_state_its_sign():
    layer = recurrent_network().layers[0]
    gates = replace(layer.operands[0], format=parse_format("uint4"))
    layer = replace(layer, operands=(gates, *layer.operands[1:]))
    assert str(SystolicArray(SystolicSpec()).arithmetic(layer).activation) == "int4"
