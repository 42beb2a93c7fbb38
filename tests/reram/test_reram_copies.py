"""Copies of layers: which are made, what they do to the interval, and what a batch takes with them."""

from functools import cache
from typing import Any

import pytest

from picojoule.networks import load_network
from picojoule.reram.replication import copy_steps
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op, RecurrentKind
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network, TensorType
from picojoule.sim.report import Report
from picojoule.sim.weights import constant_fill

from .networks import attention, one_conv, priced, small_cnn


def last_step(service_s: list[float], positions: list[int], imas: list[int], capacity: int, **waits: Any) -> list[int]:
    return list(copy_steps(service_s, positions, imas, capacity, waits.get("waits", [False] * len(imas))))[-1]


def test_copies_are_made_in_steps_that_help() -> None:
    assert last_step([4.0, 1.0], [100, 100], [1, 1], 5) == [4, 1]
    assert last_step([4.0, 1.0], [100, 100], [1, 3], 8) == [5, 1]  # a copy of the second would not fit any more
    assert last_step([4.0, 1.0], [2, 100], [1, 1], 50) == [2, 1]  # the slowest has no more positions
    assert last_step([4.0, 1.0], [2, 100], [1, 1], 50, waits=[True, False])[0] == 2
    assert last_step([4.0, 1.0], [2, 100], [1, 1], 50, waits=[True, False])[1] > 20  # a chain of steps hides nothing
    assert last_step([10.0], [10], [1], 8) == [5]  # six to eight copies would still take two rounds
    assert last_step([12.0, 5.0], [12, 5], [1, 1], 9) == [6, 3]


def recurrent(convolutions: int = 0) -> Network:
    """Return gates for 20 steps of an LSTM from linear layers over the steps, which copies speed up."""
    b = NetworkBuilder("recurrent")
    x = b.input("x", TensorType(shape=(20, 1, 64), batch_axis=1))
    for i in range(convolutions):
        w = parameter(f"w{i}", constant_fill(0.5, (64, 64)))
        (x,) = b.add(Op.LINEAR, [x, w], at.LinearAttributes(), name=f"fc{i}")
    w = parameter("gates", constant_fill(0.5, (128, 64)))
    (gates,) = b.add(Op.LINEAR, [x, w], at.LinearAttributes(), name="gates")
    attributes = at.RecurrentAttributes(kind=RecurrentKind.LSTM, hidden=32)
    made = b.add(Op.RECURRENT, [gates, parameter("r", constant_fill(0.5, (128, 32)))], attributes, name="rnn")
    return b.finish(made)


NETWORKS = {
    "lstm-tagger": lambda: load_network("lstm-tagger"),
    "resnet20": lambda: load_network("resnet20"),
    "recurrent": lambda: recurrent(3),
    "small": small_cnn,
    "attention": attention,
    "conv": lambda: one_conv(size=3),
}


@cache
def made(name: str) -> Network:
    return NETWORKS[name]()


@pytest.mark.parametrize("replication", ["none", "balanced"])
@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "resnet20"])
def test_a_larger_batch_never_takes_less_time(name: str, replication: str) -> None:
    network = made(name)
    keys: dict[str, Any] = {"replication": replication, "tiles_per_chip": 40}
    reports = [priced(network, chips=1, batch=b, **keys) for b in (1, 2, 3, 5, 16)]
    latencies = [r.totals["latency_s"] for r in reports]
    assert latencies == sorted(latencies)
    assert all(r.totals["latency_s"] >= r.totals["interval_s"] for r in reports)


def test_samples_of_a_copied_recurrent_layer_run_beside_each_other() -> None:
    def rnn(batch: int) -> Report:
        return priced(recurrent(), chips=1, batch=batch, replication="balanced", vector_lanes=1 << 16)

    one, four = rnn(1), rnn(4)
    chain_s = one.layers[-1].latency_s
    assert four.layers[-1].latency_s == pytest.approx(chain_s, rel=1e-4)  # four copies, four chains at once
    assert one.totals["latency_s"] > chain_s
    assert four.totals["latency_s"] < one.totals["latency_s"] + 0.3 * chain_s


@pytest.mark.parametrize("name", ["resnet20", "attention", "small"])
def test_more_room_never_makes_the_interval_longer(name: str) -> None:
    """With tiles of one IMA and few to a chip, links between chips get in the way of copies."""
    network = made(name)
    keys: dict[str, Any] = {"imas_per_tile": 2, "tiles_per_chip": 60, "hypertransport_links": 1}
    reports = {c: priced(network, chips=c, replication="balanced", **keys) for c in (1, 2, 4, 8)}
    assert all(r.totals["chips"] <= c for c, r in reports.items())
    intervals = [r.totals["interval_s"] for r in reports.values()]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] < priced(network, chips=1, **keys).totals["interval_s"]


@pytest.mark.full
def test_copies_that_the_links_would_slow_down_are_not_made() -> None:
    network = load_network("mobilenet-v2")
    intervals = [
        load_hardware("isaac", {"replication": "balanced"}).evaluate(network, chips=c).totals["interval_s"]
        for c in (4, 8)
    ]
    assert intervals[1] <= intervals[0] < 35e-6
