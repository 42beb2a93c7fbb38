"""Each torch operator alone: imported whole, run as eager at other batches, its multiply-accumulates counted."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import from_module


class Function(nn.Module):
    """Calls a function; tensors it is given besides become its parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, *inputs):
        return self.function(self, *inputs) if list(self.parameters()) else self.function(*inputs)


def sample(*shape, low=None, high=None, dtype=torch.float32, seed=0):
    """Return a function of the batch that makes an input whose first axis it multiplies."""

    def make(batch):
        generator = torch.Generator().manual_seed(seed + batch)
        size = (batch * shape[0], *shape[1:])
        if dtype is torch.bool:
            return torch.rand(size, generator=generator) > 0.5
        if dtype is torch.long:
            return torch.randint(low or 0, high or 5, size, generator=generator)
        values = torch.randn(size, generator=generator)
        return values if low is None else low + (high - low) * torch.rand(size, generator=generator)

    return make


X = sample(1, 6)
X3 = sample(1, 4, 6)
IMAGE = sample(1, 4, 9, 8)
VOLUME = sample(1, 3, 5, 6, 4)
POSITIVE = sample(1, 4, 6, low=0.5, high=2.0)
UNIT = sample(1, 4, 6, low=-0.9, high=0.9)
LONG = sample(1, 4, dtype=torch.long, high=6)
BOOL = sample(1, 4, 6, dtype=torch.bool)


def leaves(result):
    if isinstance(result, torch.Tensor):
        return [result]
    return [v for item in result if item is not None for v in leaves(item)]


def check(module, makers, *, tolerance=1e-4, batches=(1, 3)):
    """Import a module and compare its execution with eager; return the network."""
    module = module.eval()
    network = from_module(module, tuple(make(2) for make in makers))
    assert not network.unsupported, network.unsupported
    for batch in batches:
        inputs = tuple(make(batch) for make in makers)
        with torch.no_grad():
            expected, got = leaves(module(*[x.clone() for x in inputs])), Executor(network).run(inputs)
        assert len(expected) == len(got)
        for a, b in zip(expected, got, strict=True):
            assert a.shape == b.shape
            assert a.is_floating_point() == b.is_floating_point()
            scale = float(a.abs().max().clamp(min=1)) if a.is_floating_point() else 1.0
            torch.testing.assert_close(b.to(a.dtype), a, rtol=0, atol=tolerance * scale)
    return network


POINTWISE = {
    "rsub": (lambda x: 1.5 - x, X),
    "rsub of a tensor": (lambda x: torch.rsub(x, x * 2, alpha=3), X),
    "clip": (lambda x: x.clip(-0.5, 0.4), X),
    "clamp by tensors": (lambda x, y: torch.clamp(x, min=y, max=y + 1), X3, X3),
    "clamp_min": (lambda x: x.clamp_min(0.2), X),
    "clamp whole numbers": (lambda x: x.clamp(1, 3), LONG),
    "square": (lambda x: x.square(), X),
    "divide by whole numbers": (lambda x: x / 3, LONG),
    "div floor": (lambda x: torch.div(x, 0.7, rounding_mode="floor"), X3),
    "div trunc": (lambda x: torch.div(x, 0.7, rounding_mode="trunc"), X3),
    "floor_divide": (lambda x: x // 0.3, X3),
    "floor_divide whole": (lambda x: (x - 2) // 2, LONG),
    "remainder": (lambda x: x % 0.7, X3),
    "fmod": (lambda x: torch.fmod(x, 0.7), X3),
    "trunc": (torch.trunc, X3),
    "frac": (torch.frac, X3),
    "addcmul": (lambda x, y: torch.addcmul(x, x, y, value=0.3), X3, X3),
    "addcdiv": (lambda x, y: torch.addcdiv(x, x, y, value=0.3), X3, POSITIVE),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), X3, POSITIVE),
    "pow of a number": (lambda x: 2**x, X),
    "pow of tensors": (torch.pow, POSITIVE, X3),
    "log2 log10 log1p": (lambda x: torch.log2(x) + torch.log10(x) + torch.log1p(x), POSITIVE),
    "exp2 expm1": (lambda x: torch.exp2(x) + torch.expm1(x), X3),
    "trigonometry": (lambda x: x.sin() + x.cos() + x.tan() + x.asin() + x.acos() + x.atan(), UNIT),
    "hyperbolic": (lambda x: x.sinh() + x.cosh() + x.asinh() + (x.abs() + 1).acosh() + x.atanh(), UNIT),
    "sigmoid of a special name": (torch.special.expit, X),
    "logit": (lambda x: torch.logit(x.sigmoid()), X),
    "reciprocal": (torch.reciprocal, POSITIVE),
    "comparisons": (lambda x, y: ((x != y) & (x <= y)) | ~(x > 0) ^ (y < 0.8), X3, POSITIVE),
    "logical": (lambda x, y: torch.logical_xor(x, y) | torch.logical_not(y), BOOL, BOOL),
    "isnan isinf": (lambda x: torch.isnan(x.log()) | torch.isinf(1 / (x * 0)), X3),
    "isfinite": (lambda x: torch.isfinite(x.log()), X3),
    "nan_to_num": (lambda x: torch.nan_to_num(x.log(), nan=0.5), X3),
    "where of numbers": (lambda x: torch.where(x > 0, 1.0, x * 2), X3),
    "where of two numbers": (lambda x: torch.where(x > 0, 1.0, 2.0), X3),
    "masked_fill": (lambda x, m: x.masked_fill(m, -3.0), X3, BOOL),
    "cast": (lambda x: (x > 0).float() + x.int() + x.half().float() * 0, X3),
    "bool sum": (lambda x: (x > 0).sum(-1), X3),
    "hypot-like maximum": (lambda x, y: torch.maximum(x, y) - torch.minimum(x, y), X3, POSITIVE),
    "heaviside": (lambda x: torch.heaviside(x, torch.tensor(0.5)), X3),
    "deg2rad": (torch.deg2rad, X3),
}
ACTIVATIONS = {
    "glu": (lambda x: F.glu(x, 1), IMAGE),
    "logsigmoid": (F.logsigmoid, X),
    "softsign": (F.softsign, X),
    "celu": (lambda x: F.celu(x, 1.3), X),
    "selu": (F.selu, X),
    "elu": (lambda x: F.elu(x, 0.7), X),
    "hardshrink": (lambda x: F.hardshrink(x, 0.3), X3),
    "softshrink": (lambda x: F.softshrink(x, 0.3), X3),
    "tanhshrink": (F.tanhshrink, X3),
    "threshold": (lambda x: F.threshold(x, 0.1, -2.0), X3),
    "hardtanh": (lambda x: F.hardtanh(x, -0.2, 0.4), X3),
    "hardsigmoid hardswish": (lambda x: F.hardsigmoid(x) + F.hardswish(x), X3),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), X),
    "rrelu": (lambda x: F.rrelu(x, 0.1, 0.3, training=False), X),
    "softplus": (lambda x: F.softplus(x, beta=2.0), X),
    "softplus with a threshold": (lambda x: F.softplus(x, beta=2.0, threshold=0.5), X),
    "mish gelu silu": (lambda x: F.mish(x) + F.gelu(x) + F.gelu(x, approximate="tanh") + F.silu(x), X),
    "erf erfc": (lambda x: torch.erf(x) + torch.erfc(x), X),
    "softmin": (lambda x: F.softmin(x, dim=1), X3),
    "softmax2d": (nn.Softmax2d(), IMAGE),
    "logsumexp": (lambda x: x.logsumexp((1, 2)), X3),
    "normalize": (lambda x: F.normalize(x, dim=1), X3),
    "normalize p=1": (lambda x: F.normalize(x, p=1.0, dim=-1), X3),
    "prelu": (nn.PReLU(4), IMAGE),
    "prelu of one slope": (nn.PReLU(), X),
}
REDUCTIONS = {
    "std var": (lambda x: (x.std(-1), x.var(1, unbiased=False)), X3),
    "var with correction": (lambda x: torch.var(x, (1, 2), correction=2, keepdim=True), X3),
    "var_mean": (lambda x: torch.var_mean(x, -1), X3),
    "std_mean": (lambda x: torch.std_mean(x, (1, 2), keepdim=True), X3),
    "norms": (lambda x: (x.norm(dim=-1), x.norm(p=1, dim=1), x.norm(p=3, dim=2, keepdim=True)), X3),
    "infinite norm": (lambda x: torch.linalg.vector_norm(x, float("inf"), dim=-1), X3),
    "frobenius": (lambda x: torch.linalg.norm(x, dim=(1, 2)), X3),
    "max with indices": (lambda x: x.max(dim=1), X3),
    "min kept": (lambda x: x.min(dim=-1, keepdim=True), X3),
    "max values only": (lambda x: x.max(dim=1).values, X3),
    "argmax argmin": (lambda x: (x.argmax(-1), x.argmin(1, keepdim=True)), X3),
    "topk": (lambda x: x.topk(3, dim=1), X3),
    "topk smallest": (lambda x: x.topk(2, dim=-1, largest=False)[0], X3),
    "sort": (lambda x: x.sort(dim=-1, descending=True), X3),
    "argsort": (lambda x: x.argsort(dim=1), X3),
    "median": (lambda x: x.median(dim=-1).values, X3),
    "prod": (lambda x: x.prod(1), X3),
    "any all": (lambda x: ((x > 1).any(-1), (x > -2).all(1)), X3),
    "any of numbers": (lambda x: x.any(1), LONG),
    "amax amin": (lambda x: x.amax((1, 2)) - x.amin((1, 2)), X3),
    "aminmax": (lambda x: torch.aminmax(x, dim=-1), X3),
    "cumsum": (lambda x: x.cumsum(1), X3),
    "cumprod": (lambda x: x.cumprod(-1), X3),
    "mean of whole numbers": (lambda x: x.to(torch.float).mean(1), LONG),
    "cosine_similarity": (lambda x, y: F.cosine_similarity(x, y, dim=-1), X3, POSITIVE),
    "pairwise_distance": (lambda x, y: F.pairwise_distance(x, y), X3, POSITIVE),
    "count_nonzero": (lambda x: torch.count_nonzero(x > 0, dim=1), X3),
    "nansum": (lambda x: x.log().nansum(-1), X3),
    "diff": (lambda x: x.diff(dim=-1), X3),
    "trace of each": (lambda x: torch.diagonal(x @ x.transpose(1, 2), dim1=1, dim2=2).sum(-1), X3),
}
POOLS = {
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, (3, 4)), IMAGE),
    "adaptive_max_pool1d": (lambda x: F.adaptive_max_pool1d(x, 2), X3),
    "adaptive_max_pool2d to one": (lambda x: F.adaptive_max_pool2d(x, 1), IMAGE),
    "adaptive_avg_pool1d": (lambda x: F.adaptive_avg_pool1d(x, 4), X3),
    "adaptive_avg_pool3d": (lambda x: F.adaptive_avg_pool3d(x, (2, 3, 1)), VOLUME),
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), X3),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), VOLUME),
    "dilated max_pool2d": (lambda x: F.max_pool2d(x, 2, 1, dilation=2), IMAGE),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False), X3),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2, ceil_mode=True), VOLUME),
    "lp_pool2d": (lambda x: F.lp_pool2d(x, 2.0, 2), IMAGE),
    "local_response_norm": (lambda x: F.local_response_norm(x, 3), IMAGE),
    "instance_norm": (nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance_norm running": (nn.InstanceNorm1d(4, track_running_stats=True), X3),
    "batch norm of the batch itself": (nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "group_norm": (nn.GroupNorm(2, 4), IMAGE),
    "rms_norm": (nn.RMSNorm(6), X3),
    "layer_norm of two axes": (nn.LayerNorm((4, 6)), X3),
}
MOVES = {
    "movedim": (lambda x: x.movedim(1, 3) * 2, IMAGE),
    "swapaxes": (lambda x: x.swapaxes(1, 2) * 2, IMAGE),
    "moveaxis swapdims": (lambda x: torch.moveaxis(x, (1, 2), (3, 1)).swapdims(2, 3) * 2, IMAGE),
    "roll": (lambda x: torch.roll(x, (1, -2), (1, 2)), IMAGE),
    "flip": (lambda x: x.flip(1, 3), IMAGE),
    "rot90": (lambda x: torch.rot90(x, 1, (2, 3)), IMAGE),
    "tile": (lambda x: x.tile(1, 2, 3), X3),
    "repeat": (lambda x: x.repeat(1, 2, 1), X3),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, dim=1), X3),
    "upsample nearest 1d": (lambda x: F.interpolate(x, scale_factor=2), X3),
    "upsample nearest 3d": (lambda x: F.interpolate(x, size=(7, 9, 8)), VOLUME),
    "upsample nearest exact": (lambda x: F.interpolate(x, size=(13, 5), mode="nearest-exact"), IMAGE),
    "upsample nearest odd": (lambda x: F.interpolate(x, scale_factor=1.7), IMAGE),
    "upsample bilinear odd": (lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), IMAGE),
    "upsample bilinear corners": (lambda x: F.interpolate(x, (17, 6), mode="bilinear", align_corners=True), IMAGE),
    "upsample bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), IMAGE),
    "upsample bicubic corners": (lambda x: F.interpolate(x, (12, 5), mode="bicubic", align_corners=True), IMAGE),
    "upsample trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), VOLUME),
    "upsample linear": (lambda x: F.interpolate(x, 11, mode="linear"), X3),
    "circular pad": (lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"), IMAGE),
    "negative pad": (lambda x: F.pad(x, (-1, 2, 3, -2)), IMAGE),
    "reflection replication": (lambda x: F.pad(F.pad(x, (2, 1), mode="reflect"), (0, 3), mode="replicate"), X3),
    "zeros_like": (lambda x: x + torch.zeros_like(x) + torch.ones_like(x) * 2 + torch.full_like(x, 3.0), X3),
    "new_zeros": (lambda x: torch.cat([x, x.new_zeros(x.shape[0], 2, 6)], 1), X3),
    "ones for the batch": (lambda x: torch.cat([x, torch.ones(x.shape[0], 2, 6)], 1), X3),
    "arange": (lambda x: x * torch.arange(x.shape[-1]), X3),
    "full": (lambda x: x + torch.full((4, 1), 2.0), X3),
    "tril triu": (lambda x: (x @ x.transpose(1, 2)).tril() + (x @ x.transpose(1, 2)).triu(1) * 2, X3),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), sample(1, 2, 6, 4)),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), sample(1, 8, 3, 2)),
    "channel_shuffle": (nn.ChannelShuffle(2), IMAGE),
    "unfold of a tensor": (lambda x: x.unfold(2, 3, 2), IMAGE),
    "im2col": (lambda x: F.unfold(x, (3, 2), padding=1, stride=2), IMAGE),
    "col2im": (lambda x: F.fold(x, (5, 4), (2, 2)), sample(1, 12, 12)),
    "stack variants": (lambda x, y: (torch.hstack([x, y]), torch.dstack([x, y]), torch.stack([x, y], 2)), X3, POSITIVE),
    "view_as": (lambda x, y: x.flatten(1).view_as(y), X3, sample(1, 8, 3)),
    "unflatten": (lambda x: x.unflatten(2, (2, 3)) * 2, X3),
    "squeeze": (lambda x: x[:, :1].squeeze(1) + x.unsqueeze(1).squeeze(1)[:, 0], X3),
    "meshgrid": (lambda x: x + torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")[0], X3),
    "broadcast_to": (lambda x: x.unsqueeze(1).broadcast_to(-1, 3, -1, -1) * 1.0, X3),
    "split sizes": (lambda x: torch.split(x, [1, 3], 1), X3),
    "tensor_split": (lambda x: torch.tensor_split(x, 4, dim=2), X3),
    "chunk unbind": (lambda x: [*x.chunk(2, 2), *x.unbind(1)], X3),
    "narrow select": (lambda x: x.narrow(1, 1, 2) * x.select(2, -1)[:, :2, None], X3),
    "strided slice": (lambda x: x[:, ::2, 1:-1:2], X3),
    "slice assignment": (lambda x: assigned(x), X3),
    "diag_embed": (torch.diag_embed, X),
    "grid_sample": (
        lambda x, g: F.grid_sample(x, g, align_corners=False),
        IMAGE,
        sample(1, 5, 3, 2, low=-1.2, high=1.2),
    ),
    "grid_sample nearest border": (
        lambda x, g: F.grid_sample(x, g, mode="nearest", padding_mode="border", align_corners=True),
        IMAGE,
        sample(1, 5, 3, 2, low=-1.2, high=1.2),
    ),
    "affine_grid": (
        lambda t, x: F.grid_sample(x, F.affine_grid(t, list(x.shape), align_corners=False), align_corners=False),
        sample(1, 2, 3),
        IMAGE,
    ),
}


def assigned(x):
    y = x * 2
    y[:, 1] = 0.5
    y[:, :, 2:4] += 1
    return y


INDEXING = {
    "gather": (lambda x, i: x.gather(2, i.unsqueeze(1).expand(-1, 4, -1)), X3, LONG),
    "take_along_dim": (lambda x, i: torch.take_along_dim(x, i.unsqueeze(-1) % 4, 1), X3, LONG),
    "index one axis": (lambda x: x[:, torch.tensor([2, 0, 3])], X3),
    "index by an input": (Function(lambda self, i: self.table[i], table=torch.arange(24.0).view(6, 4)), LONG),
    "index two axes": (lambda x: x[:, torch.tensor([2, 0, 3]), torch.tensor([1, 5, 0])], X3),
    "index apart": (lambda x: x[:, torch.tensor([2, 0]), :, torch.tensor([1, 5])], IMAGE),
    "index the last of each sample": (lambda x, i: x[torch.arange(x.shape[0]), i[:, 0] % 4], X3, LONG),
    "index by a stored mask": (lambda x: x[:, torch.tensor([True, False, True, True])], X3),
    "index_select": (lambda x: x.index_select(2, torch.tensor([4, 1])), X3),
    "scatter": (lambda x, i: torch.zeros_like(x).scatter(2, i.unsqueeze(-1), 1.0), X3, LONG),
    "scatter_add": (lambda x, i: torch.zeros_like(x).scatter_add(2, i.unsqueeze(-1), x[:, :, :1]), X3, LONG),
    "scatter_reduce": (lambda x, i: x.scatter_reduce(2, i.unsqueeze(-1), x[:, :, :1] * 2, "amax"), X3, LONG),
    "index_put": (lambda x: put(x, accumulate=False), X3),
    "index_put accumulated": (lambda x: put(x, accumulate=True), X3),
    "masked assignment": (lambda x: masked(x), X3),
    "index_add": (lambda x: x.index_add(1, torch.tensor([1, 1, 3]), x[:, :3]), X3),
    "index_copy": (lambda x: x.index_copy(1, torch.tensor([1, 3]), x[:, :2] * 2), X3),
    "one_hot": (lambda i: F.one_hot(i, 6).float(), LONG),
    "embedding": (nn.Embedding(6, 5, padding_idx=0), LONG),
    "embedding_bag": (nn.EmbeddingBag(6, 5, mode="mean"), LONG),
    "embedding_bag sum": (nn.EmbeddingBag(6, 5, mode="sum"), LONG),
}


def put(x, *, accumulate):
    return torch.ops.aten.index_put(x, [None, torch.tensor([1, 2])], x[:, :2] * 3, accumulate)


def masked(x):
    y = x * 2
    y[y > 0] = -1.0
    return y


GROUPS = {
    "pointwise": POINTWISE,
    "activations": ACTIVATIONS,
    "reductions": REDUCTIONS,
    "pools": POOLS,
    "moves": MOVES,
    "indexing": INDEXING,
}
TABLE = {name: case for group in GROUPS.values() for name, case in group.items()}
ALONE = ("take_along_dim", "index by a stored mask")  # torch.export cannot follow these, nor what stands beside them


class Several(nn.Module):
    """Calls many functions, each on inputs of its own; returns what each returns, flattened."""

    def __init__(self, cases):
        super().__init__()
        self.parts = nn.ModuleList(module_of(c) for c in cases)
        self.counts = [len(makers) for _, *makers in cases]

    def forward(self, *inputs):
        results, place = [], 0
        for part, count in zip(self.parts, self.counts, strict=True):
            results += leaves(part(*inputs[place : place + count]))
            place += count
        return results


def module_of(case):
    return case[0] if isinstance(case[0], nn.Module) else Function(case[0])


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_operators_runs_as_eager(group):
    """All of a kind in one network: quick. Each alone runs with --all."""
    torch.manual_seed(0)
    cases = {name: case for name, case in GROUPS[group].items() if name not in ALONE}
    check(Several(cases.values()), [make for _, *makers in cases.values() for make in makers])


@pytest.mark.parametrize(
    "case", [c if n in ALONE else pytest.param(c, marks=pytest.mark.full) for n, c in TABLE.items()], ids=TABLE
)
def test_an_operator_runs_as_eager(case):
    torch.manual_seed(0)
    check(module_of(case), case[1:])
