"""Recurrent layers on crossbars, billed by hand: three dependent steps of two samples on ISAAC with 8 bits."""

import pytest

from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, RecurrentKind
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import TensorType
from picojoule.sim.technology import constant, vector_operation_energy_pj
from picojoule.sim.weights import constant_fill

STEPS, BATCH, HIDDEN = 3, 2, 8
UNITS, GATES = BATCH * HIDDEN, 4 * HIDDEN
EIGHT = {"weight_bits": 8, "activation_bits": 8}
READ_S = 100e-9


def recurrent_network(kind=RecurrentKind.LSTM, hidden=HIDDEN, **extra):
    builder = NetworkBuilder("recurrent")
    rows = at.GATES[kind] * hidden
    gates = builder.input("gates", TensorType(shape=(STEPS, 1, rows), batch_axis=1))
    attributes = at.RecurrentAttributes(kind=kind, hidden=hidden, **extra)
    made = builder.add(
        Op.RECURRENT, [gates, parameter("r", constant_fill(0.5, (rows, hidden)))], attributes, name="rnn"
    )
    return builder.finish(made)


def evaluate(network=None, batch=BATCH, **spec):
    return load_hardware("isaac", EIGHT | spec).evaluate(network or recurrent_network(), batch=batch)


def test_every_component_of_an_lstm_by_hand():
    report = evaluate()
    (layer,) = report.layers
    assert layer.unit == "crossbar"
    bits, slices = (
        8,
        4,
    )  # one input bit a read (the sign in one of them), two weight bits a cell: one crossbar holds all
    positions = STEPS * BATCH
    reads = bits * positions
    codes = GATES * slices * reads
    products = GATES * positions
    results = STEPS * UNITS + 2 * UNITS  # y, last h, last c
    moved_bits = (
        8 * STEPS * UNITS  # h to the wordlines
        + 8 * STEPS * BATCH * GATES  # gates
        + 2 * 16 * STEPS * UNITS  # c, read and written at the width of the output registers
        + 8 * results
    )
    operations = {"add": 5, "multiply": 3}
    lanes = sum(n * float(vector_operation_energy_pj(op, 16, 32.0).energy_pj) for op, n in operations.items())
    expected = {
        "adc": codes * 1.5625,
        "dac": HIDDEN * reads * 0.39,
        "sample_hold": GATES * slices * reads * constant("isaac.sample_hold.sample").value,
        "crossbar": HIDDEN * GATES * slices / 128**2 * reads * 30.0,
        "shift_add": (codes / 2 + HIDDEN * positions + products) * constant("isaac.shift_add.step").value,
        "input_register": HIDDEN * reads * 0.121,
        "output_register": products * 16 * bits * 0.0112,
        "sigmoid": 5 * STEPS * UNITS * constant("isaac.sigmoid.step").value,
        "vector": STEPS * UNITS * lanes,
        "edram": moved_bits * 20.45 / 256,
        "bus": moved_bits * 0.054,
        "router": 8 * (STEPS * BATCH * GATES + results) * 20.74 / 256,  # gates come from outside, results go there
        "link": 8 * (STEPS * BATCH * GATES + results) / 128 * 26.0,
    }
    bill = report.energy_by_component()
    bill.pop("leakage")
    assert set(bill) == set(expected)
    for component, pj in expected.items():
        assert bill[component] == pytest.approx(pj, rel=2e-3), component


def test_the_time_of_an_lstm_by_hand():
    report = evaluate()
    cell_s = (5 + 3 + 5 * 6) * UNITS / 8 / 1.2e9  # on 8 lanes of one tile at 1.2 GHz, per step
    step_s = (
        BATCH * 8 * READ_S + 6 * READ_S + cell_s
    )  # both samples through the crossbar, the way through the unit, the cell
    assert report.layers[0].latency_s == pytest.approx(STEPS * step_s)
    assert report.totals["latency_s"] == pytest.approx(STEPS * step_s)
    assert report.totals["interval_s"] == pytest.approx(STEPS * step_s)
    layer = report.layers[0]
    reading = BATCH * 8 * READ_S / step_s
    held = HIDDEN * GATES * 4 / (8 * 128**2)
    assert layer.utilization_lost["dependence"] == pytest.approx(held * (1 - reading))
    assert layer.utilization == pytest.approx(held * reading)
    assert layer.utilization + sum(layer.utilization_lost.values()) == pytest.approx(1.0)
    assert 0 < report.totals["utilization"] <= 1


def test_copies_share_the_samples_of_a_batch_and_no_more():
    for batch, copies in ((1, 1), (4, 4)):
        plain, copied = (evaluate(batch=batch, replication=r) for r in ("none", "balanced"))
        assert copied.totals["energy_dynamic_pj"] == pytest.approx(plain.totals["energy_dynamic_pj"])
        assert plain.totals["latency_s"] - copied.totals["latency_s"] == pytest.approx(
            STEPS * 8 * READ_S * (batch - batch // copies)
        )
        assert copied.totals["resources"]["crossbars"] == copies


def test_a_gru_that_resets_first_reads_twice_a_step():
    after, before = (evaluate(recurrent_network(RecurrentKind.GRU, reset_after=r)) for r in (True, False))
    assert before.totals["latency_s"] - after.totals["latency_s"] == pytest.approx(STEPS * (BATCH * 8 + 6) * READ_S)
    assert before.layers[0].macs == after.layers[0].macs


def test_a_reversed_layer_waits_for_the_last_gates():
    def network(reverse):
        builder = NetworkBuilder("stack")
        x = builder.input("x", TensorType(shape=(20, 1, 16), batch_axis=1))
        (gates,) = builder.add(
            Op.LINEAR, [x, parameter("w", constant_fill(0.5, (32, 16)))], at.LinearAttributes(), name="in"
        )
        attributes = at.RecurrentAttributes(kind=RecurrentKind.LSTM, hidden=8, reverse=reverse)
        made = builder.add(Op.RECURRENT, [gates, parameter("r", constant_fill(0.5, (32, 8)))], attributes, name="rnn")
        return builder.finish(made)

    forward, backward = (evaluate(network(reverse), batch=1) for reverse in (False, True))
    products_s = 20 * 8 * READ_S
    assert backward.totals["latency_s"] - forward.totals["latency_s"] == pytest.approx(products_s * 19 / 20)
