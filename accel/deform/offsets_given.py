"""The offsets that `evaluate` is given: a trace, statistics, or none; and what reading far sampling points costs with them."""

from dataclasses import dataclass, replace
from math import ceil, floor
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.deform.gather import GatherCost, SamplingPoints, gather_cost, random_offsets
from picojoule.accel.deform.plan import Job
from picojoule.accel.deform.roles import channels_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import DeformConvAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer
from picojoule.sim.offsets import OffsetForm, OffsetStatistics, OffsetTrace, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenOffsets:
    """Where the offsets of far sampling points come from."""

    source: OffsetTrace | OffsetStatistics | None

    @classmethod
    def of(cls, activations: object | None) -> "GivenOffsets":
        """Return what was given, checked.

        Raises:
            InputError: for anything but an offset trace or statistics.

        """
        if activations is None or isinstance(activations, OffsetTrace | OffsetStatistics):
            return cls(source=activations)
        raise InputError(
            f"activations of an fpga-deform unit are an OffsetTrace or OffsetStatistics, got {type(activations).__name__}"
        )

    def cost(self, job: Job, spec: DeformSpec, seed: int) -> GatherCost:
        """Return the cost of reading the points of a job's deformable layer, one image.

        Raises:
            InputError: for a trace whose offsets of the layer have another shape.

        """
        layer = job.layers[-1]
        a, sampling = layer.attributes, job.sampling
        assert isinstance(a, DeformConvAttributes) and sampling is not None
        channels, out_channels = channels_of(layer)
        _, _, height, width = layer.operands[0].shape
        _, _, out_height, out_width = layer.results[0].shape
        kernel = layer.operands[1].shape[2:]
        points = SamplingPoints(
            channels=channels,
            height=height,
            width=width,
            kernel=(kernel[0], kernel[1]),
            stride=(a.stride[0], a.stride[1]),
            padding=(a.padding_begin[0], a.padding_begin[1]),
            dilation=(a.dilation[0], a.dilation[1]),
            offset_groups=a.offset_groups,
        )
        offsets, basis = self._offsets(layer, sampling, spec, seed)
        try:
            found = gather_cost(
                spec, points, offsets, out_height=out_height, out_width=out_width, out_channels=out_channels, seed=seed
            )
        except InputError as error:
            raise InputError(f"layer '{layer.name}': {error}") from None
        return replace(found, basis=found.basis.replace("data", basis, 1))

    def _offsets(self, layer: Layer, sampling: Sampling, spec: DeformSpec, seed: int) -> tuple[NDArray[np.int16], str]:
        """Return offsets [samples, 2 per tap, Oh, Ow] and what they rest on; drawn ones stay in the layer's range."""
        if isinstance(self.source, OffsetTrace):
            return self.source.of(layer), self.source.source
        _, channels, *size = layer.operands[2].shape
        statistics = self.source or _default_statistics(sampling, spec, seed)
        if statistics.distribution == "fixed":
            return np.zeros((1, channels, *size), dtype=np.int16), "statistics (no offsets)"
        rng = np.random.default_rng([statistics.seed, crc32(layer.name.encode())])
        square = sampling.form is OffsetForm.SQUARE
        drawn = random_offsets(statistics, (1, 1 if square else channels, *size), rng).astype(np.float64)
        low, high = (
            end if end is not None else np.inf * sign for end, sign in ((sampling.low, -1), (sampling.high, 1))
        )
        whole: NDArray[np.int16] = np.rint(np.clip(drawn, low, high)).astype(np.int16)
        basis = f"statistics ({statistics.distribution}, {statistics.low:g} to {statistics.high:g})"
        return (_square(layer, whole) if square else whole), basis


def _default_statistics(sampling: Sampling, spec: DeformSpec, seed: int) -> OffsetStatistics:
    """Return uniform offsets over a layer's range, or over that of the engine where it has none."""
    high = float(spec.max_offset) if sampling.high is None else sampling.high
    low = min(high, float(-spec.max_offset) if sampling.low is None else sampling.low)
    return OffsetStatistics(distribution="uniform", low=floor(low), high=ceil(high), seed=seed)


def _square(layer: Layer, d: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the offsets [1, 2 per tap, Oh, Ow] of square ones, d [1, 1, Oh, Ow]: (d - 1) times the tap's place."""
    a = layer.attributes
    assert isinstance(a, DeformConvAttributes)
    sizes = zip(layer.operands[1].shape[2:], a.dilation, strict=True)
    rows, cols = np.meshgrid(*((np.arange(k) - (k - 1) / 2) * step for k, step in sizes), indexing="ij")
    grid = np.stack([rows, cols], -1).reshape(1, -1, 1, 1)
    return np.asarray(np.rint((d.astype(np.int64) - 1) * grid), dtype=np.int16)
