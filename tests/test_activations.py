"""Activations for costs that follow data: from the training split, in the order in which they stream."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from picojoule.activations import SAMPLES, collect_activations, wants_activations
from picojoule.evaluating import Request, run_request
from picojoule.models import data as datasets
from picojoule.networks import load_network
from picojoule.sim.activation_source import ActivationSource
from picojoule.sim.errors import InputError
from picojoule.sim.gemm import gemm_view
from picojoule.sim.hardware import load_hardware

HARDWARE = "edge-32x32"


class _Toggling:
    """An accelerator whose spec says what its datapath energy follows; it keeps what it is given."""

    def __init__(self, energy: str) -> None:
        self.inner = load_hardware(HARDWARE, {})
        self.spec = type("Spec", (), {"datapath_energy": energy})()
        self.given: list[object] = []

    def arithmetic(self, layer):
        return self.inner.arithmetic(layer)

    def evaluate(self, network, *, activations=None, **keywords):
        self.given.append(activations)
        return self.inner.evaluate(network, **keywords)


_SOURCE = """
import torch
from torch import nn

def small():
    example = (torch.zeros(2, 1, 8, 8),)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 10)), example
"""


def network_for(folder: Path):
    (folder / "net.py").write_text(_SOURCE)
    return load_network(f"{folder / 'net.py'}:small")


def test_every_matrix_is_seen_as_the_array_gets_it(tmp_path: Path) -> None:
    data = datasets.load("digits")
    network = network_for(tmp_path)
    source = collect_activations(network, load_hardware(HARDWARE, {}), data, samples=3)
    assert source.samples == 3 and source.origin == f"training split of {data.name}" and source.basis == "data"
    for layer in network.layers:
        view = gemm_view(layer)
        if view is None:
            assert source.of_layer(layer.name) == ()
            continue
        found = source.of_layer(layer.name)
        assert [x.shape for x in found] == [(view.groups, view.k, view.m)] * 3
        assert all(np.abs(x).max() <= 255 for x in found)


def test_test_data_are_never_read(tmp_path: Path) -> None:
    data = datasets.load("digits")
    network = network_for(tmp_path)
    first = collect_activations(network, load_hardware(HARDWARE, {}), data, samples=1)
    spoilt = replace(data, test=replace(data.test, images=np.full_like(data.test.images, np.nan)))
    again = collect_activations(network, load_hardware(HARDWARE, {}), spoilt, samples=1)
    for name, found in first.inputs.items():
        np.testing.assert_array_equal(found[0], again.inputs[name][0])


def test_evaluate_collects_them_only_for_hardware_that_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toggling, plain = _Toggling("toggles"), _Toggling("average")
    assert wants_activations(toggling) and not wants_activations(plain)  # type: ignore[arg-type]
    network_for(tmp_path)
    for accelerator, data in ((toggling, "digits"), (toggling, None), (plain, "digits")):
        monkeypatch.setattr("picojoule.evaluating.load_hardware", lambda *_, found=accelerator: found)
        run_request(Request(network=f"{tmp_path / 'net.py'}:small", hardware="-", data=data))
    with_data, without = toggling.given
    assert isinstance(with_data, ActivationSource) and with_data.samples == SAMPLES and without is None
    assert plain.given == [None]


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="takes samples of shape"):
        collect_activations(load_network("lenet5"), load_hardware(HARDWARE, {}), datasets.load("digits"))
