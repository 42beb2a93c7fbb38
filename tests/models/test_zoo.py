"""The reference networks have their published sizes, are deterministic, and export with a dynamic batch."""

import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from picojoule import models
from picojoule.models import catalog, zoo
from picojoule.sim.errors import InputError

LARGE = tuple(e.name for e in catalog.ENTRIES if e.params > 2e6 or e.macs > 2e8)
RUNNABLE = tuple(e.name for e in catalog.ENTRIES if not e.shapes_only)
ALL = [pytest.param(name, marks=pytest.mark.full) if name in LARGE else name for name in RUNNABLE]
IMAGES = tuple(e.name for e in catalog.ENTRIES if len(e.input_shape) == 3)

# Written out here a second time, from the papers and from torchvision's documentation, not taken from the catalogue:
# parameters, MACs, and how many of those multiply two activations. Counted by hand below where no paper states them.
PUBLISHED = {
    "lenet5": (61_706, 416_520, 0),
    "mlp-784-100-10": (79_510, 79_400, 0),
    "dscnn-fashion": (21_434, 1_184_336, 0),  # ours: 16-48-96-128 channels
    "dscnn-fashion-deform": (21_434 + 17 + 49 + 97, 1_184_336 + 196 * 16 + 49 * 48 + 49 * 96, 0),  # and 1x1 to d each
    "mobilenetv2-fashion": (95_850, 4_661_088, 0),  # ours: counted by hand below
    "resnet20": (272_474, 40_813_184, 0),
    "vgg11-cifar": (9_231_114, 152_769_536, 0),
    "vgg8-cifar": (12_973_440, 615_917_568, 0),  # NeuroSim: 6.57 TOPS at 5,331 images/s, 1.232 GOP
    "mobilenet-v1": (4_231_976, 568_740_352, 0),
    "mobilenet-v2": (3_504_872, 300_774_272, 0),
    "shufflenet-v2": (2_278_604, 144_907_992, 0),
    "resnet18": (11_689_512, 1_814_073_344, 0),
    "resnet50": (25_557_032, 4_089_184_256, 0),
    "mobilenet-v3-small": (2_542_856, 56_510_400, 0),  # torchvision: 0.057 G
    "efficientnet-b0": (5_288_548, 385_814_752, 0),  # torchvision: 0.386 G
    "convnext-tiny": (28_589_128, 4_455_531_264, 0),  # torchvision: 4.456 G
    "vit-tiny": (5_717_416, 1_253_683_200, 178_831_872),
    "unet": (31_030_658, 48_096_083_968, 0),
    "yolov3-tiny": (8_852_366, 2_782_480_896, 0),  # darknet: 5.56 G operations
    # ours: stem 16 at 32 x 32, pairs 16-32-64 and two slots 64-64 at 16 x 16, 9 outputs
    "centre-net": (13_897, 147_456 + 36_864 + 131_072 + 73_728 + 524_288 + 2 * (147_456 + 1_048_576) + 147_456, 0),
    # widths that ran on CoDeNet's board: its calls, written out in test_codenet, and the first layer
    "codenet-a": (1_790_195, 292_126_720, 0),
    "codenet-b": (1_790_195, 302_743_552, 0),
    "codenet-c": (1_790_195, 1_168_506_880, 0),
    "codenet-d": (6_372_339, 3_668_770_816, 0),
    "codenet-e": (6_372_339, 3_711_238_144, 0),
    "pointnet": (3_480_049, 448_025_856, 4_203_520),  # paper: 440 M, 3.5 M parameters
    "lstm-tagger": (4_156_645, 100_704_000, 0),
    "bert-base": (109_482_240, 11_174_215_680, 301_989_888),
    "gpt2": (124_439_808, 16_114_089_984, 301_989_888),
    "llama-7b": (6_738_415_616, 850_000_871_424, 4_294_967_296),
}


def shapes_of(name: str) -> nn.Module:
    """Return a network of the zoo without values: any size costs nothing."""
    entry = catalog.find(name)
    with torch.device("meta"):
        return zoo._BUILDERS[name](entry.input_shape, entry.classes).eval()


def count(name: str, batch: int = 1) -> int:
    """Return the MACs of one forward pass as torch's own counter of floating-point operations sees them."""
    module, inputs = shapes_of(name), zoo.example_inputs(name, batch=batch)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*(x.to("meta") for x in inputs))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", catalog.names())
def test_published_parameters_and_macs(name: str) -> None:
    params, macs, dynamic = PUBLISHED[name]
    entry = catalog.find(name)
    assert sum(p.numel() for p in shapes_of(name).parameters()) == params == entry.params
    assert count(name) == macs == entry.macs
    assert count(name, batch=3) == 3 * macs
    assert entry.dynamic_macs == dynamic


def test_networks_are_built_for_evaluation() -> None:
    assert not any(zoo.build(name).training for name in ("lenet5", "llama-7b"))


def test_every_network_has_a_published_row() -> None:
    assert set(PUBLISHED) == set(catalog.names()) == set(models.names())


def test_small_network_counted_by_hand() -> None:
    layers = ((784, 9 * 1, 16), (196, 9, 16), (196, 16, 48), (49, 9, 48), (49, 48, 96), (49, 9, 96), (49, 96, 128))
    macs = sum(pixels * taps * outputs for pixels, taps, outputs in layers) + 128 * 10
    params = sum((taps + 2) * outputs for _, taps, outputs in layers) + 128 * 10 + 10  # + 2: batch norm
    assert (params, macs, 0) == PUBLISHED["dscnn-fashion"]


def test_small_inverted_residuals_counted_by_hand() -> None:
    # (pixels, taps x inputs per group, outputs) of stem, blocks and head
    layers = [(196, 9, 16), (196, 9, 16), (196, 16, 16), (196, 16, 96), (49, 9, 96), (49, 96, 24)]
    for narrow, wide in ((24, 24), (24, 40), (40, 40), (40, 64)):
        layers += [(49, narrow, 6 * narrow), (49, 9, 6 * narrow), (49, 6 * narrow, wide)]
    layers += [(49, 64, 256)]
    macs = sum(pixels * taps * outputs for pixels, taps, outputs in layers) + 256 * 10
    params = sum((taps + 2) * outputs for _, taps, outputs in layers) + 256 * 10 + 10
    assert (params, macs, 0) == PUBLISHED["mobilenetv2-fashion"]


def test_u_net_counted_by_hand() -> None:
    widths, side = (64, 128, 256, 512, 1024), 256
    macs = params = 0

    def conv(inputs: int, outputs: int, kernel: int, pixels: int) -> None:
        nonlocal macs, params
        macs += pixels * outputs * inputs * kernel**2
        params += outputs * (inputs * kernel**2 + 1)

    for level, width in enumerate(widths):
        pixels = (side >> level) ** 2
        conv(widths[level - 1] if level else 1, width, 3, pixels)
        conv(width, width, 3, pixels)
    for level in (3, 2, 1, 0):
        pixels, width = (side >> level) ** 2, widths[level]
        macs += pixels // 4 * 2 * width * width * 4  # transposed 2x2: every input pixel meets the whole filter
        params += 2 * width * width * 4 + width
        conv(2 * width, width, 3, pixels)
        conv(width, width, 3, pixels)
    conv(64, 2, 1, side**2)
    assert (params, macs, 0) == PUBLISHED["unet"]


def test_yolo_counted_from_its_table() -> None:
    # input channels, filters, kernel, output side: yolov3-tiny.cfg at 416, as darknet prints it
    plan = ((3, 16, 3, 416), (16, 32, 3, 208), (32, 64, 3, 104), (64, 128, 3, 52), (128, 256, 3, 26), (256, 512, 3, 13))
    plan += ((512, 1024, 3, 13), (1024, 256, 1, 13), (256, 512, 3, 13), (256, 128, 1, 13), (384, 256, 3, 26))
    heads = ((512, 255, 1, 13), (256, 255, 1, 26))
    macs = sum(c * f * k * k * side**2 for c, f, k, side in (*plan, *heads))
    params = sum(c * f * k * k + 2 * f for c, f, k, _ in plan) + sum(c * f + f for c, f, _, _ in heads)
    assert (params, macs, 0) == PUBLISHED["yolov3-tiny"]
    assert round(2 * macs / 1e9, 2) == 5.56  # the page of darknet


def test_pointnet_counted_by_hand() -> None:
    macs = params = 0

    def layers(sizes: tuple[int, ...], rows: int) -> None:
        nonlocal macs, params
        for a, b in itertools.pairwise(sizes):
            macs += rows * a * b
            params += a * b + 3 * b  # bias, and the affine pair of the batch norm

    for size in (3, 64):
        layers((size, 64, 128, 1024), 1024)
        layers((1024, 512, 256), 1)
        macs += 256 * size**2 + 1024 * size**2  # the matrix, and its product with every point
        params += 257 * size**2
    layers((3, 64, 64), 1024)
    layers((64, 64, 128, 1024), 1024)
    layers((1024, 512, 256), 1)
    assert (params + 257 * 40, macs + 256 * 40, 1024 * (9 + 64**2)) == PUBLISHED["pointnet"]


def test_lstm_tagger_counted_by_hand() -> None:
    macs = params = 0
    for inputs in (100, 600):
        macs += 32 * 2 * 4 * 300 * (inputs + 300)  # words, directions, gates
        params += 2 * 4 * 300 * (inputs + 300 + 2)  # torch keeps two biases
    assert (params + 10_000 * 100 + 601 * 45, macs + 32 * 600 * 45, 0) == PUBLISHED["lstm-tagger"]


@pytest.mark.parametrize(
    ("name", "tokens", "width", "layers", "inner", "outer"),
    [
        # per token and layer, and outside the layers
        ("bert-base", 128, 768, 12, 12 * 768**2, 768**2),  # the pooler reads one token
        ("gpt2", 128, 768, 12, 12 * 768**2, 128 * 768 * 50_257),
        ("gpt2-1024", 1024, 768, 12, 12 * 768**2, 1024 * 768 * 50_257),
        ("llama-7b", 128, 4096, 32, 4 * 4096**2 + 3 * 4096 * 11_008, 128 * 4096 * 32_000),
        ("vit-tiny", 197, 192, 12, 12 * 192**2, 196 * 3 * 16**2 * 192 + 192 * 1000),
    ],
)
def test_transformers_counted_by_hand(name, tokens, width, layers, inner, outer) -> None:
    products = layers * 2 * tokens**2 * width  # scores and mix, the masked half included
    macs = layers * tokens * inner + outer + products
    if name == "gpt2-1024":
        module = shapes_of("gpt2")
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, tokens, dtype=torch.int64, device="meta"))
        assert counter.get_total_flops() // 2 == macs
    else:
        assert (macs, products) == PUBLISHED[name][1:]


def test_vocabularies_are_those_of_the_embeddings() -> None:
    for entry in catalog.ENTRIES:
        tables = [p.num_embeddings for p in shapes_of(entry.name).modules() if isinstance(p, nn.Embedding)]
        assert (max(tables) if tables else None) == entry.vocabulary


def test_a_network_of_shapes_only_allocates_nothing() -> None:
    module, inputs = zoo.build("llama-7b"), zoo.example_inputs("llama-7b")
    assert all(t.is_meta for t in (*module.parameters(), *module.buffers(), *inputs))
    assert module(*inputs).shape == (2, 128, 32_000)


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


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm")  # torch's own LSTM, about itself
@pytest.mark.parametrize("name", ALL)
def test_exports_with_a_dynamic_batch(name: str) -> None:
    module = zoo.build(name)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(module, zoo.example_inputs(name), dynamic_shapes=({0: batch},), strict=False)
    other = zoo.example_inputs(name, batch=3, seed=1)
    with torch.no_grad():
        expected = module(*other)
        torch.testing.assert_close(program.module()(*other), expected, rtol=1e-4, atol=1e-5)
    for y in expected if isinstance(expected, tuple) else (expected,):
        assert y.shape[0] == 3
        assert torch.isfinite(y).all()


@pytest.mark.parametrize("name", [name for name in IMAGES if catalog.find(name).min_size <= 28])
def test_built_for_fashion_images_and_other_classes(name: str) -> None:
    size = 16 if catalog.find(name).size_step == 16 else 28
    module = zoo.build(name, input_shape=(1, size, size), classes=7)
    (x,) = zoo.example_inputs(name, input_shape=(1, size, size), batch=2)
    with torch.no_grad():
        made = module(x)
    scores = made[0] if isinstance(made, tuple) else made  # a detector: its heat map first
    assert scores.shape[:2] == (2, 7)


def test_non_square_and_coloured_inputs_reach_flattened_layers() -> None:
    for name in ("lenet5", "mlp-784-100-10", "vgg11-cifar", "vgg8-cifar"):
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
    for name in IMAGES:
        least = catalog.find(name).min_size
        with torch.no_grad():
            zoo.build(name, input_shape=(1, least, least), classes=2)(
                *zoo.example_inputs(name, input_shape=(1, least, least))
            )
        with pytest.raises(InputError, match=f"height and width must be between {least} and"):
            zoo.build(name, input_shape=(1, least, least - 1))


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
            {"name": "pointnet", "input_shape": (3,)},
            r"pointnet: input_shape must be \(channels, points\) of one sample",
        ),
        ({"name": "pointnet", "input_shape": (3, 0)}, r"pointnet: points must be between 1 and 65536, got \(3, 0\)"),
        (
            {"name": "unet", "input_shape": (1, 32, 40)},
            r"unet: height and width must be a multiple of 16, got \(1, 32, 40\)",
        ),
        ({"name": "gpt2", "classes": 2}, r"gpt2: it predicts tokens of its vocabulary and takes no classes, got 2"),
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
