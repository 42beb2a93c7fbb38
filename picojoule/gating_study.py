"""A small channel-gated network trained on Fashion-MNIST, and what its real gates are worth on systolic arrays.

Three gated 3 x 3 convolutions behind a plain stem; thresholds are pulled towards a target (Hua et al., NeurIPS 2019), and a
higher target closes more gates. Gates are recorded on training images, accuracy is that of the test part, read once a network.
Beside the real pattern stands one of independent gates with each layer's share: what is lost when only the share is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from picojoule.accel.systolic.live_work import GatedWork, gated_work
from picojoule.models.data import Dataset, Split
from picojoule.sim import attributes as at
from picojoule.sim.attributes import Op
from picojoule.sim.builder import NetworkBuilder, parameter
from picojoule.sim.execution import SkipMap, drawn_skip_map
from picojoule.sim.ir import Layer, TensorType
from picojoule.sim.numerics.gated_conv import ChannelGatedConv2d
from picojoule.sim.weights import constant_fill
from picojoule.training import accuracy, one_thread, train

_STEM = 32
_GATED = ((32, 48, 1), (48, 64, 2), (64, 64, 1))  # channels in, channels out, stride
_BASE = 4  # one in four input channels makes the first pass
_PULL = 0.02


class GatedNetwork(nn.Module):
    """A stem with stride 2, three gated convolutions, mean over pixels, classifier."""

    def __init__(self, classes: int, target: float, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, _STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(_STEM), nn.ReLU())
        self.gated = nn.ModuleList(
            ChannelGatedConv2d(c, n, 3, base=c // _BASE, stride=s, threshold=target) for c, n, s in _GATED
        )
        self.head = nn.Linear(_GATED[-1][1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, classes]."""
        x = self.stem(x)
        for conv in self.gated:
            x = torch.relu(conv(x))
        made: Tensor = self.head(x.mean(dim=(2, 3)))
        return made

    def penalty(self, target: float) -> Tensor:
        """Return the pull of all thresholds to the target."""
        return _PULL * torch.stack([c.threshold_penalty(target) for c in self.gated]).sum()  # type: ignore[operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained network's gates on training images, the layers they belong to, and its accuracy (correct, of)."""

    target: float
    maps: dict[str, SkipMap]
    layers: dict[str, Layer]
    right: tuple[int, int]


def trained(data: Dataset, target: float, *, epochs: int = 4, samples: int = 64, seed: int = 0) -> Trained:
    """Train a network and record its gates on the first `samples` training images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GatedNetwork(data.classes, target, data.input_shape[0])
    train(model, data.train, epochs=epochs, lr=3e-3, seed=seed, penalty=lambda: model.penalty(target))
    size = -(-data.input_shape[1] // 2)
    maps, layers = {}, {}
    with one_thread(), torch.no_grad():
        model(torch.tensor(data.train.images[:samples]))
    for i, (conv, (channels, width, stride)) in enumerate(zip(model.gated, _GATED, strict=True)):
        name = f"gated{i + 1}"
        gates = conv.gates
        assert isinstance(gates, Tensor)
        live = gates.flatten(2).permute(0, 2, 1).contiguous().numpy()
        maps[name] = SkipMap(live=live, base_share=1 / _BASE, source=f"{data.name}, training images")
        layers[name] = _layer(name, channels, width, size, stride)
        size = -(-size // stride)
    return Trained(target=target, maps=maps, layers=layers, right=accuracy(model, data.test))


def part(split: Split, count: int) -> Split:
    """Return the first samples of a split."""
    return Split(images=split.images[:count], labels=split.labels[:count])


def rows(found: Trained, arrays: Sequence[tuple[int, int]]) -> list[dict[str, object]]:
    """Return what gates are worth: a row per array, dataflow and layer, and one for all gated layers."""
    made: list[dict[str, object]] = []
    for size in arrays:
        for dataflow in ("os", "ws", "is"):
            real = {n: gated_work(found.layers[n], m, dataflow, *size) for n, m in found.maps.items()}
            drawn = {n: gated_work(found.layers[n], _drawn(n, m), dataflow, *size) for n, m in found.maps.items()}
            cells = [(name, [real[name]], [drawn[name]]) for name in real]
            cells.append(("all gated layers", list(real.values()), list(drawn.values())))
            for name, works, random in cells:
                promised = _ratio(works, lambda w: (w.base.macs + w.rest.macs, w.useful_macs))
                gain = _ratio(works, lambda w: (w.dense_cycles, w.cycles))
                made.append(
                    {
                        "target": found.target,
                        "accuracy": round(found.right[0] / found.right[1], 4),
                        "array": f"{size[0]}x{size[1]}",
                        "dataflow": dataflow,
                        "layer": name,
                        "open_gates": round(float(np.mean([w.share for w in works])), 4),
                        "operations_saved": round(promised, 3),
                        "speed_up": round(gain, 3),
                        "realised": round(gain / promised, 3),
                        "realised_independent_gates": round(
                            _ratio(random, lambda w: (w.dense_cycles, w.cycles)) / promised, 3
                        ),
                    }
                )
    return made


def _ratio(works: Sequence[GatedWork], parts: Callable[[GatedWork], tuple[float, float]]) -> float:
    pairs = [parts(w) for w in works]
    return float(sum(p[0] for p in pairs) / sum(p[1] for p in pairs))


def _drawn(name: str, real: SkipMap) -> SkipMap:
    samples, pixels, channels = real.live.shape
    return drawn_skip_map(
        name, samples=samples, pixels=pixels, channels=channels, base_share=real.base_share, share=real.share
    )


def _layer(name: str, channels: int, width: int, size: int, stride: int) -> Layer:
    """Return the ungated 3 x 3 convolution as a layer of the workload."""
    builder = NetworkBuilder(name)
    x = builder.input("x", TensorType(shape=(1, channels, size, size), batch_axis=0))
    attributes = at.ConvAttributes(stride=(stride, stride), padding_begin=(1, 1), padding_end=(1, 1), dilation=(1, 1))
    weight = parameter("w", constant_fill(1.0, (width, channels, 3, 3)))
    (y,) = builder.add(Op.CONV, [x, weight], attributes, name=name)
    (layer,) = builder.finish([y]).layers
    return layer
