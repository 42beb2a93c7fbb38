"""Values that stay on chip: a network drawn by hand, capacity at every moment, and what layers save."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.accel.systolic.residency import Residency, array_traffic, keep_on_chip
from picojoule.accel.systolic.spec import SystolicSpec
from picojoule.accel.systolic.traffic import dram_traffic
from picojoule.accel.systolic.workload import Workload, workload_of
from picojoule.sim.ir import Network


class Residual(nn.Module):
    """stem -> relu -> (conv -> + stem) -> relu -> pool -> linear; the stem's result has two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.body = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.stem(x))
        y = torch.relu(self.body(y) + y)
        return self.head(torch.flatten(nn.functional.max_pool2d(y, 2), 1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def network() -> Network:
    return pj.trace(Residual(), (torch.zeros(2, 1, 8, 8),))


def workload(network: Network, batch: int = 1) -> Workload:
    return workload_of(network, SystolicSpec(), batch)


def kept_by(residency: Residency) -> list[str]:
    return [name for name, saved in residency.layers.items() if saved.keeps_result]


def test_everything_stays_where_there_is_room(network: Network) -> None:
    load = workload(network)
    found = keep_on_chip(load, 10**9)
    array = [job.layer.name for job in load.jobs]
    # All results but the network's output; the first ifmap comes from DRAM.
    assert array[0] not in [name for name, saved in found.layers.items() if saved.operands]
    assert not found.layers[array[-1]].keeps_result
    assert found.layers[array[-1]].operands == (0,)
    add = next(layer.name for layer in network.layers if layer.op.value == "elementwise")
    assert found.layers[add].operands == (0, 1)
    assert found.layers[add].read_bytes == 2 * 256
    assert found.layers[add].keeps_result
    assert found.layers[array[0]].write_bytes == 4 * 8 * 8


def test_nothing_stays_without_room(network: Network) -> None:
    found = keep_on_chip(workload(network), 0)
    assert not found.values
    assert not found.layers
    assert set(found.held_bytes) == {0}


def test_the_stem_lives_until_the_addition(network: Network) -> None:
    """256 bytes each: while the body runs, stem and body are there; in the addition stem, body and sum."""
    load = workload(network)
    names = [layer.name for layer in network.layers]
    add = names.index(next(layer.name for layer in network.layers if layer.op.value == "elementwise"))
    assert max(keep_on_chip(load, 3 * 256).held_bytes) == 3 * 256
    assert keep_on_chip(load, 3 * 256).held_bytes[add] == 3 * 256
    fewer = keep_on_chip(load, 3 * 256 - 1)
    assert len(fewer.values) < len(keep_on_chip(load, 3 * 256).values)
    assert max(fewer.held_bytes) <= 3 * 256 - 1


def test_partial_sums_go_first_and_a_result_takes_their_place(network: Network) -> None:
    load = workload(network)
    body = load.jobs[1].layer.name
    assert body in kept_by(keep_on_chip(load, 3 * 256, {body: 512}))
    crowded = keep_on_chip(load, 3 * 256, {body: 513})
    assert load.jobs[0].layer.name not in kept_by(crowded)  # 256 of the stem beside 513 of sums


def test_the_batch_multiplies_what_must_fit(network: Network) -> None:
    assert keep_on_chip(workload(network, 2), 3 * 512).values == keep_on_chip(workload(network), 3 * 256).values
    assert keep_on_chip(workload(network), 256).values
    assert len(keep_on_chip(workload(network, 2), 256).values) < len(keep_on_chip(workload(network), 256).values)


def test_memory_is_never_overfull_and_savings_add_up() -> None:
    load = workload(pj.load("resnet20"))
    layers = load.network.layers
    for half in (2_000, 20_000, 200_000):
        working = {job.layer.name: (7919 * i) % half for i, job in enumerate(load.jobs)}
        found = keep_on_chip(load, half, working)
        again = keep_on_chip(load, half, working)
        assert found == again
        assert max(found.held_bytes) <= half
        for other in load.others:
            saved = found.layers.get(other.layer.name)
            if saved is not None:
                assert saved.read_bytes <= other.work.read_bytes
                assert saved.write_bytes <= other.work.write_bytes
                assert not other.fused
        for job in load.jobs:
            saved = found.layers.get(job.layer.name)
            if saved is not None and saved.keeps_result:
                assert saved.write_bytes == -(-job.outputs * job.result_bits // 8)
        assert len(found.held_bytes) == len(layers)


def test_no_set_of_values_that_fits_saves_more(network: Network) -> None:
    load = workload(network)
    for half in (256, 300, 512, 600, 768, 1024):
        found = keep_on_chip(load, half)
        total = sum(s.read_bytes + s.write_bytes for s in found.layers.values())
        everything = keep_on_chip(load, 10**9)
        lives = _lives(everything, load)
        best = 0
        for size in range(len(lives) + 1):
            for some in combinations(lives, size):
                if all(sum(b for a, z, b, _ in some if a <= i <= z) <= half for i in range(len(load.network.layers))):
                    best = max(best, sum(gain for *_, gain in some))
        assert total == best, half


def _lives(everything: Residency, load: Workload) -> list[tuple[int, int, int, int]]:
    """Return (made, last read, bytes, bytes saved) of each value, found by keeping it alone (others are made too big)."""
    found = []
    for name in everything.values:
        alone = _alone(name, load)
        held = [i for i, size in enumerate(alone.held_bytes) if size]
        saved = sum(s.read_bytes + s.write_bytes for s in alone.layers.values())
        found.append((held[0], held[-1], max(alone.held_bytes), saved))
    return found


def _alone(name: str, load: Workload) -> Residency:
    from picojoule.accel.systolic import residency

    (value,) = (v for v in residency._values(load) if v.name == name)
    held = [value.size if value.made <= i <= value.last else 0 for i in range(len(load.network.layers))]
    layers = residency._saved([value], [layer.name for layer in load.network.layers])
    return Residency(values=(name,), layers=layers, held_bytes=tuple(held))


def test_array_layers_move_less() -> None:
    moved = dram_traffic(
        1, 4, 4, 10, 8, 9, ifmap_elements=90, ifmap_bits=8, filter_bits=4, ofmap_bits=8, accumulator_bits=32,
        ifmap_sram_bytes=2, filter_sram_bytes=2, ofmap_sram_bytes=2,
    )  # fmt: skip
    flags = {"ifmap_bits": 8, "filter_bits": 4, "ofmap_bits": 8}
    none = array_traffic(moved, ifmap_kept=False, filter_kept=False, result_kept=False, **flags)
    assert none.read_bytes == moved.read_bytes
    assert none.write_bytes == moved.write_bytes
    both = array_traffic(moved, ifmap_kept=True, filter_kept=np.array([False, True]), result_kept=True, **flags)
    assert both.ifmap_reads == 0
    assert list(both.filter_reads) == [72, 0]
    assert list(both.read_bytes) == [moved.read_bytes - moved.ifmap_reads, moved.read_bytes - moved.ifmap_reads - 36]
    assert both.write_bytes == moved.write_bytes - 80
    assert both.psum_reads == moved.psum_reads
