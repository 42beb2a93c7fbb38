"""EfficientNet-Lite0 with its trained weights under few bits and on hardware: how far its logits move, in dB.

Needs the extra `samples`: the network, and twenty labelled ImageNet photographs from the foolbox package. A ratio of
signal to noise, 10 log10(sum y^2 / sum (y' - y)^2) over all logits, says more on twenty images than their accuracy: one
image is five points. Where activations are integers, each half of the images is run with steps calibrated on the other
half, so that no image calibrates itself. Results land in runs/logit_snr/.
"""

import argparse
import copy
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from networks.pretrained import efficientnet_lite0
from PIL import Image
from torch import Tensor, nn

import picojoule as pj
from picojoule.compress.plan import Plan, apply_plan
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.formats import FP32, Granularity, integer_format
from picojoule.sim.hardware import load_hardware
from picojoule.sim.ir import Network
from picojoule.sim.numerics.calibration import calibrate
from picojoule.sim.numerics.executor import Executor
from picojoule.sim.protocol import Arithmetic
from picojoule.sim.report import rows_to_csv

Line = dict[str, object]


def photographs() -> tuple[Tensor, Tensor]:
    """Return [20, 3, 224, 224] and labels: short side 256, centre crop 224, (x - 127) / 128 as the network's authors do."""
    spec = importlib.util.find_spec("foolbox")
    assert spec is not None and spec.submodule_search_locations is not None
    files = sorted((Path(spec.submodule_search_locations[0]) / "data").glob("imagenet_*.jpg"))
    images = []
    for file in files:
        with Image.open(file) as image:
            short = min(image.size)
            size = (round(image.width * 256 / short), round(image.height * 256 / short))
            scaled = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
            images.append(np.asarray(scaled.crop((left, top, left + 224, top + 224)), dtype=np.float32))
    pixels = torch.from_numpy((np.stack(images) - 127) / 128).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor([int(f.stem.split("_")[-1]) for f in files])


def snr_db(expected: Tensor, got: Tensor) -> float:
    """Return the ratio of signal to noise in dB; infinite where nothing differs."""
    noise = (got - expected).double().square().sum()
    return float(10 * torch.log10(expected.double().square().sum() / noise)) if noise > 0 else float("inf")


def in_batches(run: Callable[[Tensor], Tensor], x: Tensor, size: int = 5) -> Tensor:
    """Return the logits of all images, a few at a time."""
    with torch.no_grad():
        return torch.cat([run(part) for part in x.split(size)])


def rounded(module: nn.Module, bits: int, per_channel: bool) -> nn.Module:
    """Return a copy with every convolution's and linear layer's weight rounded to symmetric steps of its largest value."""
    made = copy.deepcopy(module)
    high = 2 ** (bits - 1) - 1
    for part in made.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            w = part.weight.data
            top = w.abs().flatten(1).amax(1).reshape(-1, *[1] * (w.dim() - 1)) if per_channel else w.abs().max()
            step = (top / high).clamp(min=1e-12)  # some trained filters are all zero
            part.weight.data = (w / step).round() * step
    return made


def weight_only(module: nn.Module, x: Tensor, y: Tensor, labels: Tensor) -> list[Line]:
    """Round weights alone: as the trained tensors are, through `pj.run`; and our way, folded and with the best steps."""
    lines = []
    network = pj.trace(module, x[:1])
    for bits in (8, 6, 4):
        for per in Granularity:
            plain = pj.trace(rounded(module, bits, per is Granularity.CHANNEL), x[:1])
            got = in_batches(lambda part, n=plain: pj.run(n, part), x)  # type: ignore[misc]
            lines.append(line(f"weights {bits} bits per {per}", "largest value, before folding", y, got, labels))
            how = Arithmetic(weight=integer_format(bits, per=per), activation=FP32)
            executor = Executor(network, arithmetic=lambda _, how=how: how)  # type: ignore[misc]
            got = in_batches(lambda part, e=executor: e.run([part])[0], x)  # type: ignore[misc]
            lines.append(line(f"weights {bits} bits per {per}", "least error, after folding", y, got, labels))
    return lines


def line(what: str, how: str, y: Tensor, got: Tensor, labels: Tensor) -> Line:
    """Return one row: SNR, and how many of the images are right."""
    right = int((got.argmax(1) == labels).sum())
    return {"what": what, "how": how, "snr_db": snr_db(y, got), "right": right, "images": len(labels)}


def on_hardware(
    network: Network, x: Tensor, y: Tensor, labels: Tensor, hardware: str, changes: dict[str, object], per_half: int
) -> Line:
    """Run the first images of each half in the hardware's arithmetic, calibrated on the whole other half."""
    accelerator = load_hardware(hardware, changes)
    start = time.process_time()
    half, got, which = len(x) // 2, [], []
    for first, other in ((0, half), (half, 0)):
        chosen = slice(first, first + per_half)
        calibration = calibrate(network, [(x[other : other + half],)], accelerator.arithmetic)
        executor = Executor(network, arithmetic=accelerator.arithmetic, calibration=calibration)
        got.append(in_batches(lambda part, e=executor: e.run([part])[0], x[chosen], 1))  # type: ignore[misc]
        which += range(len(x))[chosen]
    setting = ", ".join(f"{key} {value}" for key, value in changes.items())
    how = ", ".join(filter(None, ("weights per channel", setting)))
    made = line(hardware, how, y[which], torch.cat(got), labels[which])
    return made | {"cpu_s": time.process_time() - start}


CROSSBARS: tuple[dict[str, object], ...] = (
    {"weight_bits": 16, "activation_bits": 16, "adc_bits": 8},
    {"weight_bits": 8, "activation_bits": 8, "adc_bits": 8},
    {"weight_bits": 8, "activation_bits": 8, "adc_bits": 7, "adc_range": "full"},
    {"weight_bits": 8, "activation_bits": 8, "adc_bits": 6, "adc_range": "full"},
    {"weight_bits": 8, "activation_bits": 8, "adc_bits": 6, "adc_range": "exact"},
)
"""ISAAC as published; then 8-bit operands with a converter that loses nothing, one and two bits too few rounding over the
whole range of a column, and two too few clipping its large sums."""


def per_channel(bits: int) -> Plan:
    """Return the plan that gives every layer integer weights with a step for each output channel."""
    return Plan.model_validate({"schema": 1, "layers": {"*": {"weight": {"format": f"int{bits}", "per": "channel"}}}})


def measured(per_half: int, hardware: bool) -> list[Line]:
    """Return every row."""
    module, _ = efficientnet_lite0()
    x, labels = photographs()
    y = in_batches(module, x)
    lines = [line("float", "eager", y, y, labels)]
    network = pj.trace(module, x[:1])
    lines.append(line("float", "pj.run", y, in_batches(lambda part: pj.run(network, part), x), labels))  # type: ignore[arg-type, return-value]
    lines += weight_only(module, x, y, labels)
    if hardware:
        planned = {bits: apply_plan(network, per_channel(bits)) for bits in (8, 16)}
        lines.append(on_hardware(planned[8], x, y, labels, "edge-32x32", {}, len(x) // 2))
        for changes in CROSSBARS:
            bits = 16 if changes["weight_bits"] == 16 else 8
            lines.append(on_hardware(planned[bits], x, y, labels, "isaac", changes, per_half))
    return lines


def table(lines: Sequence[Line]) -> str:
    """Return the rows in Markdown."""
    head = "| what | how | logit SNR, dB | right | images |\n| --- | --- | ---: | ---: | ---: |"
    rows = [f"| {r['what']} | {r['how']} | {r['snr_db']:.1f} | {r['right']} | {r['images']} |" for r in lines]
    return "\n".join([head, *rows, ""])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-half", type=int, default=2, help="images of each half on crossbars, which are slow")
    parser.add_argument("--no-hardware", action="store_true", help="weight rounding only")
    parser.add_argument("--out", type=Path, default=Path("runs/logit_snr"))
    given = parser.parse_args()
    lines = measured(given.per_half, not given.no_hardware)
    given.out.mkdir(parents=True, exist_ok=True)
    finite = [{k: v if v != float("inf") else None for k, v in one.items()} for one in lines]
    write_atomic(given.out / "table.csv", rows_to_csv(finite))
    write_atomic(given.out / "table.md", table(lines))
    summary = {"rows": finite, "seed": 0, "versions": versions()}
    write_atomic(given.out / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    print(table(lines))


if __name__ == "__main__":
    main()
