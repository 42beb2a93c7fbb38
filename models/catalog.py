"""The table of reference networks: what each is, and the parameter and MAC counts published for it.

Needs no torch, so that listing networks costs nothing; `zoo` builds them. Counts are for the default input and classes
at batch 1. `params` counts trainable parameters with biases and the affine pairs of batch and layer norms, not running
statistics. `macs` counts multiply-accumulates of convolutions, linear layers and products of two activations, without
biases, norms, pooling and residual additions; `dynamic_macs` is the part of them that multiplies two activations.
"""

from dataclasses import asdict, dataclass
from typing import Any

from picojoule.sim.errors import InputError, unknown_choice

MAX_CHANNELS = 1024  # a bound against typing errors, not a property of the networks
MAX_CLASSES = 100_000
_LANGUAGE_MODELS = frozenset({"gpt2", "llama-7b"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One reference network.

    `input_shape` is one sample: (channels, height, width), (channels, points), or (tokens,). `classes` is None where
    the network ends in features, or in its vocabulary, instead of a classifier. Heights and widths (or points, or
    tokens) must lie within `min_size` and `max_size` and be multiples of `size_step`. Tokens are whole numbers below
    `vocabulary`, which is None for inputs of real numbers. `shapes_only` marks a network too large to hold in memory:
    it is built without values, to be priced and not to be run.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int | None
    params: int
    macs: int
    dynamic_macs: int = 0
    min_size: int
    max_size: int
    size_step: int = 1
    vocabulary: int | None = None
    shapes_only: bool = False
    source: str


ENTRIES = (
    Entry(
        name="lenet5",
        input_shape=(1, 28, 28),
        classes=10,
        params=61_706,
        macs=416_520,
        min_size=12,  # 12 -> pool 6 -> unpadded 5x5: 2 -> pool 1
        max_size=512,
        source="LeCun et al. 1998, section II.B, as commonly re-implemented: first convolution padded by 2 so that "
        "28x28 needs no border, full connections between the convolutions, ReLU, max pooling (61,706 "
        "parameters)",
    ),
    Entry(
        name="mlp-784-100-10",
        input_shape=(1, 28, 28),
        classes=10,
        params=79_510,
        macs=79_400,
        min_size=1,
        max_size=512,
        source="784-100-10 perceptron with ReLU used by bit-slice sparsity papers on MNIST; counts follow from its "
        "shape",
    ),
    Entry(
        name="dscnn-fashion",
        input_shape=(1, 28, 28),
        classes=10,
        params=21_434,
        macs=1_184_336,
        min_size=4,  # two poolings by 2
        max_size=2048,
        source="our own small depthwise-separable network for 28x28 grey images, made for the demo; counts measured",
    ),
    Entry(
        name="dscnn-fashion-deform",
        input_shape=(1, 28, 28),
        classes=10,
        params=21_597,
        macs=1_194_528,
        min_size=4,  # two poolings by 2
        max_size=2048,
        source="dscnn-fashion with deformable depthwise convolutions in CoDeNet's form (square, bounded by 3, rounded)",
    ),
    Entry(
        name="mobilenetv2-fashion",
        input_shape=(1, 28, 28),
        classes=10,
        params=95_850,
        macs=4_661_088,
        min_size=1,
        max_size=2048,
        source="Sandler et al. 2018's inverted residuals (16, then with expansion 6: 24, 24, 40, 40, 64 channels) made small by "
        "us for 28x28 grey images and the Hamming study; counts follow from its shape",
    ),
    Entry(
        name="resnet20",
        input_shape=(3, 32, 32),
        classes=10,
        params=272_474,
        macs=40_813_184,
        min_size=1,
        max_size=2048,
        source="He et al. 2016, section 4.2 (0.27 M parameters), with 1x1 projection shortcuts (their option B): "
        "40.81 M MACs; the zero-padded shortcuts (option A) would give 40.55 M MACs and 269,722 parameters",
    ),
    Entry(
        name="vgg11-cifar",
        input_shape=(3, 32, 32),
        classes=10,
        params=9_231_114,
        macs=152_769_536,
        min_size=32,  # five poolings by 2
        max_size=2048,
        source="Simonyan and Zisserman 2015, configuration A, with batch norm and one linear layer as usual for "
        "CIFAR-10 (9.23 M parameters; the convolutions keep their biases)",
    ),
    Entry(
        name="vgg8-cifar",
        input_shape=(3, 32, 32),
        classes=10,
        params=12_973_440,
        macs=615_917_568,
        min_size=8,  # three poolings by 2
        max_size=512,
        source="the network that DNN+NeuroSim ships and benchmarks (its models/VGG.py, vgg8): 128, 128, 256, 256, 512, 512 "
        "channels, linear layers of 1024 and 10, no biases; counts follow from its shape (NeuroSim: 1.232 GOP, two a MAC)",
    ),
    Entry(
        name="mobilenet-v1",
        input_shape=(3, 224, 224),
        classes=1000,
        params=4_231_976,
        macs=568_740_352,
        min_size=1,
        max_size=2048,
        source="Howard et al. 2017, table 8: 1.0 MobileNet-224, 569 M multiply-adds, 4.2 M parameters",
    ),
    Entry(
        name="mobilenet-v2",
        input_shape=(3, 224, 224),
        classes=1000,
        params=3_504_872,
        macs=300_774_272,
        min_size=1,
        max_size=2048,
        source="Sandler et al. 2018, table 4: 300 M multiply-adds; 3,504,872 parameters as in torchvision, whose "
        "weights fit",
    ),
    Entry(
        name="shufflenet-v2",
        input_shape=(3, 224, 224),
        classes=1000,
        params=2_278_604,
        macs=144_907_992,
        min_size=1,
        max_size=2048,
        source="Ma et al. 2018, table 5, 1x width: 146 M FLOPs (their multiply-adds); 2,278,604 parameters as in "
        "torchvision, whose weights fit",
    ),
    Entry(
        name="resnet18",
        input_shape=(3, 224, 224),
        classes=1000,
        params=11_689_512,
        macs=1_814_073_344,
        min_size=1,
        max_size=2048,
        source="He et al. 2016, table 1: 1.8 G multiply-adds; 11,689,512 parameters as in torchvision, whose "
        "weights fit",
    ),
    Entry(
        name="resnet50",
        input_shape=(3, 224, 224),
        classes=1000,
        params=25_557_032,
        macs=4_089_184_256,
        min_size=1,
        max_size=2048,
        source="He et al. 2016, table 1, with the stride on the 3x3 convolution (version 1.5, as in torchvision, "
        "whose weights fit): 4089.18 M MACs; the paper's stride on the first 1x1 would give 3857.97 M",
    ),
    Entry(
        name="mobilenet-v3-small",
        input_shape=(3, 224, 224),
        classes=1000,
        params=2_542_856,
        macs=56_510_400,
        min_size=1,
        max_size=2048,
        source="Howard et al. 2019, table 3: 56 M multiply-adds, 2.5 M parameters; 2,542,856 as in torchvision, whose "
        "weights fit",
    ),
    Entry(
        name="efficientnet-b0",
        input_shape=(3, 224, 224),
        classes=1000,
        params=5_288_548,
        macs=385_814_752,
        min_size=1,
        max_size=2048,
        source="Tan and Le 2019, table 2: 0.39 G FLOPs (their multiply-adds), 5.3 M parameters; 5,288,548 as in "
        "torchvision, whose weights fit",
    ),
    Entry(
        name="convnext-tiny",
        input_shape=(3, 224, 224),
        classes=1000,
        params=28_589_128,
        macs=4_455_531_264,
        min_size=32,  # a 4x4 stem and three halvings
        max_size=2048,
        source="Liu et al. 2022, table 1: 4.5 G FLOPs (their multiply-adds), 29 M parameters; 28,589,128 as in "
        "torchvision, whose weights fit",
    ),
    Entry(
        name="vit-tiny",
        input_shape=(3, 224, 224),
        classes=1000,
        params=5_717_416,
        macs=1_253_683_200,
        dynamic_macs=178_831_872,
        min_size=16,
        max_size=2048,
        size_step=16,
        source="Touvron et al. 2021, table 1: DeiT-Ti, 12 layers x 192, 3 heads, patches of 16, 5 M parameters "
        "(5,717,416)",
    ),
    Entry(
        name="unet",
        input_shape=(1, 256, 256),
        classes=2,
        params=31_030_658,
        macs=48_096_083_968,
        min_size=16,  # four halvings
        max_size=2048,
        size_step=16,
        source="Ronneberger et al. 2015, figure 1, with padded convolutions; 31.03 M parameters and MACs follow from its "
        "widths",
    ),
    Entry(
        name="yolov3-tiny",
        input_shape=(3, 416, 416),
        classes=80,
        params=8_852_366,
        macs=2_782_480_896,
        min_size=32,
        max_size=2048,
        size_step=32,
        source="Redmon and Farhadi 2018, yolov3-tiny.cfg: 5.56 G operations (two a multiply-add) as darknet's page "
        "gives; 8.85 M parameters",
    ),
    Entry(
        name="centre-net",
        input_shape=(1, 64, 64),
        classes=5,
        params=13_897,
        macs=3_452_928,
        min_size=8,
        max_size=2048,
        size_step=4,
        source="our own small detector of center points (after CenterNet, Zhou et al. 2019) for scenes of Fashion-MNIST "
        "items, with an ordinary or deformable operator to choose (network.variant, width, bound); counts measured",
    ),
    Entry(
        name="codenet-a",
        input_shape=(3, 256, 256),
        classes=80,
        params=1_790_195,
        macs=292_126_720,
        min_size=32,  # a quarter, three halvings
        max_size=2048,
        size_step=32,
        source="Huang et al. 2021, table 3, configuration a (stride 4): 0.29 G MACs and 6.06 MB of "
        "float weights in the widths it was trained in; here the widths that ran on the board (`codenet` explains both)",
    ),
    Entry(
        name="codenet-b",
        input_shape=(3, 256, 256),
        classes=80,
        params=1_790_195,
        macs=302_743_552,
        min_size=32,  # a quarter, three halvings
        max_size=2048,
        size_step=32,
        source="Huang et al. 2021, table 3, configuration b (stride 2, max pooling): 0.29 G MACs and 6.06 MB of "
        "float weights in the widths it was trained in; here the widths that ran on the board (`codenet` explains both)",
    ),
    Entry(
        name="codenet-c",
        input_shape=(3, 512, 512),
        classes=80,
        params=1_790_195,
        macs=1_168_506_880,
        min_size=32,  # a quarter, three halvings
        max_size=2048,
        size_step=32,
        source="Huang et al. 2021, table 3, configuration c (stride 4): 1.14 G MACs and 6.06 MB of "
        "float weights in the widths it was trained in; here the widths that ran on the board (`codenet` explains both)",
    ),
    Entry(
        name="codenet-d",
        input_shape=(3, 512, 512),
        classes=80,
        params=6_372_339,
        macs=3_668_770_816,
        min_size=32,  # a quarter, three halvings
        max_size=2048,
        size_step=32,
        source="Huang et al. 2021, table 3, configuration d (stride 4, doubled widths): 3.54 G MACs and 23.2 MB of "
        "float weights in the widths it was trained in; here the widths that ran on the board (`codenet` explains both)",
    ),
    Entry(
        name="codenet-e",
        input_shape=(3, 512, 512),
        classes=80,
        params=6_372_339,
        macs=3_711_238_144,
        min_size=32,  # a quarter, three halvings
        max_size=2048,
        size_step=32,
        source="Huang et al. 2021, table 3, configuration e (stride 2, max pooling, doubled widths): 3.58 G MACs and 23.2 MB of "
        "float weights in the widths it was trained in; here the widths that ran on the board (`codenet` explains both)",
    ),
    Entry(
        name="pointnet",
        input_shape=(3, 1024),
        classes=40,
        params=3_480_049,
        macs=448_025_856,
        dynamic_macs=4_203_520,
        min_size=1,
        max_size=65_536,
        source="Qi et al. 2017, figure 2 and table 6: 440 M FLOPs a sample (their multiply-adds), 3.5 M parameters",
    ),
    Entry(
        name="lstm-tagger",
        input_shape=(32,),
        classes=45,
        params=4_156_645,
        macs=100_704_000,
        min_size=1,
        max_size=4096,
        vocabulary=10_000,
        source="Huang et al. 2015, section 4 (bidirectional LSTM over words, embeddings of 50 to 100, 300 hidden units, "
        "45 labels of the Penn Treebank), with two layers and no CRF; counts follow from its shape",
    ),
    Entry(
        name="bert-base",
        input_shape=(128,),
        classes=None,
        params=109_482_240,
        macs=11_174_215_680,
        dynamic_macs=301_989_888,
        min_size=1,
        max_size=512,
        vocabulary=30_522,
        source="Devlin et al. 2019, section 3: 12 layers x 768, 12 heads, feed-forward 3072, vocabulary 30,522 "
        "(uncased); 109,482,240 parameters with token, position and segment embeddings and the pooler; ends "
        "in the pooled feature unless classes are asked for; counts at 128 tokens",
    ),
    Entry(
        name="gpt2",
        input_shape=(128,),
        classes=None,
        params=124_439_808,
        macs=16_114_089_984,
        dynamic_macs=301_989_888,
        min_size=1,
        max_size=1024,
        vocabulary=50_257,
        source="Radford et al. 2019, table 2, smallest: 12 layers x 768, 12 heads, vocabulary 50,257, context 1024; "
        "124,439,808 parameters with the output tied to the token embedding; counts at 128 tokens, masked "
        "scores included",
    ),
    Entry(
        name="llama-7b",
        input_shape=(128,),
        classes=None,
        params=6_738_415_616,
        macs=850_000_871_424,
        dynamic_macs=4_294_967_296,
        min_size=1,
        max_size=2048,
        vocabulary=32_000,
        shapes_only=True,
        source="Touvron et al. 2023, table 2: 32 layers x 4096, 32 heads, feed-forward 11,008, vocabulary 32,000; 6.7 B "
        "parameters (6,738,415,616); counts at 128 tokens, masked scores included",
    ),
)


def names() -> tuple[str, ...]:
    """Return the names of all reference networks, small ones first."""
    return tuple(entry.name for entry in ENTRIES)


def describe() -> list[dict[str, Any]]:
    """Return one dictionary per network, ready for JSON; keys are the fields of `Entry`."""
    return [asdict(entry) | {"input_shape": list(entry.input_shape)} for entry in ENTRIES]


def find(name: str) -> Entry:
    """Return the entry of one network; InputError names the nearest match of an unknown name."""
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise InputError(unknown_choice("network", name, names()))


def checked_shape(name: str, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of one sample: the network's own for None, else the given one if the network can take it."""
    entry = find(name)
    if input_shape is None:
        return entry.input_shape
    shape = tuple(input_shape)
    rank = len(entry.input_shape)
    if len(shape) != rank:
        wanted = {1: "(tokens,)", 2: "(channels, points)", 3: "(channels, height, width)"}[rank]
        raise InputError(f"{name}: input_shape must be {wanted} of one sample, without the batch, got {shape}")
    if any(isinstance(size, bool) or not isinstance(size, int) for size in shape):
        raise InputError(f"{name}: input_shape must hold whole numbers, got {shape}")
    if rank > 1 and not 1 <= shape[0] <= MAX_CHANNELS:
        raise InputError(f"{name}: input channels must be between 1 and {MAX_CHANNELS}, got {shape[0]}")
    what = {1: "tokens", 2: "points", 3: "height and width"}[rank]
    for size in shape[-2:] if rank == 3 else shape[-1:]:
        if not entry.min_size <= size <= entry.max_size:
            raise InputError(f"{name}: {what} must be between {entry.min_size} and {entry.max_size}, got {shape}")
        if size % entry.size_step:
            raise InputError(f"{name}: {what} must be a multiple of {entry.size_step}, got {shape}")
    return shape


def checked_classes(name: str, classes: int | None) -> int | None:
    """Return the number of classes: the network's own for None, else the given one if it makes sense."""
    if classes is None:
        return find(name).classes
    if name in _LANGUAGE_MODELS:
        raise InputError(f"{name}: it predicts tokens of its vocabulary and takes no classes, got {classes!r}")
    if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= MAX_CLASSES:
        raise InputError(f"{name}: classes must be a whole number between 1 and {MAX_CLASSES}, got {classes!r}")
    return classes
