"""How this hardware computes layers: integer products through crossbars, exact integers elsewhere.

A layer alone is asked with `arithmetic_of`; `arithmetic_in` knows the network around it, which decides the converters where
`adc_bits` is `needed` and the chip is built for the network (`design_time`), and brings the calibration data of ranges.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.product import ReramProduct, programmer
from picojoule.reram.ranges import calibrated_range
from picojoule.reram.spec import (
    NEEDED,
    AdcBuild,
    AdcRange,
    ReramSpec,
    SignedInputs,
    crossbar_spec,
    input_width,
    weight_width,
)
from picojoule.reram.units import (
    HOST,
    VECTOR,
    formats_of,
    is_dynamic,
    map_network,
    network_adcs,
    unit_of,
)
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import UnsupportedError
from picojoule.sim.ir import Layer, Network
from picojoule.sim.passes import fill_formats
from picojoule.sim.protocol import FLOAT, Arithmetic

Samples = Mapping[str, Sequence[NDArray[Any]]]


def arithmetic_of(
    layer: Layer,
    spec: ReramSpec,
    *,
    seed: int = 0,
    bits: Sequence[Sequence[int]] | None = None,
    samples: Sequence[NDArray[Any]] | None = None,
) -> Arithmetic:
    """Return how a layer is computed; `bits` by row tile and slice replace those of the design.

    Raises:
        UnsupportedError: for weights or inputs that are not integers, and for products of two activations in crossbars that
            are not exact.
        InfeasibleError: for more than 16 bits, or fewer `adc_bits` than slices.

    """
    if layer.op not in MAC_OPS:
        return FLOAT
    x, w = formats_of(layer, spec)
    unit = unit_of(layer, spec)
    if unit == HOST:
        return Arithmetic(weight=w, activation=x, note="host")
    where = f"layer '{layer.name}'"
    input_bits, signed = input_width(x, where)
    if unit == VECTOR:
        input_width(w, where)
        return Arithmetic(weight=w, activation=x, note="digital unit")
    weight_bits = weight_width(w, where)
    crossbar = crossbar_spec(spec, weight_bits, input_bits, signed and spec.signed_inputs is SignedInputs.BIPOLAR)
    if is_dynamic(layer):
        _check_exact(layer, crossbar, spec)
        return Arithmetic(weight=w, activation=x, note="crossbars, written for each product")
    note = f"crossbars: {spec.encoding.value} encoding, {_bits_text(spec, bits)} ADC"
    placed: Callable[..., Any]
    if spec.adc_range is AdcRange.CALIBRATED:
        placed = _Calibrated(layer.name, spec, weight_bits, input_bits, signed, seed, samples)
    else:
        placed = programmer(spec, weight_bits, input_bits, signed, seed=seed, name=layer.name, bits=bits)
    return Arithmetic(weight=w, activation=x, program=placed, note=note)


def arithmetic_in(
    network: Network, spec: ReramSpec, *, seed: int = 0, samples: Samples | None = None
) -> Callable[[Layer], Arithmetic]:
    """Return how the layers of a network are computed on the chip built for it; errors as `arithmetic_of`.

    `seed` is the piece of hardware; `samples` hold integer inputs [in, n] by layer and group.
    """
    bits: dict[str, tuple[tuple[int, ...], ...]] = {}
    if spec.adc_bits == NEEDED and spec.adc is AdcBuild.DESIGN_TIME:
        filled, _ = fill_formats(network, spec.native_weight, spec.native_activation)
        maps = map_network(filled, 1, spec)
        built = network_adcs(filled, maps, spec).built_bits
        bits = {name: (built[: m.slices],) * m.row_tiles for name, m in maps.items()}
    given = samples or {}
    return lambda layer: arithmetic_of(layer, spec, seed=seed, bits=bits.get(layer.name), samples=given.get(layer.name))


@dataclass(frozen=True, slots=True)
class _Calibrated:
    """Places matrices of a layer behind converters whose ranges its own inputs set."""

    layer: str
    spec: ReramSpec
    weight_bits: int
    input_bits: int
    signed: bool
    seed: int
    samples: Sequence[NDArray[Any]] | None

    def __call__(self, weights: NDArray[np.int64], group: int = 0) -> ReramProduct:
        if self.samples is None or group >= len(self.samples):
            raise UnsupportedError(
                f"layer '{self.layer}': adc_range 'calibrated' takes its ranges from calibration data and there are none; "
                "measure with --accuracy and --data, or pass samples to arithmetic_in"
            )
        tops = partial(self._tops, weights, self.samples[group])
        place = programmer(
            self.spec, self.weight_bits, self.input_bits, self.signed, seed=self.seed, name=self.layer, hi=tops
        )
        return place(weights, group)

    def _tops(self, weights: NDArray[np.int64], inputs: NDArray[Any], bipolar: bool) -> tuple[tuple[float, ...], ...]:
        """Return the range for pulses with a sign, or without: whichever the product streams, whatever the samples' signs."""
        crossbar = crossbar_spec(self.spec, self.weight_bits, self.input_bits, bipolar)
        return calibrated_range(weights, inputs, crossbar, self.spec.adc_percentile)[1]


def _check_exact(layer: Layer, crossbar: CrossbarSpec, spec: ReramSpec) -> None:
    """Refuse products of two activations that would lose something: their values are not known when converters are set."""
    bits = spec.stated_adc_bits or (crossbar.lossless_adc_bits,)
    if spec.device is not None or spec.adc_range is not AdcRange.EXACT or min(bits) < crossbar.lossless_adc_bits:
        raise UnsupportedError(
            f"layer '{layer.name}' multiplies two activations in crossbars (dynamic_matmul write), which is computed for "
            f"exact products only: no device, adc_range exact and adc_bits of {crossbar.lossless_adc_bits} or more; "
            "use dynamic_matmul digital or host"
        )


def _bits_text(spec: ReramSpec, bits: Sequence[Sequence[int]] | None) -> str:
    if isinstance(spec.adc_bits, int):
        return f"{spec.adc_bits}-bit"
    per_slice = bits[0] if bits else spec.stated_adc_bits
    return "/".join(str(b) for b in per_slice) + "-bit" if per_slice else "as many bits as needed of"
