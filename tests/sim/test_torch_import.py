"""Importing torch modules: same shapes, same counts, same numbers as eager."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import picojoule as pj
from picojoule.models.zoo import build, example_inputs
from picojoule.sim.attributes import ActivationAttributes, ActivationKind, Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.gemm import network_macs
from picojoule.sim.ir import OperandKind
from picojoule.sim.numerics.aten import HANDLERS
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.passes import check_weights, fold_batch_norm

RELU = ActivationAttributes(kind=ActivationKind.RELU)
QUICK = ["lenet5", "mlp-784-100-10", "dscnn-fashion", "resnet20", "vgg11-cifar"]
SLOW = ["mobilenet-v1", "mobilenet-v2", "shufflenet-v2", "resnet18", "resnet50", "bert-base"]


def randomise_norms(module):
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(generator=generator).mul_(0.1)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return module


def difference(module, inputs, network):
    with torch.no_grad():
        expected = module(*inputs)
        got = Executor(network).run(inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1)) for a, b in zip(expected, got, strict=True))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.full) for n in SLOW)])
def test_every_zoo_network_runs_as_eager_at_other_batches(name):
    module = randomise_norms(build(name))
    network = from_module(module, example_inputs(name, batch=1), name=name)
    for batch in (1, 3):
        inputs = example_inputs(name, batch=batch, seed=batch)
        assert difference(module, inputs, network) < 1e-4
        assert difference(module, inputs, fold_batch_norm(network)) < 1e-4


def test_small_published_counts_through_the_importer():
    network = pj.load("resnet20")
    assert network_macs(network) == 40_813_184
    assert network_macs(network, batch=7) == 7 * 40_813_184
    assert round(network_macs(network) / 1e6, 2) == 40.81


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [
        ("mobilenet-v1", 568_740_352, 4_231_976),
        ("mobilenet-v2", 300_774_272, 3_504_872),
        ("resnet50", 4_089_184_256, 25_557_032),
    ],
)
def test_published_counts_through_the_importer(name, macs, params):
    network = pj.load(name)
    assert (network_macs(network), network.parameters) == (macs, params)


class Everything(nn.Module):
    """Uses most operators once, in shapes that catch mixed-up axes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 1), bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 16, 3, padding="same", groups=8, dilation=2)
        self.up = nn.ConvTranspose2d(16, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.line = nn.Conv1d(6, 4, 3, padding=1)
        self.embed = nn.Embedding(11, 12)
        self.attend = nn.Linear(12, 36)
        self.layer_norm = nn.LayerNorm(12)
        self.group_norm = nn.GroupNorm(2, 6)
        self.prelu = nn.PReLU(6)
        self.head = nn.Linear(12, 5)
        self.register_buffer("table", torch.arange(5.0))

    def forward(self, image, words):
        x = F.relu(self.norm(self.stem(image)), inplace=True)
        x = F.hardswish(self.depthwise(x))
        shortcut = x
        x += shortcut * 0.5
        x = torch.cat([F.max_pool2d(x, 3, 2, 1, ceil_mode=True), F.avg_pool2d(x, 3, 2, 1, ceil_mode=True)], 1)
        a, b = x.chunk(2, 1)
        x = self.prelu(self.group_norm(self.up(F.gelu(a) + F.silu(b))))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.pad(x, (1, 0, 2, 1), mode="reflect")
        x = F.adaptive_avg_pool2d(x, (3, 4))
        line = self.line(x.flatten(2)).mean(-1)
        word = self.embed(words)
        q, k, v = self.attend(word).view(words.shape[0], words.shape[1], 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        word = self.layer_norm(word + seen)[:, 1:]
        scores = self.head(word.amax(1)) + self.table
        return torch.sigmoid(line).unsqueeze(-1) @ scores.unsqueeze(1), F.log_softmax(scores, -1)


def test_many_operators_run_as_eager():
    torch.manual_seed(0)
    module = randomise_norms(Everything().eval())

    def inputs(batch):
        return torch.randn(batch, 3, 11, 13), torch.randint(0, 11, (batch, 6))

    network = from_module(module, inputs(2))
    assert not network.unsupported
    for batch in (1, 4):
        assert difference(module, inputs(batch), network) < 1e-5
        assert difference(module, inputs(batch), fold_batch_norm(network)) < 1e-5


def test_in_place_addition_changes_what_later_readers_see():
    class InPlace(nn.Module):
        def forward(self, x):
            y = x * 2
            y += 1
            return y * x

    assert difference(InPlace(), (torch.randn(2, 3),), from_module(InPlace(), (torch.randn(2, 3),))) == 0


def test_masks_and_parametrisations_are_folded_into_the_weight():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    prune.l1_unstructured(module[0], "weight", amount=0.5)
    torch.nn.utils.parametrizations.weight_norm(module[3])
    x = torch.randn(2, 3, 8, 8)
    network = from_module(module, (x,))
    assert [layer.op for layer in network.layers] == [Op.CONV, Op.ACTIVATION, Op.RESHAPE, Op.LINEAR]
    weight = network.layers[0].operands[1]
    assert weight.kind is OperandKind.PARAMETER
    assert (weight.weights.array() == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert difference(module, (x,), network) < 1e-6


def test_layers_keep_module_names_and_source_lines():
    network = from_module(build("resnet20"), example_inputs("resnet20"))
    names = [layer.name for layer in network.layers]
    assert {"conv1", "layer1.0.conv1", "layer3.2.bn2", "fc"} <= set(names)
    conv = next(layer for layer in network.layers if layer.name == "layer1.0.conv1")
    assert conv.operands[1].name == "layer1.0.conv1.weight"
    assert "resnet.py:" in conv.source


def test_training_mode_is_restored():
    module = build("lenet5").train()
    from_module(module, example_inputs("lenet5"))
    assert all(part.training for part in module.modules())


def test_weights_stay_the_modules_own():
    module = nn.Sequential(nn.Linear(3, 2))
    network = from_module(module, (torch.randn(2, 3),))
    with torch.no_grad():
        module[0].weight.fill_(7)
    assert (network.layers[0].operands[1].weights.array() == 7).all()


def test_inputs_that_do_not_fit_the_module_are_the_users_error():
    with pytest.raises(InputError, match=r"^Linear fails on inputs of shape \[2, 4\]: .*give fitting inputs"):
        from_module(nn.Linear(3, 2), (torch.randn(2, 4),))


def test_an_unknown_operator_is_listed_with_its_place():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cummax(x, 1).values

    network = from_module(Odd(), (torch.randn(2, 3),))
    assert [(u.op, u.layer) for u in network.unsupported] == [("cummax", "cummax")]
    with pytest.raises(
        UnsupportedError, match=r"^Odd: cannot price 1 operator\(s\): cummax \(1x: test_torch_import.py:\d+\)"
    ):
        pj.evaluate(network, "edge-16x16")
    report = pj.evaluate(network, "edge-16x16", allow_unsupported=True)
    assert not report.complete
    assert report.coverage.unsupported[0]["op"] == "cummax"


def test_weights_that_are_not_finite_are_refused():
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"layer 'linear': parameter 'weight' holds NaN"):
        check_weights(from_module(module, (torch.randn(2, 3),)))


def test_meta_tensors_are_priced_without_being_allocated():
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(4096, 16384), nn.GELU(), nn.Linear(16384, 4096))
        inputs = (torch.empty(2, 4096),)
    network = from_module(module, inputs)
    assert network_macs(network) == 2 * 4096 * 16384
    assert all(o.weights is None for layer in network.layers for o in layer.parameters)


class ViewWrite(nn.Module):
    def forward(self, x):
        y = x * 2
        y.view(-1, 3).add_(1)
        return y + 1


class DetachedWrite(nn.Module):
    def forward(self, x):
        y = x * 2
        F.dropout(y, 0.5, self.training).mul_(3)
        return y


class ReshapedWrite(nn.Module):
    def forward(self, x):
        y = x * 2
        y.reshape(-1).mul_(3)
        return y


class SteppedWrite(nn.Module):
    def forward(self, x):
        y = torch.zeros(x.shape[0], 4, 3)
        for i in range(4):
            y[:, i] = x * i
        return y


@pytest.mark.parametrize("kind", [ViewWrite, DetachedWrite, ReshapedWrite, SteppedWrite])
def test_a_write_in_place_through_a_view_is_resolved(kind):
    module = kind().eval()
    network = from_module(module, (torch.randn(2, 3),))
    for batch in (1, 3):
        x = torch.randn(batch, 3)
        assert difference(module, (x,), network) == 0


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x):
        return x + self.n.add_(1)


def test_the_users_buffers_are_not_written():
    module = Counter()
    network = from_module(module, (torch.randn(2, 3),))
    pj.run(network, torch.zeros(1, 3))
    assert float(module.n) == 0


def test_a_recording_leaves_buffers_and_the_random_state_alone():
    class Noisy(Counter):
        def forward(self, x):
            y = super().forward(x) + 0 * torch.rand(3)
            return y if y.sum() < 1e9 else -y

    module = Noisy()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    from_module(module, (torch.ones(2, 3),))
    assert float(module.n) == 0
    assert torch.get_rng_state().equal(before)


UNREAD = {
    "rounding": (lambda x: torch.round(x, decimals=1), "rounding to decimals"),
    "divisor": (lambda x: F.avg_pool3d(x.unsqueeze(1), 2, divisor_override=3), "a divisor of its own"),
}


@pytest.mark.parametrize(("function", "reason"), UNREAD.values(), ids=UNREAD)
def test_an_argument_nobody_expresses_makes_the_operator_unknown(function, reason):
    class Odd(nn.Module):
        def forward(self, x):
            return function(x)

    network = from_module(Odd(), (torch.randn(2, 3, 10, 10),))
    assert [u.reason for u in network.unsupported] == [reason]


def test_an_argument_that_a_handler_does_not_read_is_named(monkeypatch):
    """A handler that forgets an argument must not let it pass."""
    monkeypatch.setitem(HANDLERS, "clamp_min", lambda call: call.one(Op.ACTIVATION, [call.operand("self")], RELU))
    monkeypatch.setattr("picojoule.sim.numerics.torch_importer.decomposed", lambda program, understood: 1 / 0)

    class Clamp(nn.Module):
        def forward(self, x):
            return torch.clamp_min(x, 0.5)

    network = from_module(Clamp(), (torch.randn(2, 3),))
    assert [u.reason for u in network.unsupported] == ["its argument min=0.5 is not understood"]


def test_a_network_fixed_to_its_examples_batch_takes_no_other():
    class Graph(nn.Module):
        def forward(self, features, neighbours):
            return neighbours @ features

    network = from_module(Graph(), (torch.randn(3, 4), torch.randn(3, 3)))
    assert "exported for one batch: counts, also those per sample, are for the batch of its example" in network.notes
    with pytest.raises(InputError, match="is fixed to the batch of its example, so --batch 2 means nothing"):
        pj.evaluate(network, "edge-16x16", batch=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_run_in_float32(dtype):
    module = nn.Linear(4, 3).to(dtype)
    x = torch.randn(2, 4)
    network = from_module(module, (x.to(dtype),))
    torch.testing.assert_close(pj.run(network, x.double().numpy()), module.float()(x), rtol=1e-4, atol=1e-4)
    pj.evaluate(network, "edge-16x16")


def test_an_archive_that_leaves_more_than_the_batch_open_is_refused(tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    sizes = {2: torch.export.Dim("height", min=8, max=64)}
    torch.export.save(
        torch.export.export(module, (torch.randn(2, 1, 16, 16),), dynamic_shapes=(sizes,)), tmp_path / "open.pt2"
    )
    with pytest.raises(
        InputError, match=r"open: input 'input' leaves axis 2 open; only the batch \(axis 0\) may be open"
    ):
        pj.load(tmp_path / "open.pt2")


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 4, 5)])
def test_a_batch_norm_over_positions_is_not_folded_into_a_linear_layer(shape):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(shape[1])).eval()
    with torch.no_grad():
        module[1].running_mean.normal_()
        module[1].running_var.uniform_(0.5, 2.0)
    network = pj.trace(module, torch.randn(shape))
    x = torch.randn(3, *shape[1:])
    with torch.no_grad():
        assert torch.allclose(pj.run(network, x), module(x), atol=1e-5)
    assert [y.op for y in network.layers] == [Op.LINEAR, Op.NORM]


def test_the_second_axis_is_the_batch_only_where_a_recurrent_layer_is_handed_it():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent, self.linear = nn.GRU(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.linear(x) / x.shape[0]  # torch.export fixes the first axis here

    network = pj.trace(Unused(), torch.randn(2, 16, 8))
    assert [r.type.batch_axis for r in network.inputs] == [None]
    assert network_macs(network) == 2 * 16 * 64
    network = pj.trace(nn.GRU(8, 8), torch.randn(16, 2, 8))
    assert [r.type.batch_axis for r in network.inputs] == [1]


def test_narrow_integers_wrap():
    class Wraps(nn.Module):
        def forward(self, x):
            return (x.to(torch.uint8) + 200).float()

    x = torch.tensor([[100], [10]])
    network = pj.trace(Wraps(), x)
    assert torch.equal(pj.run(network, x), Wraps()(x))
