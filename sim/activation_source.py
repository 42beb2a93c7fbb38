"""Integer inputs of layers in the order in which they stream, for costs that depend on data.

Collected on training data (never test data), sample by sample, in the formats of the hardware with exact products. A cost is
then measured on each sample, and its spread over samples gives an interval, of which reports name the widest. Without a source
such costs are expected values of stated statistics.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network
from picojoule.sim.protocol import Arithmetic

if TYPE_CHECKING:
    import torch

    from picojoule.sim.numerics.calibration import Calibration

Codes = NDArray[np.integer[Any]]

# Student's t, two-sided 95 %, by degrees of freedom 1 to 30 (any statistics textbook).
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSource:
    """Integer inputs [groups, in, n] of layers, one array per sample, columns in the order of the GEMM's.

    Of a sample with more columns than were to be kept, a run of neighbors from its middle is held. `origin` names the
    data; `basis` is what reports show beside a figure that follows from it.
    """

    inputs: Mapping[str, tuple[Codes, ...]]
    origin: str = "training data"
    basis: str = "data"

    def of_layer(self, name: str) -> tuple[Codes, ...]:
        """Return the inputs of a layer, one array per sample; none where it was not recorded."""
        return self.inputs.get(name, ())

    @property
    def samples(self) -> int:
        """Number of samples."""
        return max((len(found) for found in self.inputs.values()), default=0)


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the mean and its 95 % interval (Student's t); None for a single value, whose spread is unknown."""
    if not values:
        raise InputError("a mean needs at least one sample")
    mean, count = sum(values) / len(values), len(values)
    if count < 2:
        return mean, None
    deviation = sqrt(sum((v - mean) ** 2 for v in values) / (count - 1))
    half = _T[min(count - 1, len(_T)) - 1] * deviation / sqrt(count)
    return mean, (mean - half, mean + half)


def collect(
    network: Network,
    samples: Iterable[Sequence["torch.Tensor"]],
    arithmetic: Callable[[Layer], Arithmetic],
    calibration: "Calibration",
    *,
    columns: int = 4096,
    origin: str = "training data",
) -> ActivationSource:
    """Run samples one by one and return the integer inputs of every layer that multiplies with weights.

    Args:
        network: what to run.
        samples: inputs in the network's order, a batch of one each; *training* data.
        arithmetic: how the hardware computes a layer; only integer formats are recorded.
        calibration: steps of the activations.
        columns: most columns kept per sample and matrix.
        origin: names the data.

    Raises:
        InputError: if there is no sample.

    """
    from picojoule.sim.numerics.layer_inputs import record

    def keeper(_layer: str, _group: int, size: int) -> _Middle:
        return _Middle(size, columns)

    kept: dict[str, list[Codes]] = {}
    for found in record(network, samples, arithmetic, calibration, wanted=_multiplies_integers, keeper=keeper):
        for name, groups in found.items():
            taken = np.stack([group.take() for group in groups])
            if taken.shape[2]:
                kept.setdefault(name, []).append(taken)
    if not kept:
        raise InputError("activations need at least one sample of training data and a layer that multiplies integers")
    return ActivationSource(inputs={name: tuple(found) for name, found in kept.items()}, origin=origin)


def _multiplies_integers(arithmetic: Arithmetic) -> bool:
    weight, activation = arithmetic.weight, arithmetic.activation
    return weight is not None and activation is not None and weight.is_integer and activation.is_integer


class _Middle:
    """Keeps a run of neighbors from the middle of the first columns it sees, until they are taken."""

    def __init__(self, size: int, columns: int) -> None:
        self._size, self._columns = size, columns
        self._parts: list[Codes] = []

    def keep(self, inputs: NDArray[Any]) -> None:
        room = self._columns - sum(part.shape[1] for part in self._parts)
        if room > 0:
            start = max(0, inputs.shape[1] - room) // 2
            self._parts.append(np.rint(inputs[:, start : start + room]).astype(np.int32))

    def take(self) -> Codes:
        """Return the columns held [in, n], and forget them."""
        parts, self._parts = self._parts, []
        return np.concatenate(parts, axis=1) if parts else np.zeros((self._size, 0), dtype=np.int32)
