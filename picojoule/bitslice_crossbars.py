"""What a trained point computes in crossbars: exact 8-bit integers, and converters narrower than lossless.

The networks of the study are chains, so this walks their modules: every convolution or linear layer becomes an integer product in
`reram.program` (differential columns, 4 slices of 2 bits, 8 unsigned input bits one by one, 128 wordlines); rectifiers and
biases are digital. Input steps come from training images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from picojoule.compress.bitslice_slices import CELL_BITS, MAGNITUDE_BITS, SLICES, TILE_ROWS, codes_of_weight, step_of
from picojoule.compress.bitslice_training import LAYERS, layers_of
from picojoule.reram.arithmetic import program
from picojoule.reram.crossbar import CrossbarSpec, Encoding
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.formats import integer_format
from picojoule.sim.numerics.quantize import best_step

_BATCH = 500
_LEAST_BITS = 2  # of a signed ADC
INPUT_BITS = 8


def crossbar_spec(bits: Sequence[int] | None = None) -> CrossbarSpec:
    """Return the study's crossbar with ADC bits per slice (least significant first), or without ADC.

    A slice of 0 bits is empty; any converter will do for it.
    """
    return CrossbarSpec(
        encoding=Encoding.DIFFERENTIAL,
        weight_bits=MAGNITUDE_BITS + 1,
        slices=SLICES,
        cell_max=(1 << CELL_BITS) - 1,
        input_bits=INPUT_BITS,
        adc_bits=None if bits is None else tuple(max(_LEAST_BITS, b) for b in bits),
        tile_rows=TILE_ROWS,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerNetwork:
    """A trained chain in integers: `stages` are its modules; codes and steps belong to the weighted ones, in their order."""

    stages: tuple[nn.Module, ...]
    codes: tuple[NDArray[np.int64], ...]
    weight_steps: tuple[float, ...]
    input_steps: tuple[float, ...]


def integer_network(model: nn.Sequential, exponents: Sequence[int], calibration: Tensor) -> IntegerNetwork:
    """Return a trained chain in integers; the first input is pixels over 255, the others get the step of least squared error."""
    steps = [step_of(e) for e in exponents]
    found: list[float] = []
    x = calibration
    with torch.no_grad():
        for stage in model:
            if isinstance(stage, LAYERS):
                form = integer_format(INPUT_BITS, signed=False)
                found.append(float(best_step(x, form)) if found else 1 / form.qmax)
            x = stage(x)
    codes = [codes_of_weight(m.weight, s) for m, s in zip(layers_of(model).values(), steps, strict=True)]  # type: ignore[arg-type]
    return IntegerNetwork(
        stages=tuple(model),
        codes=tuple(c.flatten(1).numpy().astype(np.int64) for c in codes),
        weight_steps=tuple(steps),
        input_steps=tuple(found),
    )


def accuracy(network: IntegerNetwork, spec: CrossbarSpec, images: Tensor, labels: Tensor) -> float:
    """Return the share of labels that the network finds in crossbars of a design."""
    products = [program(c, spec) for c in network.codes]
    correct = 0
    for x, y in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        correct += int((_forward(network, [p.matmul for p in products], x).argmax(1) == y).sum())
    return correct / len(labels)


Product = Callable[[NDArray[Any]], NDArray[np.float64]]


@torch.no_grad()
def _forward(network: IntegerNetwork, products: Sequence[Product], x: Tensor) -> Tensor:
    weighted = iter(zip(products, network.weight_steps, network.input_steps, strict=True))
    for stage in network.stages:
        if not isinstance(stage, LAYERS):
            x = stage(x)
            continue
        product, weight_step, input_step = next(weighted)
        codes = (x / input_step).round().clamp(0, (1 << INPUT_BITS) - 1)
        x = _layer(stage, product, codes) * (weight_step * input_step)
        if stage.bias is not None:
            x = x + stage.bias.reshape(1, -1, *[1] * (x.dim() - 2))
    return x


def _layer(stage: nn.Module, product: Product, codes: Tensor) -> Tensor:
    """Return integer outputs [n, out, ...] of integer inputs."""
    if isinstance(stage, nn.Linear):
        return torch.tensor(product(codes.T.numpy()).T, dtype=torch.float32)
    if not isinstance(stage, nn.Conv2d) or stage.groups != 1 or isinstance(stage.padding, str):
        raise UnsupportedError(f"the study's integer network has no {type(stage).__name__} like this one")
    columns = functional.unfold(codes, stage.kernel_size, stage.dilation, stage.padding, stage.stride)
    count, rows, positions = columns.shape
    made = product(columns.transpose(0, 1).reshape(rows, -1).numpy())
    size = [
        (codes.shape[2 + a] + 2 * stage.padding[a] - stage.dilation[a] * (stage.kernel_size[a] - 1) - 1)
        // stage.stride[a]
        + 1
        for a in (0, 1)
    ]
    out = torch.tensor(made, dtype=torch.float32).reshape(-1, count, positions)
    return out.transpose(0, 1).reshape(count, -1, *size)


def reduced_bits(
    network: IntegerNetwork, lossless: Sequence[int], images: Tensor, labels: Tensor, *, allowed_drop: float
) -> tuple[tuple[int, ...], Mapping[tuple[int, ...], float]]:
    """Return fewer ADC bits per slice at which accuracy falls by at most `allowed_drop`, and all accuracies measured.

    From lossless bits, each round lowers the slice that has most bits left (the dearest; of equals the least significant, which
    matters least) by one, and leaves it alone from then on if that costs too much. Sums beyond the range clip.
    """
    measured: dict[tuple[int, ...], float] = {}

    def measure(bits: tuple[int, ...]) -> float:
        if bits not in measured:
            measured[bits] = accuracy(network, crossbar_spec(bits), images, labels)
        return measured[bits]

    bits = tuple(lossless)
    floor = measure(bits) - allowed_drop - 1e-9
    open_slices = {k for k in range(SLICES) if bits[k] > _LEAST_BITS}
    while open_slices:
        k = max(open_slices, key=lambda s: (bits[s], -s))
        fewer = (*bits[:k], bits[k] - 1, *bits[k + 1 :])
        if measure(fewer) >= floor:
            bits = fewer
            if bits[k] == _LEAST_BITS:
                open_slices.discard(k)
        else:
            open_slices.discard(k)
    return bits, measured
