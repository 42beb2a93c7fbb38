"""The detector: shapes, what variants share, and that it can be traced and named."""

import pytest
import torch

from picojoule.models.centre_net import (
    SAMPLING_VARIANTS,
    VARIANTS,
    build,
    centre_net,
    detector,
    example_inputs,
)
from picojoule.sim.attributes import Op
from picojoule.sim.errors import InputError
from picojoule.sim.numerics.deform_module import DeformConv2d
from picojoule.sim.numerics.torch_importer import from_module
from picojoule.sim.offsets import OffsetForm, sampling_of

FORMS = {
    "deform_free": (OffsetForm.FREE, False),
    "deform_bound": (OffsetForm.BOUND, False),
    "square_round": (OffsetForm.SQUARE, True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_maps_have_a_quarter_of_the_size(variant):
    heat, size, offset = build(variant, width=0.5)(*example_inputs(batch=2))
    assert (heat.shape, size.shape, offset.shape) == ((2, 5, 16, 16), (2, 2, 16, 16), (2, 2, 16, 16))


@pytest.mark.parametrize("variant", sorted(SAMPLING_VARIANTS))
def test_deformable_variants_start_as_the_depthwise_one(variant):
    x = example_inputs(batch=2)
    plain, deformable = build("depthwise", seed=5), build(variant, seed=5)
    for a, b in zip(plain(*x), deformable(*x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_variants_share_the_weights_that_they_have_in_common():
    made = [build(v, seed=1).state_dict() for v in VARIANTS]
    for name in ("body.0.0.weight", "heat.weight", "offset.weight"):
        assert all(torch.equal(made[0][name], other[name]) for other in made)
    again = build("conv3", seed=1).state_dict()
    assert all(torch.equal(made[0][name], value) for name, value in again.items())
    assert not torch.equal(made[0]["body.0.0.weight"], build(seed=2).state_dict()["body.0.0.weight"])


@pytest.mark.parametrize("variant", ["deform_free", "deform_bound", "square_round"])
def test_graph_says_how_offsets_come_about(variant):
    network = from_module(build(variant, width=0.5, bound=3), example_inputs())
    layers = [layer for layer in network.layers if layer.op is Op.DEFORM_CONV]
    assert len(layers) == 2
    for layer in layers:
        sampling = sampling_of(network, layer)
        assert (sampling.form, sampling.rounded) == FORMS[variant]
        assert sampling.reach((3, 3), (1, 1)) == (None if variant == "deform_free" else 3)


def test_width_scales_channels_and_depthwise_has_fewest_weights():
    counts = {v: sum(p.numel() for p in build(v).parameters()) for v in VARIANTS}
    assert counts["conv3"] > 2 * counts["depthwise"]
    assert counts["depthwise"] < counts["deform_square"] < counts["deform_free"]
    assert build(width=0.5).heat.in_channels == 32
    assert build(width=0.3).heat.in_channels == 16


def test_only_deformable_variants_hold_deformable_layers():
    held = {v for v in VARIANTS if any(isinstance(m, DeformConv2d) for m in build(v).modules())}
    assert held == SAMPLING_VARIANTS


def test_fine_tuned_variants_have_the_modules_of_the_form_before():
    for variant in VARIANTS:
        if variant.endswith("_w4a8"):
            mine, base = (build(v, width=0.5).state_dict() for v in (variant, variant.removesuffix("_w4a8")))
            assert all(torch.equal(base[name], value) for name, value in mine.items()) and mine.keys() == base.keys()


def test_named_forms_build_the_same_network():
    module, inputs = detector(variant="conv5", width=0.5, seed=4)
    assert torch.equal(module(*inputs)[0], build("conv5", width=0.5, seed=4)(*inputs)[0])
    zoo = centre_net((3, 64, 64), 7, variant="conv5", width=0.5)
    assert zoo(torch.zeros(1, 3, 64, 64))[0].shape == (1, 7, 16, 16)


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build("deform_free")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"variant": "conv7"}, "unknown variant of centre-net 'conv7'"),
        ({"width": 0.0}, "width must be between 0.25 and 4.0, got 0.0"),
        ({"bound": 1}, "bound must be between 2 and 16 cells, got 1"),
        ({"bound": float("nan")}, "bound must be between 2 and 16 cells, got nan"),
    ],
)
def test_bad_arguments_are_named(given, sentence):
    with pytest.raises(InputError, match=sentence):
        build(**given)
