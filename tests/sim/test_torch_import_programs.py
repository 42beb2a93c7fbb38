"""Exported programs as people save them, custom operators, and what modules are called with."""

import collections
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import picojoule as pj
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.gemm import network_macs
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module, from_program


class Mixed(nn.Module):
    """Convolution, norms, attention, a recurrent layer and a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.group = nn.GroupNorm(2, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.LayerNorm(8)
        self.lstm = nn.LSTM(8, 4, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = F.max_pool2d(self.group(F.relu(self.bn(self.conv(x)))), 2)
        x = x.flatten(2).transpose(1, 2)
        x = self.layer(x + self.attend(x, x, x, need_weights=False)[0])
        return F.log_softmax(self.head(self.drop(self.lstm(x)[0][:, -1])), -1)


def save(program, path):
    torch.export.save(program, path)
    return pj.load(path)


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    module = Mixed().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export remarks on its own treatment of nn.LSTM
        made = torch.export.export(module, (torch.randn(2, 3, 6, 4),), dynamic_shapes=({0: batch},), strict=False)
        core = made.run_decompositions()
    return module, made, core


@pytest.mark.parametrize("core", [False, True], ids=["as exported", "core aten"])
def test_saved_programs_run_as_eager(program, core, tmp_path):
    module, exported, split = program
    network = save(split if core else exported, tmp_path / "mixed.pt2")
    assert not network.unsupported
    assert all(layer.op is not Op.NORM or layer.attributes.kind != "batch" for layer in network.layers)
    for batch in (1, 3):
        x = torch.randn(batch, 3, 6, 4)
        with torch.no_grad():
            torch.testing.assert_close(pj.run(network, x), module(x), rtol=1e-4, atol=1e-5)
    convolution, attention = 24 * 8 * 27, 6 * 8 * 32 + 2 * 6 * 6 * 8
    recurrent = 6 * 16 * 8 + 6 * 16 * 4
    if not core:
        assert network_macs(network) == convolution + attention + recurrent + 20


def test_a_program_of_core_aten_has_linear_layers_not_products(program):
    network = from_program(program[2], name="mixed")
    head = next(layer for layer in network.layers if layer.name == "head")
    assert head.op is Op.LINEAR
    assert head.operands[1].shape == (5, 4)


def test_regions_without_gradients_or_mixed_precision_are_read_through():
    class Regions(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x):
            with torch.no_grad():
                y = x * 2 + 1
            with torch.autocast("cpu", enabled=False):
                z = self.fc(y)
            return z + y

    module = Regions().eval()
    network = from_module(module, (torch.randn(2, 3),))
    x = torch.randn(3, 3)
    torch.testing.assert_close(Executor(network).run((x,))[0], module(x))


# --- custom operators ------------------------------------------------------------------------------------------------


@torch.library.custom_op("picojoule_test::swirl", mutates_args=())
def swirl(x: torch.Tensor, weight: torch.Tensor, turns: int) -> torch.Tensor:
    return x * weight.sum() * turns


@swirl.register_fake
def _(x, weight, turns):
    return torch.empty_like(x)


LIBRARY = torch.library.Library("picojoule_test", "FRAGMENT")
LIBRARY.define("twice_plus(Tensor x, Tensor y) -> Tensor")
LIBRARY.impl("twice_plus", lambda x, y: x * 2 + y, "CompositeImplicitAutograd")


class Swirls(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return swirl(self.inner(x), self.inner.weight, 2) + 1


def test_a_custom_operator_stays_one_layer_with_its_place():
    network = from_module(Swirls().eval(), (torch.randn(2, 3),))
    (unknown,) = network.unsupported
    assert unknown.op == "picojoule_test::swirl"
    assert unknown.where.startswith("test_torch_import_programs.py:")
    layer = next(y for y in network.layers if y.op is Op.OPAQUE)
    assert [o.shape for o in layer.operands] == [(1, 3), (3, 3)]
    assert layer.results[0].type.batch_axis == 0
    report = pj.evaluate(network, "edge-16x16", allow_unsupported=True)
    assert not report.complete
    assert report.totals["macs"] == 9


def test_a_custom_operator_made_of_others_is_split():
    class Twice(nn.Module):
        def forward(self, x):
            return torch.ops.picojoule_test.twice_plus(x, x + 1)

    network = from_module(Twice(), (torch.randn(2, 3),))
    assert not network.unsupported
    x = torch.randn(3, 3)
    torch.testing.assert_close(Executor(network).run((x,))[0], 3 * x + 1)


# --- what goes in, what comes out ------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", ["first", "second"])


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, words, mask=None, scale=1.0, return_all=False):
        x = self.embed(words)
        if mask is not None:
            x = x * mask.unsqueeze(-1)
        y = self.fc(x.mean(1)) * scale
        return {"scores": y, "states": [x, None]} if return_all else Pair(y, x)


def test_keyword_inputs_and_constants_are_taken_by_name():
    module = Keywords().eval()
    example = {"mask": torch.ones(2, 5), "words": torch.zeros(2, 5, dtype=torch.long), "scale": 3.0}
    network = pj.trace(module, example)
    assert {r.name for r in network.inputs} == {"words", "mask"}
    words, mask = torch.randint(0, 9, (3, 5)), torch.rand(3, 5)
    got = pj.run(network, {"words": words, "mask": mask})
    for a, b in zip(got, module(words, mask, 3.0), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(InputError, match=r"^Keywords takes the inputs (mask, words|words, mask), got words$"):
        pj.run(network, {"words": words})


def test_constants_in_a_sequence_are_passed_on():
    network = pj.trace(Keywords().eval(), (torch.zeros(2, 5, dtype=torch.long), None, 2.0, True))
    assert [r.name for r in network.inputs] == ["words"]
    assert len(network.outputs) == 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("words", "example inputs are a tensor, a sequence of them, or a mapping of argument names to them, got str"),
        ((object(),), "example input 0 must be a tensor, got object"),
        ((torch.zeros(2, 2, dtype=torch.complex64),), "example inputs are complex; give real and imaginary part apart"),
    ],
)
def test_other_inputs_are_refused(given, sentence):
    with pytest.raises(InputError) as caught:
        pj.trace(Keywords(), given)
    assert str(caught.value) == sentence


def test_states_that_carry_the_batch_second_are_found():
    module = nn.LSTM(3, 4, batch_first=True).eval()
    network = from_module(module, (torch.randn(2, 5, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))))
    assert [r.type.batch_axis for r in network.inputs] == [0, 1, 1]


def test_an_input_shared_by_all_samples_has_no_batch():
    class Shared(nn.Module):
        def forward(self, x, bias):
            return x + bias

    network = from_module(Shared(), (torch.randn(4, 3), torch.randn(1, 3)))
    assert [r.type.batch_axis for r in network.inputs] == [0, None]


def test_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, words):
            return self.head(self.embed(words))

    module = Tied()
    assert from_module(module, (torch.zeros(2, 5, dtype=torch.long),)).parameters == 36


def test_a_range_over_the_batch_is_not_repeated():
    class Counts(nn.Module):
        def forward(self, x):
            return x + torch.arange(x.shape[0]).unsqueeze(1)

    network = from_module(Counts(), (torch.randn(3, 4),))
    assert [r.type.batch_axis for r in network.inputs] == [None]
    x = torch.randn(3, 4)
    torch.testing.assert_close(Executor(network).run((x,))[0], Counts()(x))


def test_a_number_of_samples_is_no_constant():
    class Counts(nn.Module):
        def forward(self, x):
            return x * x.shape[0]

    network = from_module(Counts(), (torch.randn(3, 4),))
    assert [r.type.batch_axis for r in network.inputs] == [None]


def test_another_sample_than_the_first_is_no_constant():
    class Last(nn.Module):
        def forward(self, x):
            return x - x[-1:]

    network = from_module(Last(), (torch.randn(3, 4),))
    x = torch.randn(3, 4)
    torch.testing.assert_close(Executor(network).run((x,))[0], Last()(x))


class Decoder(nn.Module):
    """The shape of a Llama decoder: rotary positions from buffers, grouped heads, gated feed-forward."""

    def __init__(self, layers, width, heads, groups, hidden, words):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.embed = nn.Embedding(words, width)
        key = groups * self.size
        kinds = {"q": width, "k": key, "v": key, "o": width, "gate": hidden, "up": hidden}
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.ModuleDict({k: nn.Linear(width, n, bias=False) for k, n in kinds.items()})
            block.update(
                {"down": nn.Linear(hidden, width, bias=False), "n1": nn.RMSNorm(width), "n2": nn.RMSNorm(width)}
            )
            self.blocks.append(block)
        self.norm, self.head = nn.RMSNorm(width), nn.Linear(width, words, bias=False)
        angles = torch.outer(torch.arange(64.0), torch.arange(0, self.size, 2) / self.size).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def turned(self, x, length):
        first, second = x.chunk(2, -1)
        return x * self.cos[:length] + torch.cat([-second, first], -1) * self.sin[:length]

    def forward(self, words):
        x, length = self.embed(words), words.shape[1]
        for block in self.blocks:
            y = block["n1"](x)
            q, k, v = (block[n](y).unflatten(2, (-1, self.size)).transpose(1, 2) for n in ("q", "k", "v"))
            q, k = self.turned(q, length), self.turned(k, length)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = x + block["o"](y.transpose(1, 2).flatten(2))
            y = block["n2"](x)
            x = x + block["down"](F.silu(block["gate"](y)) * block["up"](y))
        return self.head(self.norm(x))


@pytest.mark.parametrize("layers", [2, pytest.param(32, marks=pytest.mark.full)])
def test_a_decoder_of_seven_billion_weights_is_priced_without_them(layers):
    width, heads, hidden, words, length = 4096, 32, 11008, 32000, 16
    with torch.device("meta"):
        module = Decoder(layers, width, heads, heads, hidden, words)
        network = pj.trace(module, torch.zeros(1, length, dtype=torch.long))
    assert network.parameters == sum(p.numel() for p in module.parameters())
    assert layers != 32 or network.parameters == 6_738_415_616
    weights = layers * (4 * width**2 + 3 * width * hidden) + width * words
    assert network_macs(network) == length * weights + layers * heads * 2 * length**2 * (width // heads)
    assert all(o.weights is None for layer in network.layers for o in layer.parameters)
    assert pj.evaluate(network, "edge-32x32", chips=None).complete


def test_a_small_decoder_runs_as_eager_with_grouped_heads():
    torch.manual_seed(0)
    module = Decoder(2, 16, 4, 2, 24, 11).eval()
    network = pj.trace(module, torch.zeros(1, 5, dtype=torch.long))
    for batch in (1, 3):
        words = torch.randint(0, 11, (batch, 5))
        with torch.no_grad():
            torch.testing.assert_close(pj.run(network, words), module(words), rtol=1e-4, atol=1e-5)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_modules_run_as_eager():
    transformers = pytest.importorskip("transformers", reason="Hugging Face modules are read where the user has them")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    module = transformers.BertModel(config).eval()

    def inputs(batch):
        return {"input_ids": torch.randint(0, 50, (batch, 7)), "attention_mask": torch.ones(batch, 7, dtype=torch.long)}

    network = pj.trace(module, inputs(2))
    for batch in (1, 3):
        given = inputs(batch)
        with torch.no_grad():
            expected = module(**given)
        torch.testing.assert_close(pj.run(network, given)[0], expected.last_hidden_state, rtol=1e-4, atol=1e-5)
