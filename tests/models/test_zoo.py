"""The reference networks have their published sizes, are deterministic, and export with a dynamic batch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from picojoule import models
from picojoule.models import catalog, zoo
from picojoule.sim.errors import InputError

LARGE = ("mobilenet-v1", "mobilenet-v2", "shufflenet-v2", "resnet18", "resnet50", "bert-base")
SMALL = tuple(name for name in catalog.names() if name not in LARGE)
ALL = [*SMALL, *(pytest.param(name, marks=pytest.mark.full) for name in LARGE)]
SLOW_COUNTS = ("resnet50", "bert-base")
COUNTED = [pytest.param(name, marks=pytest.mark.full) if name in SLOW_COUNTS else name for name in catalog.names()]

# Written out here a second time, from the papers and from torchvision's documentation, not taken from the catalogue.
PUBLISHED = {
    "lenet5": (61_706, 416_520),
    "mlp-784-100-10": (79_510, 79_400),
    "dscnn-fashion": (21_434, 1_184_336),  # ours: 16-48-96-128 channels, counted by hand below
    "resnet20": (272_474, 40_813_184),
    "vgg11-cifar": (9_231_114, 152_769_536),
    "mobilenet-v1": (4_231_976, 568_740_352),
    "mobilenet-v2": (3_504_872, 300_774_272),
    "shufflenet-v2": (2_278_604, 144_907_992),
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet50": (25_557_032, 4_089_184_256),
    "bert-base": (109_482_240, 10_872_225_792),  # linear layers; attention's own products are tested apart
}


def count(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> int:
    """MACs of convolutions and linear layers in one forward pass, from the shapes that really flow."""
    total = 0

    def hook(part: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(part, nn.Conv2d | nn.Linear)
        total += out.numel() * (part.weight[0].numel() if isinstance(part, nn.Conv2d) else part.in_features)

    handles = [part.register_forward_hook(hook) for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        module(*inputs)
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("name", COUNTED)
def test_published_parameters_and_macs(name: str) -> None:
    module = zoo.build(name)
    params, macs = PUBLISHED[name]
    entry = catalog.find(name)
    assert sum(p.numel() for p in module.parameters()) == params == entry.params
    assert count(module, zoo.example_inputs(name, batch=1)) == macs == entry.macs - entry.dynamic_macs
    assert not module.training


def test_every_network_has_a_published_row() -> None:
    assert set(PUBLISHED) == set(catalog.names()) == set(models.names())


def test_small_network_counted_by_hand() -> None:
    layers = ((784, 9 * 1, 16), (196, 9, 16), (196, 16, 48), (49, 9, 48), (49, 48, 96), (49, 9, 96), (49, 96, 128))
    macs = sum(pixels * taps * outputs for pixels, taps, outputs in layers) + 128 * 10
    params = sum((taps + 2) * outputs for _, taps, outputs in layers) + 128 * 10 + 10  # + 2: batch norm
    assert (params, macs) == PUBLISHED["dscnn-fashion"]


def test_resnet20_without_projections_would_be_option_a() -> None:
    module = zoo.build("resnet20")
    shortcuts = [part for key, part in module.named_modules() if "downsample" in key and isinstance(part, nn.Conv2d)]
    assert [tuple(part.weight.shape) for part in shortcuts] == [(32, 16, 1, 1), (64, 32, 1, 1)]
    option_a = 40_813_184 - sum(part.weight.numel() * pixels for part, pixels in zip(shortcuts, (256, 64), strict=True))
    assert option_a == 40_551_040


def test_resnet50_strides_on_the_3x3() -> None:
    with_stride = [
        key
        for key, part in zoo.build("resnet50").named_modules()
        if isinstance(part, nn.Conv2d) and part.stride[0] == 2
    ]
    assert with_stride == ["conv1"] + [
        f"layer{stage}.0.{part}" for stage in (2, 3, 4) for part in ("conv2", "downsample.0")
    ]


def test_attention_products_of_the_encoder() -> None:
    layers, heads, tokens, size = 12, 12, 128, 64
    scores_and_mix = 2 * heads * tokens * tokens * size
    assert catalog.find("bert-base").dynamic_macs == layers * scores_and_mix


@pytest.mark.parametrize("name", ALL)
def test_exports_with_a_dynamic_batch(name: str) -> None:
    module = zoo.build(name)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(module, zoo.example_inputs(name), dynamic_shapes=({0: batch},), strict=False)
    other = zoo.example_inputs(name, batch=3, seed=1)
    with torch.no_grad():
        expected = module(*other)
        torch.testing.assert_close(program.module()(*other), expected, rtol=1e-4, atol=1e-5)
    assert expected.shape[0] == 3
    assert torch.isfinite(expected).all()


@pytest.mark.parametrize("name", [name for name in catalog.names() if name not in ("bert-base", "vgg11-cifar")])
def test_built_for_fashion_images_and_other_classes(name: str) -> None:
    module = zoo.build(name, input_shape=(1, 28, 28), classes=7)
    (x,) = zoo.example_inputs(name, input_shape=(1, 28, 28), batch=2)
    with torch.no_grad():
        assert module(x).shape == (2, 7)


def test_non_square_and_coloured_inputs_reach_flattened_layers() -> None:
    for name in ("lenet5", "mlp-784-100-10", "vgg11-cifar"):
        shape = (3, 32, 64)
        with torch.no_grad():
            y = zoo.build(name, input_shape=shape, classes=4)(*zoo.example_inputs(name, input_shape=shape, batch=1))
        assert y.shape == (1, 4)


@pytest.mark.full
def test_encoder_with_a_classifier() -> None:
    module = zoo.build("bert-base", input_shape=(16,), classes=3)
    with torch.no_grad():
        assert module(*zoo.example_inputs("bert-base", input_shape=(16,))).shape == (2, 3)


def test_smallest_sizes_run_and_smaller_ones_are_refused() -> None:
    for entry in catalog.ENTRIES:
        if entry.name == "bert-base":
            continue
        shape = (1, entry.min_size, entry.min_size)
        with torch.no_grad():
            zoo.build(entry.name, input_shape=shape, classes=2)(*zoo.example_inputs(entry.name, input_shape=shape))
        with pytest.raises(InputError, match=f"height and width must be between {entry.min_size} and"):
            zoo.build(entry.name, input_shape=(1, entry.min_size, entry.min_size - 1))


def test_weights_depend_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first = zoo.build("resnet20", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = zoo.build("resnet20", seed=3), zoo.build("resnet20", seed=4)
    for (key, a), b in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert not torch.equal(first.conv1.weight, other.conv1.weight)  # type: ignore[arg-type]
    assert torch.equal(*(zoo.example_inputs("resnet20", seed=1)[0] for _ in range(2)))


def test_random_weights_keep_activations_alive() -> None:
    (x,) = zoo.example_inputs("mobilenet-v1", input_shape=(3, 64, 64))
    with torch.no_grad():
        features = zoo.build("mobilenet-v1").get_submodule("features")(x)
    assert 0.05 < features.std() < 50


def test_torchvision_names() -> None:
    expected = {
        "resnet18": (
            "conv1.weight",
            "bn1.running_mean",
            "layer2.0.downsample.1.bias",
            "layer4.1.conv2.weight",
            "fc.bias",
        ),
        "mobilenet-v2": (
            "features.0.0.weight",
            "features.1.conv.0.0.weight",
            "features.18.1.weight",
            "classifier.1.bias",
        ),
        "shufflenet-v2": ("conv1.0.weight", "stage2.0.branch1.4.weight", "stage4.3.branch2.6.bias", "conv5.1.weight"),
    }
    # branch1.4 is an activation in torchvision too and has no weights
    for name, keys in expected.items():
        state = zoo.build(name).state_dict()
        for key in keys:
            assert (key in state) == (key != "stage2.0.branch1.4.weight"), key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "resnet21"},
            r"unknown network 'resnet21'; did you mean 'resnet20'\? \(choose from 'bert-base', ",
        ),
        (
            {"name": "lenet5", "input_shape": (28, 28)},
            r"lenet5: input_shape must be \(channels, height, width\) of ",
        ),
        (
            {"name": "bert-base", "input_shape": (1, 28, 28)},
            r"bert-base: input_shape must be \(tokens,\) of one",
        ),
        ({"name": "bert-base", "input_shape": (513,)}, r"bert-base: tokens must be between 1 and 512, got \(513,\)"),
        (
            {"name": "resnet18", "input_shape": (0, 32, 32)},
            r"resnet18: input channels must be between 1 and 1024, got",
        ),
        ({"name": "resnet18", "input_shape": (3, 10**6, 32)}, r"height and width must be between 1 and 2048, got"),
        ({"name": "resnet18", "input_shape": (3, 32.5, 32)}, r"resnet18: input_shape must hold whole numbers, got"),
        ({"name": "lenet5", "classes": 0}, r"lenet5: classes must be a whole number between 1 and 100000, got 0"),
        ({"name": "lenet5", "seed": -1}, r"seed must be a whole number between 0 and 2\*\*63 - 1, got -1"),
    ],
)
def test_bad_requests_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        zoo.build(**arguments)  # type: ignore[arg-type]


def test_bad_batch_is_refused() -> None:
    with pytest.raises(InputError, match="lenet5: batch must be a whole number of at least 1, got 0"):
        zoo.example_inputs("lenet5", batch=0)


def test_catalogue_and_data_need_no_torch() -> None:
    program = (
        "import sys, json; import picojoule.models as m; json.dumps(m.describe()); m.names(); m.load_data('digits'); "
        "dir(m); assert 'torch' not in sys.modules and 'PIL' not in sys.modules; m.build('lenet5')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_unknown_attribute_of_the_room() -> None:
    with pytest.raises(AttributeError, match=r"module 'picojoule.models' has no attribute 'zoooo'"):
        models.zoooo  # noqa: B018
