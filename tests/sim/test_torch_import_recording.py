"""Modules that torch.export cannot follow: recorded as they run on the example, with what that leaves out."""

import dataclasses
import re

import pytest
import torch
from torch import nn

import picojoule as pj
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError, UnsupportedError
from picojoule.sim.gemm import network_macs
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.numerics.torch_importer import BATCH_BY_RUNNING, FIXED_BATCH, from_module


class EarlyExit(nn.Module):
    """Leaves after the first classifier where that is sure enough."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.first = nn.Linear(4, 3)
        self.rest = nn.Conv2d(4, 8, 3)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        early = self.first(x.mean((2, 3)))
        if early.softmax(-1).max() > self.threshold:
            return early
        return self.last(self.rest(x).relu().mean((2, 3)))


class Refining(nn.Module):
    """Halves a residual until it is small."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(5, 5)

    def forward(self, x):
        for _ in range(10):
            x = x + 0.5 * torch.tanh(self.step(x))
            x = x / (1 + x.norm(dim=-1, keepdim=True))
            if x.abs().sum().item() < 100:
                break
        return x


def same(module, inputs, network):
    with torch.no_grad():
        expected, got = module(*inputs), Executor(network).run(inputs)
    assert float((expected - got[0]).abs().max()) <= 1e-5


@pytest.mark.parametrize(
    ("threshold", "products"), [(0.0, ["stem.0", "first"]), (1.1, ["stem.0", "first", "rest", "last"])]
)
def test_an_early_exit_is_counted_along_the_path_taken(threshold, products):
    torch.manual_seed(0)
    module = EarlyExit(threshold).eval()
    x = torch.randn(1, 1, 6, 6)
    network = from_module(module, (x,))
    assert not network.unsupported
    assert [y.name for y in network.layers if y.op in (Op.CONV, Op.LINEAR)] == products
    note = network.notes[-1]
    assert note.startswith("recorded along the path that the example took, because test_torch_import_recording.py:")
    assert note.endswith(
        "depends on the data: other branches are not counted, numbers taken out of tensors stay the example's, "
        "work done outside torch is missing; run it on the example only"
    )
    for batch in (1, 3):
        same(module, (torch.randn(batch, 1, 6, 6),), network)
    conv, fc = 36 * 4 * 9, 12
    assert network_macs(network) == conv + fc + (16 * 8 * 36 + 24 if threshold > 1 else 0)


def test_recorded_layers_keep_module_names_lines_and_parameters():
    module = EarlyExit(1.1).eval()
    network = from_module(module, (torch.randn(1, 1, 6, 6),))
    rest = next(y for y in network.layers if y.name == "rest")
    assert rest.source.startswith("rest (test_torch_import_recording.py:")
    assert [o.name for o in rest.parameters] == ["rest.weight", "rest.bias"]
    Executor(network).run((torch.randn(1, 1, 6, 6),))[0].sum().backward()
    assert module.rest.weight.grad is not None
    with torch.no_grad():
        module.rest.weight.fill_(7)
    assert (rest.operands[1].weights.array() == 7).all()


def test_batch_norm_of_a_recording_is_folded():
    network = pj.trace(EarlyExit(1.1).eval(), torch.randn(1, 1, 6, 6))
    assert not [y for y in network.layers if y.op is Op.NORM]


def test_a_loop_that_stops_on_the_data_runs_as_eager():
    torch.manual_seed(0)
    module = Refining().eval()
    x = torch.randn(2, 5)
    network = from_module(module, (x,))
    assert sum(y.op is Op.LINEAR for y in network.layers) == 1
    same(module, (x,), network)


def test_a_path_that_changes_with_the_batch_fixes_it():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.step = nn.Linear(5, 5)

        def forward(self, x):
            while x.abs().sum() < 100:
                x = self.step(x) + x * 1.5
            return x

    torch.manual_seed(0)
    module = Sized().eval()
    x = torch.ones(2, 5)
    network = from_module(module, (x,))
    assert FIXED_BATCH in network.notes
    same(module, (x,), network)
    with pytest.raises(InputError, match=r"must have shape \[2, 5\], got \[3, 5\]"):
        pj.run(network, torch.ones(3, 5))


def test_recurrent_layers_and_attention_stay_whole_in_a_recording():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(8, 8, batch_first=True)
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            y = self.lstm(x)[0]
            y = self.attend(y, y, y, need_weights=False)[0]
            return y if y.sum() < 1e9 else -y

    module = Mixed().eval()
    network = from_module(module, (torch.randn(2, 5, 8),))
    assert not network.unsupported
    assert [y.op for y in network.layers].count(Op.RECURRENT) == 1
    for batch in (1, 3):
        same(module, (torch.randn(batch, 5, 8),), network)
    assert network_macs(network) == 5 * 4 * 8 * 16 + 5 * 8 * 32 + 2 * 5 * 5 * 8


@dataclasses.dataclass
class Answer:
    scores: torch.Tensor
    hidden: torch.Tensor


def test_outputs_of_any_class_are_flattened_in_order():
    class Answers(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return Answer(scores=self.fc(x), hidden=x * 2)

    module = Answers().eval()
    network = from_module(module, (torch.randn(2, 3),))
    x = torch.randn(3, 3)
    scores, hidden = Executor(network).run((x,))
    torch.testing.assert_close(scores, module.fc(x))
    torch.testing.assert_close(hidden, x * 2)


def test_a_batch_that_export_fixes_is_found_by_running():
    class Picks(nn.Module):
        def forward(self, x, index):
            return torch.take_along_dim(x, index, 1)

    network = from_module(Picks(), (torch.randn(2, 4, 6), torch.zeros(2, 1, 6, dtype=torch.long)))
    assert network.notes == (BATCH_BY_RUNNING,)
    inputs = torch.randn(3, 4, 6), torch.randint(0, 4, (3, 1, 6))
    same(Picks(), inputs, network)


def test_numbers_read_out_of_tensors_keep_the_examples_values():
    class Scaled(nn.Module):
        def forward(self, x):
            return x / x.abs().max().item()

    x = torch.randn(2, 3)
    network = from_module(Scaled(), (x,))
    same(Scaled(), (x,), network)
    assert "run it on the example only" in network.notes[-1]


def test_steps_written_into_a_result_run_as_eager():
    class Stepped(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x):
            out = torch.zeros(x.shape[0], x.shape[1], 4)
            h = x.new_zeros(x.shape[0], 4)
            for t in range(x.shape[1]):
                h = self.cell(x[:, t], h)
                out[:, t] = h
                if h.sum() > 1e9:
                    break
            return out

    module = Stepped().eval()
    network = from_module(module, (torch.randn(2, 4, 3),))
    for batch in (1, 3):
        same(module, (torch.randn(batch, 4, 3),), network)


def test_values_that_leave_torch_are_said_to_be_the_examples():
    class ByNumpy(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.detach().numpy() * 2) + x

    x = torch.randn(2, 3)
    network = from_module(ByNumpy(), (x,))
    same(ByNumpy(), (x,), network)
    assert network.notes[0] == FIXED_BATCH
    assert re.fullmatch(
        r"recorded along the path .* test_torch_import_recording\.py:\d+ depends on the data: .*", network.notes[1]
    )


class Holder:
    def __init__(self, value):
        self.value = value


REFUSED = {
    "returns no tensor": (
        type("Holds", (nn.Module,), {"forward": lambda self, x: Holder(x * 2)})(),
        torch.randn(2, 3),
        "Holds returns Holder, in which no tensor is found; return tensors, or tuples, dicts or dataclasses of them",
    ),
    "no sample": (
        nn.Linear(3, 2),
        torch.randn(0, 3),
        "example input 'input' has shape [0, 3]; every size must be at least 1",
    ),
    "nothing computed": (
        type("Fixed", (nn.Module,), {"forward": lambda self, x: torch.ones(3)})(),
        torch.randn(2, 3),
        "Fixed: no output depends on the inputs, so there is nothing to price",
    ),
    "own failure": (
        type("Fails", (nn.Module,), {"forward": lambda self, x: {}["key"]})(),
        torch.randn(2, 3),
        "Fails fails on inputs of shape [2, 3]: 'key'; give fitting inputs (--input-shape)",
    ),
}


@pytest.mark.parametrize(("module", "x", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_in_one_sentence(module, x, sentence):
    with pytest.raises((InputError, UnsupportedError)) as caught:
        from_module(module, (x,))
    assert str(caught.value) == sentence


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused():
    with pytest.raises(UnsupportedError, match=r"is TorchScript; give the nn\.Module it was made from"):
        from_module(torch.jit.script(nn.Linear(3, 2)), (torch.randn(2, 3),))
