"""The offsets that `evaluate` is given: a trace, statistics, or none; and what reading far sampling points costs with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, floor
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.deform.gather import GatherCost, SamplingPoints, gather_cost, random_offsets, rows_simulated
from picojoule.accel.deform.plan import Job
from picojoule.accel.deform.reach import Reading, listed
from picojoule.accel.deform.roles import channels_of
from picojoule.accel.deform.spec import DeformSpec
from picojoule.sim.attributes import DeformConvAttributes
from picojoule.sim.errors import InputError
from picojoule.sim.ir import Layer, Network
from picojoule.sim.offset_traces import LARGEST
from picojoule.sim.offsets import OffsetForm, OffsetStatistics, OffsetTrace, Sampling, tap_grid


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
        traced = isinstance(self.source, OffsetTrace)
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
        rows = rows_simulated(points, out_height, out_width)
        offsets, basis = self._offsets(layer, sampling, rows, spec, seed)
        size = {"out_height": out_height, "out_width": out_width, "out_channels": out_channels}
        try:
            found = gather_cost(spec, points, offsets, seed=seed, first_rows=not traced, **size)
        except InputError as error:
            raise InputError(f"layer '{layer.name}': {error}") from None
        return replace(found, basis=found.basis.replace("data", basis, 1))

    def check(self, network: Network, samplings: Mapping[str, Sampling]) -> None:
        """Refuse a trace that is not of this network, wherever its deformable layers run.

        Raises:
            InputError: naming the layer whose offsets are missing, of another shape or out of its range, or that the network
                does not have.

        """
        if not isinstance(self.source, OffsetTrace):
            return
        for layer in network.layers:
            if layer.name in samplings:
                _check_range(layer, samplings[layer.name], self.source.of(layer))
        others = sorted(set(self.source.offsets) - set(samplings))
        if others:
            raise InputError(
                f"the offset trace has offsets of '{others[0]}', which is no deformable layer of {network.name}; record it with "
                "this network"
            )

    def notes(self, readings: Mapping[str, Reading], samplings: Mapping[str, Sampling]) -> list[str]:
        """Return a remark on layers whose price does not depend on the offsets that were given."""
        if self.source is None:
            return []
        buffered = [n for n in samplings if readings.get(n, Reading.HOST) not in (Reading.DRAM, Reading.HOST)]
        hosted = [n for n in samplings if readings.get(n, Reading.HOST) is Reading.HOST]
        parts = [
            f"{listed(names)} ({where})" for names, where in ((buffered, "line buffer"), (hosted, "host")) if names
        ]
        if not parts:
            return []
        return [f"the offsets given are not used by: {', '.join(parts)}; any offsets take the same time there"]

    def _offsets(
        self, layer: Layer, sampling: Sampling, rows: int, spec: DeformSpec, seed: int
    ) -> tuple[NDArray[np.int16], str]:
        """Return offsets [samples, 2 per tap, Oh, Ow] and what they rest on; drawn ones stay in the layer's range.

        Drawn ones are `rows` rows instead of Oh: those that are simulated.
        """
        if isinstance(self.source, OffsetTrace):
            return self.source.of(layer), self.source.source
        channels, width = layer.operands[2].shape[1], layer.operands[2].shape[3]
        statistics = self.source or _default_statistics(layer, sampling, spec, seed)
        if statistics.distribution == "fixed":
            return np.zeros((1, channels, rows, width), dtype=np.int16), "statistics (no offsets)"
        rng = np.random.default_rng([statistics.seed, crc32(layer.name.encode())])
        square = sampling.form is OffsetForm.SQUARE
        drawn = random_offsets(statistics, (1, 1 if square else channels, rows, width), rng)
        low, high = (
            LARGEST * sign if end is None else round(max(-LARGEST, min(LARGEST, end)))
            for end, sign in ((sampling.low, -1), (sampling.high, 1))
        )
        whole: NDArray[np.int16] = np.clip(drawn, low, high, out=drawn)
        basis = f"statistics ({statistics.distribution}, {statistics.low:g} to {statistics.high:g})"
        return (_square(layer, whole) if square else whole), basis


def _default_statistics(layer: Layer, sampling: Sampling, spec: DeformSpec, seed: int) -> OffsetStatistics:
    """Return uniform offsets over a layer's range, or over that of the engine where it has none.

    A range beyond the map is cut to where every point is just outside it.
    """
    outside = float(min(LARGEST, max(layer.operands[0].shape[2:]) + max(_own_places(layer))))
    high = float(spec.max_offset) if sampling.high is None else sampling.high
    low = min(high, float(-spec.max_offset) if sampling.low is None else sampling.low)
    low, high = (max(-outside, min(outside, end)) for end in (low, high))
    return OffsetStatistics(distribution="uniform", low=floor(low), high=ceil(high), seed=seed)


def _own_places(layer: Layer) -> list[int]:
    """Return the places of the taps before offsets are added, row and column in turn."""
    return [int(v) for v in np.rint(tap_grid(layer.operands[1].shape[2:], _dilation(layer)))]


def _dilation(layer: Layer) -> tuple[int, ...]:
    assert isinstance(layer.attributes, DeformConvAttributes)
    return layer.attributes.dilation


def _square(layer: Layer, d: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return the offsets [1, 2 per tap, rows, Ow] of square ones, d [1, 1, rows, Ow]: (d - 1) times the tap's place."""
    places, stretch = _own_places(layer), d[:, 0].astype(np.int32) - 1
    found = np.empty((1, len(places), *d.shape[2:]), dtype=np.int16)
    for i, place in enumerate(places):
        found[:, i] = np.clip(stretch * place, -LARGEST, LARGEST)
    return found


def _check_range(layer: Layer, sampling: Sampling, offsets: NDArray[np.int16]) -> None:
    """Refuse offsets that the layer's clip does not let through."""
    if sampling.low is None or sampling.high is None:
        return
    low, high = sampling.low, sampling.high
    if sampling.form is OffsetForm.SQUARE:
        high = max(abs(low - 1), abs(high - 1)) * float(max(tap_grid(layer.operands[1].shape[2:], _dilation(layer))))
        low = -high
    low, high = (max(-LARGEST, min(LARGEST, end)) for end in (floor(low), ceil(high)))
    least, most = int(offsets.min()), int(offsets.max())
    if least < low or most > high:
        raise InputError(
            f"the offset trace of layer '{layer.name}' has offsets of {least} to {most}, but the layer's are {low} to {high}; "
            "record it with this network"
        )
