"""DeformConv2d: how it starts, its forms, its gradients; one layer in every importer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import picojoule as pj
from picojoule.sim.attributes import DeformConvAttributes, Op
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.deform_op import deform_conv2d
from picojoule.sim.offsets import sampling_of

FORMS = [
    {"form": "free"},
    {"form": "free", "rounded": True, "offset_groups": 2},
    {"form": "bound", "bound": 2.0},
    {"form": "bound", "bound": 7, "rounded": True},
    {"form": "square"},
    {"form": "square", "bound": 3, "rounded": True},
    {"form": "fixed"},
]


def moved(module, std=1.0):
    """Return the module with offsets that are not zero."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, DeformConv2d):
            for made in (part.offset_conv, part.mask_conv):
                if made is not None:
                    nn.init.normal_(made.weight, std=std)
    return module.eval()


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("offset_kernel", [1, 3])
def test_it_starts_as_the_ordinary_convolution_bit_for_bit(form, groups, offset_kernel):
    x = torch.randn(2, 4, 7, 8)
    for stride, padding, dilation in ((1, 1, 1), (2, 1, 1), (1, 2, 2), ((2, 1), (0, 1), 1)):
        module = DeformConv2d(4, 4, 3, stride, padding, dilation, groups, offset_kernel=offset_kernel, **form)
        assert torch.equal(module(x), F.conv2d(x, module.weight, module.bias, stride, padding, dilation, groups))


def test_a_modulated_one_starts_as_the_ordinary_convolution():
    x, module = torch.randn(2, 4, 7, 8), DeformConv2d(4, 6, modulated=True)
    torch.testing.assert_close(module(x), F.conv2d(x, module.weight, module.bias, padding=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_square_of_d_is_the_convolution_dilated_by_d(dilation):
    x = torch.randn(2, 4, 12, 12)
    module = DeformConv2d(4, 4, 3, padding=dilation, dilation=dilation, groups=4, form="square", rounded=True)
    for d in (0, 1, 2, 3):
        nn.init.constant_(module.offset_conv.bias, d + 0.3)
        y = module(x)
        if d:
            plain = F.conv2d(x, module.weight, module.bias, 1, d * dilation, d * dilation, 4)
            torch.testing.assert_close(y, plain, atol=1e-5, rtol=1e-5)
        else:  # all nine taps read the pixel itself
            torch.testing.assert_close(y, x * module.weight.sum((1, 2, 3)).view(-1, 1, 1) + module.bias.view(-1, 1, 1))


def test_offsets_are_clipped_and_rounded_half_to_even():
    module = DeformConv2d(1, 1, form="bound", bound=3, rounded=True)
    nn.init.constant_(module.offset_conv.weight, 1.0)
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, 9.0, -9.0]).view(1, 1, 1, 6)
    assert module.offsets(x)[0, 0, 0].tolist() == [0, 2, 2, 0, 3, -3]


@pytest.mark.parametrize(
    ("form", "bound", "expected"),
    [("bound", 1.5, [-1, -1, 0, 1, 1]), ("free", 2.6, [-2, -1, 0, 1, 2]), ("square", 1.7, [0, 0, 0, 1, 1])],
)
def test_whole_offsets_stay_within_a_fractional_bound(form, bound, expected):
    """1.5 would be rounded to 2, farther than asked for."""
    module = DeformConv2d(1, 1, form=form, bound=bound, rounded=True)
    nn.init.constant_(module.offset_conv.weight, 1.0)
    nn.init.zeros_(module.offset_conv.bias)
    found = module.offsets(torch.tensor([-9.0, -1.2, 0.2, 1.4, 9.0]).view(1, 1, 1, 5))[0, -1, 0]
    assert (found + (form == "square")).tolist() == expected
    network = pj.trace(module.eval(), torch.zeros(1, 1, 4, 4))
    (layer,) = deform_layers(network)
    sampling = sampling_of(network, layer)
    assert sampling.high == int(bound)


def test_gradients_pass_through_rounding_and_stop_where_offsets_are_clipped():
    x = torch.tensor([0.4, 5.0]).view(1, 1, 1, 2).requires_grad_()
    module = DeformConv2d(1, 1, form="bound", bound=3, rounded=True)
    nn.init.constant_(module.offset_conv.weight, 1.0)
    module.offsets(x).sum().backward()
    assert x.grad.flatten().tolist() == [18.0, 0.0]


@pytest.mark.parametrize("form", [f for f in FORMS if f["form"] != "fixed"], ids=str)
def test_training_moves_the_offsets(form):
    torch.manual_seed(0)
    module, x = DeformConv2d(4, 4, **form), torch.randn(4, 4, 9, 9)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    losses = []
    for _ in range(25):
        loss = (module(x) - x.roll(1, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert module.offset_conv.weight.abs().max() > 1e-3


class Net(nn.Module):
    def __init__(self, **form):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.deform = DeformConv2d(4, 4, **form)

    def forward(self, x):
        return self.deform(self.stem(x)).relu()


class Branching(Net):
    def forward(self, x):
        return super().forward(x + 1 if float(x.detach().sum()) > 1e9 else x)


SOME = [
    {"form": "square", "bound": 3, "rounded": True, "groups": 4},
    {"modulated": True, "offset_groups": 2, "padding": 2, "dilation": 2, "bias": False},
    {"form": "fixed", "stride": 2},
]


def deform_layers(network):
    return [layer for layer in network.layers if layer.op is Op.DEFORM_CONV]


@pytest.mark.parametrize("form", SOME, ids=str)
@pytest.mark.parametrize("kind", [Net, Branching])
def test_it_is_one_layer_by_export_and_by_recording(form, kind):
    module, x = moved(kind(**form)), torch.randn(2, 3, 8, 9)
    network = pj.trace(module, x)
    assert any("recorded" in note for note in network.notes) == (kind is Branching)
    (layer,) = deform_layers(network)
    own, a = module.deform, layer.attributes
    assert not network.unsupported
    assert layer.name == "deform"
    assert a == DeformConvAttributes(
        stride=own.stride, padding_begin=own.padding, padding_end=own.padding, dilation=own.dilation, groups=own.groups,
        offset_groups=own.offset_groups, has_mask=own.modulated, has_bias=own.bias is not None,
    )  # fmt: skip
    assert torch.equal(torch.as_tensor(pj.run(network, x)), module(x).detach())


def test_uneven_padding_stays_uneven():
    class Uneven(nn.Module):
        def forward(self, x):
            return deform_conv2d(
                x,
                x.new_ones(1, 2, 2, 2),
                x.new_full((len(x), 8, 6, 5), 0.5),
                None,
                None,
                (1, 1),
                (0, 1, 2, 0),
                (1, 1),
                1,
                1,
            )

    x = torch.randn(2, 2, 5, 5)
    network = pj.trace(Uneven().eval(), x)
    assert deform_layers(network)[0].attributes.padding_end == (2, 0)
    assert torch.equal(torch.as_tensor(pj.run(network, x)), Uneven()(x))


@pytest.mark.parametrize("form", SOME, ids=str)
def test_a_pt2_file_holds_it_as_one_layer_for_any_batch(form, tmp_path):
    module, x = moved(Net(**form)), torch.randn(2, 3, 8, 9)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
    torch.export.save(program, tmp_path / "net.pt2")
    network = pj.load(tmp_path / "net.pt2")
    assert len(deform_layers(network)) == 1
    wide = torch.randn(5, 3, 8, 9)
    torch.testing.assert_close(torch.as_tensor(pj.run(network, wide)), module(wide).detach())


@pytest.mark.full
def test_a_pt2_file_is_read_where_nothing_has_registered_the_operator(tmp_path):
    import subprocess
    import sys

    program = torch.export.export(Net(), (torch.randn(2, 3, 8, 9),), strict=False)
    torch.export.save(program, tmp_path / "net.pt2")
    code = f"import picojoule as pj; print([str(y.op) for y in pj.load({str(tmp_path / 'net.pt2')!r}).layers])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "deform_conv" in done.stdout


def test_a_pt2_file_calls_no_other_operator_of_ours(tmp_path):
    from picojoule.sim.numerics.pt2_checks import _TARGET

    assert _TARGET.fullmatch("torch.ops.picojoule.deform_conv2d.default")
    assert not _TARGET.fullmatch("torch.ops.picojoule.deform_conv2d_backward.default")


def test_torchvisions_operator_is_the_same_layer():
    library = torch.library.Library("torchvision", "DEF")
    numbers = ", ".join(f"SymInt {n}_{a}" for n in ("stride", "pad", "dilation") for a in "hw")
    try:
        library.define(
            "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
            f"{numbers}, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor"
        )

        def kernel(x, weight, offset, mask, bias, sh, sw, ph, pw, dh, dw, groups, offset_groups, use_mask):
            chosen = mask if use_mask else None
            return deform_conv2d(
                x, weight, offset, chosen, bias, (sh, sw), (ph, pw, ph, pw), (dh, dw), groups, offset_groups
            )

        library.impl("deform_conv2d", kernel, "CompositeExplicitAutograd")
        library.impl("deform_conv2d", lambda x, w, o, *_: x.new_empty(x.shape[0], w.shape[0], *o.shape[2:]), "Meta")

        class Theirs(nn.Module):
            def __init__(self):
                super().__init__()
                self.offset = nn.Conv2d(3, 18, 3, 2, 1)
                self.weight, self.bias = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4))

            def forward(self, x):
                nothing = torch.zeros(len(x), 0)
                return torch.ops.torchvision.deform_conv2d(
                    x, self.weight, self.offset(x), nothing, self.bias, 2, 2, 1, 1, 1, 1, 1, 1, False
                )

        module, x = Theirs().eval(), torch.randn(2, 3, 8, 9)
        network = pj.trace(module, x)
        (layer,) = deform_layers(network)
        assert (layer.attributes.stride, layer.attributes.padding_end, layer.attributes.has_bias) == (
            (2, 2),
            (1, 1),
            True,
        )
        torch.testing.assert_close(torch.as_tensor(pj.run(network, x)), module(x).detach())
    finally:
        library._destroy()


def test_it_exports_with_an_open_batch_and_map():
    module, x = moved(DeformConv2d(4, 4, modulated=True)), torch.randn(3, 4, 8, 9)
    dynamic = {"x": {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}}
    exported = torch.export.export(module, (x,), dynamic_shapes=dynamic).module()
    for shape in ((3, 4, 8, 9), (5, 4, 6, 17)):
        given = torch.randn(shape)
        torch.testing.assert_close(exported(given), module(given))
