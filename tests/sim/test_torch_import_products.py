"""Torch's multiply-accumulate operators: run as eager, counted as by hand or as torch's own counter."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from picojoule.sim.attributes import Op
from picojoule.sim.gemm import layer_macs, network_macs
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module


class Function(nn.Module):
    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, *inputs):
        return self.function(self, *inputs)


def leaves(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [v for item in result if item is not None for v in leaves(item)]


def check(module, make, batches=(1, 3)):
    """Import a module, compare its execution with eager at several batches, and return the network."""
    network = from_module(module.eval(), make(2))
    assert not network.unsupported, network.unsupported
    for batch in batches:
        inputs = make(batch)
        with torch.no_grad():
            expected, got = leaves(module(*inputs)), Executor(network).run(inputs)
        assert [tuple(e.shape) for e in expected] == [tuple(g.shape) for g in got]
        for a, b in zip(expected, got, strict=True):
            assert float((a - b).abs().max()) <= 1e-4 * max(1.0, float(a.abs().max()))
    return network


def counted(module, inputs):
    """Return torch's own count of multiply-accumulates (its attention kernels count only in their plain form)."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            module(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    return counter.get_total_flops() // 2


def randn(*shape):
    return lambda batch: (torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch)),)


# --- recurrent layers ------------------------------------------------------------------------------------------------

GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True},
        {"batch_first": True, "bidirectional": True, "num_layers": 2},
        {"batch_first": True, "bias": False},
        {"num_layers": 2},
    ],
    ids=["plain", "two layers both ways", "without bias", "sequence first"],
)
def test_recurrent_layers_run_as_eager_with_counts_by_formula(kind, options):
    torch.manual_seed(0)
    time, features, hidden = 5, 6, 7
    first = options.get("batch_first", False)

    def make(batch):
        x = torch.randn(batch, time, features, generator=torch.Generator().manual_seed(batch))
        return (x if first else x.transpose(0, 1).contiguous(),)

    module = kind(features, hidden, **options)
    network = check(module, make)
    directions, layers = 1 + options.get("bidirectional", False), options.get("num_layers", 1)
    widths = [features] + [hidden * directions] * (layers - 1)
    per_sample = sum(time * GATES[kind] * hidden * (width + hidden) * directions for width in widths)
    assert network_macs(network) == per_sample
    assert network_macs(network, batch=3) == 3 * per_sample
    assert network.parameters == sum(p.numel() for p in module.parameters())
    assert sum(layer.op is Op.RECURRENT for layer in network.layers) == layers * directions


def test_an_rnn_of_relus_runs_as_eager():
    check(nn.RNN(3, 4, nonlinearity="relu", batch_first=True), randn(5, 3))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_given_initial_states_run_as_eager(kind):
    class Started(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(3, 4, num_layers=2, batch_first=True)

        def forward(self, x, h):
            return self.rnn(x, (h, h * 2) if kind is nn.LSTM else h)

    def make(batch):
        return torch.randn(batch, 5, 3), torch.randn(2, batch, 4)

    check(Started(), make)


def test_a_learned_initial_state_runs_as_eager():
    torch.manual_seed(0)

    def run(self, x):
        return self.rnn(x, self.h.expand(-1, x.shape[0], -1).contiguous())[0]

    module = Function(run, h=torch.randn(1, 1, 4))
    module.rnn = nn.GRU(3, 4, batch_first=True)
    check(module, randn(5, 3))


def test_a_tagger_reads_the_last_state():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 6)
            self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
            self.head = nn.Linear(10, 3)

        def forward(self, words):
            steps, (h, _) = self.lstm(self.embed(words))
            return self.head(steps), torch.cat([h[0], h[1]], -1)

    network = check(Tagger(), lambda batch: (torch.randint(0, 9, (batch, 7)),))
    names = [layer.name for layer in network.layers if layer.op in (Op.LINEAR, Op.RECURRENT)]
    assert names == ["lstm.lstm.l0.input", "lstm.lstm.l0", "lstm.lstm.l0_reverse.input", "lstm.lstm.l0_reverse", "head"]
    weight = next(layer for layer in network.layers if layer.name == "lstm.lstm.l0").operands[1]
    assert weight.name == "lstm.weight_hh_l0"


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_are_products_and_arithmetic(kind):
    torch.manual_seed(0)
    cell = kind(3, 4)

    def run(self, x):
        h = x.new_zeros(x.shape[0], 4)
        state = (h, h) if kind is nn.LSTMCell else h
        for step in range(3):
            state = self.cell(x[:, step], state)
        return state

    module = Function(run)
    module.cell = cell
    network = check(module, randn(3, 3))
    gates = {nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}[kind]
    assert network_macs(network) == gates * 4 * (3 * 3 + 2 * 4)  # the first step's state is zero: folded


def test_a_projected_state_is_split_step_by_step():
    network = check(nn.LSTM(3, 4, proj_size=2, batch_first=True), randn(5, 3))
    assert network_macs(network) == 5 * 16 * 3 + 4 * 16 * 2 + 5 * 4 * 2  # the first step's state is zero: folded


def test_gradients_reach_recurrent_weights():
    module = nn.LSTM(3, 4, batch_first=True)
    network = from_module(module, randn(5, 3)(2))
    Executor(network).run(randn(5, 3)(2))[0].sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


# --- products --------------------------------------------------------------------------------------------------------

W = torch.linspace(-1, 1, 48)
PRODUCTS = {
    "x @ parameter": (Function(lambda s, x: x @ s.w, w=W.reshape(6, 8)), randn(4, 6), 4 * 6 * 8),
    "parameter @ x": (Function(lambda s, x: s.w @ x, w=W.reshape(8, 6)), randn(6, 4), 4 * 6 * 8),
    "matrix @ vector": (Function(lambda s, x: x @ s.w, w=W[:6]), randn(4, 6), 4 * 6),
    "vector @ batch": (Function(lambda s, x: s.w @ x, w=W[:6]), randn(6, 4), 4 * 6),
    "F.linear with a computed weight": (
        Function(lambda s, x: F.linear(x, x[0, :2] * 0 + s.w), w=W[:12].reshape(2, 6)),
        randn(4, 6),
        4 * 6 * 2,
    ),
    "addmm": (Function(lambda s, x: torch.addmm(s.b, x, s.w), b=W[:8], w=W.reshape(6, 8)), randn(6), 48),
    "addmm scaled": (
        Function(lambda s, x: torch.addmm(s.b, x, s.w, alpha=2, beta=0.5), b=W[:8], w=W.reshape(6, 8)),
        randn(6),
        48,
    ),
    "baddbmm": (Function(lambda s, x: torch.baddbmm(x[:, :, :4], x, x.transpose(1, 2))), randn(4, 6), 4 * 6 * 4),
    "bmm": (Function(lambda s, x: torch.bmm(x, x.transpose(1, 2))), randn(4, 6), 4 * 6 * 4),
    "bilinear": (nn.Bilinear(3, 4, 5), lambda b: (torch.randn(b, 3), torch.randn(b, 4)), 5 * 4 * 3 + 5 * 4),
    "outer": (Function(lambda s, x: x[:, :, None] * x[:, None, :]), randn(4), 0),
    "einsum bti,oi->bto": (
        Function(lambda s, x: torch.einsum("bti,oi->bto", x, s.w), w=W.reshape(8, 6)),
        randn(4, 6),
        192,
    ),
    "einsum bid,bjd->bij": (Function(lambda s, x: torch.einsum("bid,bjd->bij", x, x)), randn(4, 6), 4 * 4 * 6),
    "einsum bhid,bhjd->bhij": (Function(lambda s, x: torch.einsum("bhid,bhjd->bhij", x, x)), randn(2, 4, 6), 2 * 96),
    "einsum ...i,io->...o": (
        Function(lambda s, x: torch.einsum("...i,io->...o", x, s.w), w=W.reshape(6, 8)),
        randn(4, 6),
        192,
    ),
    "einsum implicit": (Function(lambda s, x: torch.einsum("bij,jk", x, s.w), w=W.reshape(6, 8)), randn(4, 6), 192),
    "einsum of three": (
        Function(lambda s, x: torch.einsum("bti,oi,bto->bt", x, s.w, x[..., :4]), w=W[:24].reshape(4, 6)),
        randn(4, 6),
        None,
    ),
    "einsum with a sum": (
        Function(lambda s, x: torch.einsum("bij,kl->bik", x, s.w), w=W.reshape(6, 8)),
        randn(4, 6),
        None,
    ),
    "einsum outer": (Function(lambda s, x: torch.einsum("bi,bj->bij", x, x)), randn(4), 0),
    "einsum transpose": (Function(lambda s, x: torch.einsum("bij->bji", x)), randn(4, 6), 0),
    "einsum experts": (
        Function(lambda s, x: torch.einsum("bi,eio->beo", x, s.w), w=W.reshape(2, 6, 4)),
        randn(6),
        2 * 6 * 4,
    ),
    "einsum grouped": (
        Function(lambda s, x: torch.einsum("bgi,gio->bgo", x, s.w), w=W.reshape(2, 6, 4)),
        randn(2, 6),
        2 * 6 * 4,
    ),
    "tensordot": (Function(lambda s, x: torch.tensordot(x, s.w, dims=([2], [0])), w=W.reshape(6, 8)), randn(4, 6), 192),
    "conv1d same": (nn.Conv1d(4, 8, 4, padding="same"), randn(4, 9), 9 * 8 * 4 * 4),
    "conv3d grouped": (nn.Conv3d(4, 8, 3, groups=2, stride=2, padding=1), randn(4, 5, 6, 4), None),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), randn(4, 9), 9 * 4 * 6 * 3),
    "conv_transpose3d": (nn.ConvTranspose3d(4, 6, 2, groups=2), randn(4, 3, 4, 2), None),
    "circular conv": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), randn(4, 5, 6), 30 * 3 * 36),
    "reflect conv": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), randn(4, 5, 6), 30 * 3 * 36),
}


@pytest.mark.parametrize("case", PRODUCTS.values(), ids=PRODUCTS)
def test_products_run_as_eager_and_are_counted(case):
    module, make, macs = case
    network = check(module, make)
    assert network_macs(network) == (macs if macs is not None else counted(module, make(1)))


# --- attention -------------------------------------------------------------------------------------------------------


def heads(batch, count, length, width=4, seed=0):
    return torch.randn(batch, count, length, width, generator=torch.Generator().manual_seed(seed + batch))


def additive(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, scale=0.3)


ATTENTIONS = {
    "plain": (Function(lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v)), 4),
    "causal": (Function(lambda s, q, k, v: F.scaled_dot_product_attention(q, q, q, is_causal=True)), 4),
    "additive mask": (Function(additive, mask=torch.linspace(-1, 1, 15).reshape(3, 5)), 4),
    "boolean mask": (
        Function(lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=torch.ones(3, 5).tril(2).bool())),
        4,
    ),
    "mask of the input": (
        Function(
            lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=q[:, :1] @ k[:, :1].transpose(2, 3))
        ),
        4,
    ),
    "grouped heads": (Function(lambda s, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)), 2),
    "grouped heads, causal, masked": (
        Function(
            lambda s, q, k, v: F.scaled_dot_product_attention(
                q, k, v, enable_gqa=True, attn_mask=(q[:, :1] @ k[:, :1].transpose(2, 3)).detach() > 0.0
            )
        ),
        2,
    ),
}


@pytest.mark.parametrize("case", ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention_runs_as_eager_and_is_counted(case):
    module, key_heads = case

    def make(batch):
        return heads(batch, 4, 3), heads(batch, key_heads, 5, seed=9), heads(batch, key_heads, 5, seed=99)

    network = check(module, make)
    products = [layer for layer in network.layers if layer.name.startswith("scaled_dot_product_attention")]
    keys = 3 if module is ATTENTIONS["causal"][0] else 5
    assert sum(layer_macs(y) for y in products) == 2 * 4 * 3 * keys * 4


class Attends(nn.Module):
    def __init__(self, weights, **options):
        super().__init__()
        self.attend = nn.MultiheadAttention(8, 2, **options)
        self.weights = weights

    def forward(self, x):
        return self.attend(x, x, x, need_weights=self.weights)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_multi_head_attention_runs_as_eager_also_sequence_first(weights, first):
    torch.manual_seed(0)

    def make(batch):
        x = torch.randn(batch, 5, 8)
        return (x if first else x.transpose(0, 1).contiguous(),)

    module = Attends(weights, batch_first=first)
    network = check(module, make)
    assert network_macs(network) == counted(module, make(1)) == 5 * 8 * 32 + 2 * 5 * 5 * 8


ENCODER = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
TRANSFORMERS = {
    "encoder": (nn.TransformerEncoder(ENCODER, 2), lambda b: (torch.randn(b, 5, 8),)),
    "encoder, gelu, norm first": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu"),
        lambda b: (torch.randn(b, 5, 8),),
    ),
    "decoder": (
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2),
        lambda b: (torch.randn(b, 4, 8), torch.randn(b, 5, 8)),
    ),
    "transformer": (
        nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        lambda b: (torch.randn(b, 5, 8), torch.randn(b, 4, 8)),
    ),
    "transformer, sequence first": (
        nn.Transformer(8, 2, 1, 1, 16),
        lambda b: (torch.randn(5, b, 8), torch.randn(4, b, 8)),
    ),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("case", TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_transformers_run_as_eager_and_are_counted(case):
    module, make = case
    network = check(module, make)
    assert network_macs(network) == counted(module, make(1))


def test_an_encoder_with_masks_runs_as_eager():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, x, padding):
            causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.encoder(x, src_mask=causal, src_key_padding_mask=padding, is_causal=True)

    def make(batch):
        padding = torch.zeros(batch, 5, dtype=torch.bool)
        padding[:, 4:] = True
        return torch.randn(batch, 5, 8), padding

    check(Masked(), make)
