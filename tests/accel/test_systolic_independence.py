"""What a layer costs depends on itself and the design alone, and never leaves 64 bits unseen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.sim.errors import InputError, PicojouleError
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network


class Separable(nn.Module):
    """A 1x1, a depthwise 3x3, and a 1x1 convolution whose input channels are half pruned where asked."""

    def __init__(self, pruned: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(16, 32, 1, bias=False)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False)
        self.last = nn.Conv2d(32, 64, 1, bias=False)
        if pruned:
            with torch.no_grad():
                self.last.weight.view(64, 8, 4)[:, :, 2:] *= 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.depthwise(self.first(x)))
        return out


def separable(pruned: bool) -> Network:
    torch.manual_seed(0)
    return pj.trace(Separable(pruned), (torch.randn(2, 16, 16, 16),))


@pytest.fixture(scope="module")
def networks() -> tuple[Network, Network]:
    return separable(False), separable(True)


@pytest.mark.parametrize("flow", ["os", "ws", "is"])
@pytest.mark.parametrize("bandwidth", [2.0, 8.0])
def test_a_pruned_layer_changes_no_other(networks: tuple[Network, Network], flow: str, bandwidth: float) -> None:
    design = load_hardware("edge-32x32", {"dataflow": flow, "dram_gib_per_s": bandwidth})
    dense, pruned = (design.evaluate(network).layers for network in networks)
    for place in (0, 1):
        assert dense[place].compute_cycles == pruned[place].compute_cycles
        assert dense[place].stall_cycles == pruned[place].stall_cycles
    assert pruned[2].compute_cycles < dense[2].compute_cycles


@pytest.mark.parametrize("flow", ["os", "ws", "is"])
@pytest.mark.parametrize("bandwidth", [1.0, 4.0])
def test_scalesim_hides_nothing(networks: tuple[Network, Network], flow: str, bandwidth: float) -> None:
    keys = {"dataflow": flow, "dram_gib_per_s": bandwidth, "compat": "scalesim"}
    plain, hidden = (
        load_hardware("edge-32x32", {**keys, "overlap_load": on, "overlap_drain": on}).evaluate(networks[0]).layers
        for on in (False, True)
    )
    assert [(a.compute_cycles, a.stall_cycles) for a in plain] == [(b.compute_cycles, b.stall_cycles) for b in hidden]


@pytest.mark.parametrize("exponent", [0, 10, 18, 19, 20])
def test_samples_one_after_the_other_never_wrap(tmp_path: Path, exponent: int) -> None:
    csv = tmp_path / "w.csv"
    csv.write_text("name, h, w, fh, fw, c, n, s,\nl,8,8,1,1,1024,1024,1,\n")
    network, keys = (
        pj.load(csv),
        {"rows": 1, "cols": 1, "dataflow": "ws", "dram_latency_ns": 1e6, "clock_mhz": 1e4, "ofmap_sram_kib": 1},
    )
    design = load_hardware("edge-32x32", keys)
    one = design.evaluate(network).layers[0]
    try:
        many = design.evaluate(network, batch=2**exponent).layers[0]
    except InputError as error:
        assert "64-bit" in str(error)
        assert one.stall_cycles * 2**exponent >= 2**61
        return
    assert 0 < many.stall_cycles <= one.stall_cycles * 2**exponent
    assert many.latency_s > 0


@pytest.mark.parametrize("key", ["clock_mhz", "dram_gib_per_s"])
@pytest.mark.parametrize("value", [1e-300, 1e-320, 0.0, -1.0, np.nan, np.inf])
def test_speeds_that_mean_nothing_are_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(PicojouleError, match=key):
        load_hardware("edge-32x32", {key: value})
