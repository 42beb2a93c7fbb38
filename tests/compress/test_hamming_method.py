"""Hamming-aware training as a method: fewer flips on the real ports, the plan that says so, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from picojoule.accel.systolic.toggles import port_flips
from picojoule.accuracy import measure
from picojoule.compress import load_method
from picojoule.compress.hamming import Hamming, _attach, _streamed
from picojoule.compress.hamming_codes import NumberCode
from picojoule.compress.hamming_config import HammingConfig, Search
from picojoule.compress.hamming_layers import StreamedStep
from picojoule.compress.hamming_training import HammingTerm, error_prices
from picojoule.compress.method import CompressionArtifact
from picojoule.compress.plan import apply_plan, read_plan
from picojoule.compressing import CompressionRequest, run_compression
from picojoule.models.data import Dataset, load
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.formats import integer_format
from picojoule.sim.gemm import gemm_view
from picojoule.sim.hardware import load_hardware
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Network
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import fold_batch_norm
from picojoule.training import train


class Small(nn.Module):
    """Strided, depthwise and pointwise convolutions with batch norms, a residual sum, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.BatchNorm2d(12), nn.ReLU())
        self.pointwise = nn.Sequential(nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.classifier = nn.Linear(12 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.pointwise(self.depthwise(x))
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def trained(data: Dataset) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small()
    train(model, data.train, epochs=6, lr=1e-2, seed=0)
    return model


def fit(model: nn.Module, data: Dataset, **settings: Any) -> tuple[nn.Module, CompressionArtifact]:
    config = HammingConfig(**{"rows": 8, "cols": 8, "epochs": 2, "refresh_every": 5, "batch_size": 64, **settings})
    return Hamming().fit(model, data, None, config)


def held(model: nn.Module, artefact: CompressionArtifact, data: Dataset) -> Network:
    network = from_module(model, (torch.tensor(data.train.images[:2]),))
    return fold_batch_norm(apply_plan(network, artefact.plan))


def counted(network: Network, flow: str = "is", code: str = "twos_complement", bits: int = 8) -> int:
    total = 0.0
    for layer in network.layers:
        view = gemm_view(layer)
        if view is not None:
            weights = integer_weights(layer, integer_format(bits))
            total += port_flips(weights, None, flow, 8, 8, m=view.m, weight_bits=bits, code=code).weight_port
    return int(total)


def test_training_saves_flips_of_the_integers_that_hardware_holds_at_little_loss(trained: nn.Module, data: Dataset):
    before = [p.clone() for p in trained.parameters()]
    dense, dense_plan = fit(trained, data, search=Search.NONE, epochs=4)
    tuned, plan = fit(trained, data, strength=0.1, weighting="uniform", epochs=4)
    assert all(
        torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True)
    )  # the model given is not changed
    start, end = counted(held(dense, dense_plan, data)), counted(held(tuned, plan, data))
    assert f" to {end:,} (" in plan.notes[0]  # training counts what hardware counts
    assert end < start / 2.5
    array = load_hardware("edge-16x16")
    of_dense, of_tuned = (measure(held(*made, data), array, data) for made in ((dense, dense_plan), (tuned, plan)))
    assert of_tuned.hardware > of_dense.hardware - 0.03
    again, plan_again = fit(trained, data, strength=0.1, weighting="uniform", epochs=4)
    assert plan_again.plan == plan.plan
    for name, value in again.state_dict().items():
        assert torch.equal(value, tuned.state_dict()[name])


@pytest.mark.parametrize(
    "settings",
    [
        {"dataflow": "os"},
        {"number_code": NumberCode.SIGN_MAGNITUDE},
        pytest.param({"weight_bits": 4}, marks=pytest.mark.full),
        pytest.param({"zero_pull": 30.0}, marks=pytest.mark.full),
    ],
    ids=lambda s: next(iter(s)),
)
def test_it_saves_flips_in_every_stream_it_is_trained_for(settings: dict[str, Any], trained: nn.Module, data: Dataset):
    stream = {k: v for k, v in settings.items() if k != "zero_pull"}
    made = [fit(trained, data, **(stream | {"search": Search.NONE})), fit(trained, data, strength=0.1, **settings)]
    flow, code, bits = (
        settings.get(k, d) for k, d in (("dataflow", "is"), ("number_code", "twos_complement"), ("weight_bits", 8))
    )
    start, end = (counted(held(*m, data), flow, str(code), bits) for m in made)
    assert end < start / 2
    if "zero_pull" in settings:
        zeros = [np.mean([np.mean(integer_weights(y, integer_format(8)) == 0) for y in held(*m, data).layers if gemm_view(y)])
                 for m in made]  # fmt: skip
        assert zeros[1] > zeros[0] + 0.05


def test_flips_in_the_loss_are_exact_and_fall(trained: nn.Module, data: Dataset):
    network = from_module(trained, (torch.tensor(data.train.images[:2]),))
    model = fit(trained, data, epochs=0, search=Search.NONE)[0]
    found, modules = _streamed(model, network), dict(model.named_modules())
    for code in NumberCode:
        config = HammingConfig(
            search=Search.BITS, rows=8, cols=8, number_code=code, epochs=2, order="segments", strength=30.0
        )
        twin = fit(trained, data, epochs=0, search=Search.NONE)[0]
        modules = dict(twin.named_modules())
        layers = _attach([modules[p] for p in found], list(found.values()), twin, data, config)
        for layer in layers:
            layer.find_order()
            flips = layer.soft_flips()
            assert flips.item() == layer.flips()
            flips.backward()  # type: ignore[no-untyped-call]
            gradient = layer.latent().grad
            assert gradient is not None and gradient.abs().sum() > 0
            if layer.gemm.groups == 1:
                with torch.no_grad():
                    layer.latent().copy_(layer.latent().roll(3, 0))  # other weights in place: another order
                layer.find_order()
                n, k, m = layer.gemm.n, layer.gemm.k, layer.gemm.m
                integers, order = layer.integers().reshape(1, n, k), layer.step.order.numpy()
                on_ports = port_flips(integers, None, "is", 8, 8, m=m, weight_bits=8, code=code.value, order=order)
                assert layer.flips() == on_ports.weight_port
    dense, dense_plan = fit(trained, data, search=Search.NONE)
    tuned, plan = fit(trained, data, search=Search.BITS, strength=30.0)
    assert counted(held(tuned, plan, data)) < 0.95 * counted(held(dense, dense_plan, data))


def test_a_search_alone_needs_no_training(trained: nn.Module, data: Dataset):
    dense, searched = (fit(trained, data, epochs=0, search=s, strength=0.1) for s in (Search.NONE, Search.TRELLIS))
    assert counted(held(*searched, data)) < 0.7 * counted(held(*dense, data))


def test_without_a_price_training_is_plain_rounding(trained: nn.Module, data: Dataset):
    plain, _ = fit(trained, data, search=Search.NONE, epochs=1)
    free, _ = fit(trained, data, strength=0.0, epochs=1)
    for name, value in plain.state_dict().items():
        assert torch.allclose(value, free.state_dict()[name], atol=1e-6), name


def test_shifts_stay_and_gradients_pass(data: Dataset):
    weight = torch.tensor([[0.5, -1.2, 2.0], [0.1, 0.0, 3.1]])
    step = StreamedStep(integer_format(4), torch.full((2, 1), 0.5), weight, np.zeros((0, 0), dtype=np.int64))
    step.move_to(torch.tensor([[2.0, -2.0, 4.0], [7.0, 1.0, 6.0]]), weight)
    assert step(weight).tolist() == [[1.0, -1.0, 2.0], [3.5, 0.5, 3.0]]
    assert step(weight + 0.5).tolist() == [[1.5, -0.5, 2.5], [3.5, 1.0, 3.5]]  # moves on, within the range
    moved = weight.clone().requires_grad_()
    step(moved).sum().backward()
    assert torch.equal(moved.grad, torch.ones_like(weight)) and step.factor.grad is not None


def test_prices_of_errors_follow_what_the_loss_feels(trained: nn.Module, data: Dataset):
    model = fit(trained, data, epochs=0, search=Search.NONE)[0]
    modules = [model.get_submodule("classifier"), model.get_submodule("pointwise.0")]
    prices = error_prices(model, modules, data.train, 0)
    assert [p.shape for p in prices] == [(10, 192), (12, 12)]
    with torch.no_grad():  # an output nobody asks for: its weights may be anything
        model.get_submodule("classifier").bias[3] = -100.0  # type: ignore[index]
    muted = error_prices(model, modules, data.train, 0)[0]
    assert muted[3].mean() < 0.1 * prices[0][3].mean()


def test_uniform_weighting_prices_every_layer_alike_and_hardware_every_flip(trained: nn.Module, data: Dataset):
    network = from_module(trained, (torch.tensor(data.train.images[:2]),))
    for weighting in ("uniform", "hardware"):
        config = HammingConfig(weighting=weighting, strength=2.0, rows=8, cols=8, search=Search.BITS, epochs=1)
        model = fit(trained, data, epochs=0, search=Search.NONE)[0]
        found, modules = _streamed(model, network), dict(model.named_modules())
        layers = _attach([modules[p] for p in found], list(found.values()), model, data, config)
        HammingTerm(layers, config, 100)
        worth = [layer.flip_price * layer.flips() for layer in layers]
        assert sum(worth) == pytest.approx(2.0)
        same = worth if weighting == "uniform" else [layer.flip_price for layer in layers]
        assert same == pytest.approx([same[0]] * 4)


def test_settings_come_from_the_array_unless_stated():
    changes = {
        "dataflow": "is",
        "rows": 8,
        "number_code": "sign_magnitude",
        "weight_order": "segments",
        "datapath_energy": "toggles",
    }
    spec = load_hardware("edge-16x16").spec.model_copy(update=changes)
    found, warnings = Hamming().settle(spec, {"strength": 1.0})
    assert found == {
        "rows": 8,
        "cols": 16,
        "dataflow": "is",
        "number_code": "sign_magnitude",
        "order": "segments",
        "strength": 1.0,
    }
    assert warnings == ()
    found, warnings = Hamming().settle(
        spec.model_copy(update={"datapath_energy": "average"}), {"rows": 4, "dataflow": "os"}
    )
    assert found["rows"] == 4 and found["order"] == "as_is"
    assert warnings == (
        "edge-16x16 prices an average MAC, so flips do not show in its energy; price with datapath_energy toggles",
    )


@pytest.mark.parametrize(
    ("hardware", "sentence"),
    [
        ("isaac", "method 'hamming' orders weights that stream into a systolic array, and isaac is none"),
        ("tpu-v1", "method 'hamming' saves flips where weights stream, and the weight-stationary tpu-v1 holds them; use "
         "dataflow is or os"),
    ],
)  # fmt: skip
def test_hardware_whose_weights_do_not_stream_is_refused(hardware: str, sentence: str):
    with pytest.raises(UnsupportedError) as caught:
        Hamming().settle(load_hardware(hardware).spec, {})
    assert str(caught.value) == sentence


def test_orders_of_the_reduction_and_networks_without_weights_are_refused(data: Dataset):
    with pytest.raises(
        ValueError, match="order segments is for dataflow is; in os the reduction streams, which has one order"
    ):
        HammingConfig(order="segments", dataflow="os")
    with pytest.raises(InputError, match=r"^Flatten has no convolution or linear module whose weights could stream$"):
        Hamming().fit(nn.Flatten(), data, None, HammingConfig())


def test_the_command_writes_a_plan_that_prices(tmp_path: Path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)), (torch.zeros(2, 1, 8, 8),)\n"
    )
    assert isinstance(load_method("hamming"), Hamming)
    request = CompressionRequest(
        network=f"{tmp_path / 'net.py'}:build", method="hamming", hardware="edge-16x16", data="digits", out=tmp_path / "out",
        options={"epochs": 1, "dataflow": "is", "search": "trellis"},
    )  # fmt: skip
    run_compression(request, lambda text: None)
    plan = read_plan(tmp_path / "out" / "plan.yaml")
    assert {e.weight.format for e in plan.layers.values() if e.weight} == {"int8"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert any("weight-port flips of an image" in note for note in summary["notes"])
    assert any("price with datapath_energy toggles" in note for note in summary["notes"])
