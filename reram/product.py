"""The arithmetic hook: an integer weight matrix in the crossbars of a design, for inputs with or without a sign.

Unsigned inputs stream as they are. Inputs with a sign stream either in two's complement, x = low - 2^(m-1) s with the
sign bit s in a step of its own (ISAAC's way), or as bipolar pulses. What comes decides: a layer after a ReLU never
sends a sign. All streams of a matrix go through the same cells and converters.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.reram.arithmetic import program
from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.devices import DeviceSpec
from picojoule.reram.needs import adc_needs
from picojoule.reram.spec import NEEDED, ReramSpec, SignedInputs, crossbar_spec
from picojoule.sim.errors import InputError

TileBits = Sequence[Sequence[int]]
"""By row tile and slice (least significant first); 0: no converter, for cells that are all empty."""
TileTops = Sequence[Sequence[float]] | Callable[[bool], Sequence[Sequence[float]]]
"""`CrossbarSpec.adc_hi` by row tile and slice, for the pulses of the stream that carries a whole input; or a function that
returns it for pulses with a sign (True) or without."""

_SEED_BITS = 63


class ReramProduct:
    """Weights [out, in] in the crossbars of a design; each way of streaming is programmed when it is first needed.

    `bits` and `hi` replace the converters of the design, row tile by row tile. Without them `adc_bits: needed` takes what
    these weights need. `device_seed` is the piece of hardware, where the design has a device.
    """

    def __init__(
        self,
        weights: NDArray[np.int64],
        spec: ReramSpec,
        weight_bits: int,
        input_bits: int,
        signed: bool,
        *,
        device_seed: int = 0,
        bits: TileBits | None = None,
        hi: TileTops | None = None,
    ) -> None:
        self.weights, self.spec = weights, spec
        self.weight_bits, self.input_bits, self.signed = weight_bits, input_bits, signed
        self.device_seed, self.bits, self.hi = device_seed, bits, hi
        self._programs: dict[tuple[int, bool], Any] = {}
        self._solved: dict[int, Any] = {}  # cells behind wires, which all streams share

    @property
    def exact(self) -> bool:
        """Whether no conversion can lose anything, whatever the inputs; never with a device, whose cells differ."""
        if self.spec.device is not None:
            return False
        # The sign step and the bits below it use pulses no larger than the unsigned stream, on the same cells and ADCs.
        streams = [self._program(self.input_bits, bipolar=False)]
        if (
            self.spec.signed_inputs is SignedInputs.BIPOLAR
        ):  # also for unsigned formats: the caller may find signs in them
            streams.append(self._program(self.input_bits, bipolar=True))
        return all(s.lossless_share == 1.0 for s in streams)

    def matmul(self, inputs: NDArray[Any], *, signed: bool | None = None) -> NDArray[np.float64]:
        """Return [out, batch] for integer inputs [in, batch], in integer product units.

        Bipolar designs stream by the format, `signed`, so that a sample does not depend on those beside it; with a sign step
        a column without negative inputs computes the same either way. True also lets inputs of an unsigned format have signs:
        calibration gives such a format a sign where its values need one.

        Raises:
            InputError: if an input leaves the range of the format.

        """
        negative = bool(inputs.size and inputs.min() < 0)
        has_sign = self.signed or bool(signed)
        by_format = bool(signed) and self.spec.signed_inputs is SignedInputs.BIPOLAR
        if not (negative or by_format):
            return self._product(self.input_bits, inputs)
        if not has_sign or self.spec.signed_inputs is SignedInputs.BIPOLAR:
            return self._product(self.input_bits, inputs, bipolar=has_sign)
        low_bits = self.input_bits - 1
        sign = inputs < 0
        low = inputs + sign * float(1 << low_bits)
        return self._product(low_bits, low) - float(1 << low_bits) * self._product(1, sign)

    def _product(self, bits: int, inputs: NDArray[Any], *, bipolar: bool = False) -> NDArray[np.float64]:
        made: NDArray[np.float64] = self._program(bits, bipolar=bipolar).matmul(inputs)
        return made

    def _program(self, bits: int, *, bipolar: bool) -> Any:
        key = (bits, bipolar)
        if key not in self._programs:
            self._programs[key] = program(self.weights, self._crossbar(bits, bipolar), solved=self._solved)
        return self._programs[key]

    def _crossbar(self, bits: int, bipolar: bool) -> CrossbarSpec:
        """Return the crossbars of a stream: the design's, with this matrix's converters and this piece of hardware."""
        made = crossbar_spec(self.spec, self.weight_bits, bits, bipolar)
        changes: dict[str, Any] = {}
        if made.device is not None:
            changes = {"seed": self.device_seed, "device": _with_shared_converters(made.device, self.spec)}
        tile_bits = self.bits
        if tile_bits is None and self.spec.adc_bits == NEEDED:
            tile_bits = adc_needs(self.weights, made, percentile=self.spec.adc_percentile).nested_bits
        if tile_bits is not None:
            least = 1 + int(made.needs_signed_adc)  # an unsigned converter of 1 bit that now takes sums with a sign
            changes["adc_bits"] = tuple(tuple(max(int(b), least) if b else 0 for b in row) for row in tile_bits)
        if self.hi is not None:
            # A converter spans what it spans; counted in full pulses, that is more of a stream with smaller pulses.
            whole = crossbar_spec(self.spec, self.weight_bits, self.input_bits, bipolar)
            scale = whole.pulse_max / made.pulse_max
            hi = self.hi(bipolar) if callable(self.hi) else self.hi
            changes |= {"adc_lo": None, "adc_hi": tuple(tuple(float(h) * scale for h in row) for row in hi)}
        self._check_tiles(made, changes)
        return made.replace(**changes) if changes else made

    def _check_tiles(self, made: CrossbarSpec, changes: dict[str, Any]) -> None:
        tiles = -(-self.weights.shape[1] // made.tile_rows)
        for name, what in (("adc_bits", "bits"), ("adc_hi", "hi")):
            rows = changes.get(name)
            if rows is not None and (len(rows) != tiles or any(len(row) != made.slices for row in rows)):
                raise InputError(
                    f"{what} must be {tiles} row tile(s) of {made.slices} slice(s) for {self.weights.shape[1]} inputs, "
                    f"got {len(rows)} of {sorted({len(row) for row in rows})}"
                )


def _with_shared_converters(device: DeviceSpec, spec: ReramSpec) -> DeviceSpec:
    """Return the device with as many columns per converter as the design has, unless it says how many itself.

    A converter that serves several arrays is drawn once for each.
    """
    if device.columns_per_adc is not None:
        return device
    return device.model_copy(update={"columns_per_adc": max(1, round(min(spec.columns_per_adc, spec.crossbar_cols)))})


def programmer(
    spec: ReramSpec,
    weight_bits: int,
    input_bits: int,
    signed: bool,
    *,
    seed: int = 0,
    name: str = "",
    bits: Any = None,
    hi: Any = None,
) -> Callable[..., ReramProduct]:
    """Return what places integer weights [out, in] of a layer in the crossbars of a design (it pickles).

    It is called as `place(weights, group=0)`. `bits` and `hi` are those of `ReramProduct`, by row tile and slice for all
    groups alike, or by group, row tile and slice (nested sequences or arrays); None: the design's. Errors of the `device`
    follow (`seed`, `name`, group) and nothing else, so each group of each layer is a piece of hardware of its own.
    """
    return partial(
        _placed, spec=spec, widths=(weight_bits, input_bits), signed=signed, chance=(seed, name), bits=bits, hi=hi
    )


def _placed(
    weights: NDArray[np.int64],
    group: int = 0,
    *,
    spec: ReramSpec,
    widths: tuple[int, int],
    signed: bool,
    chance: tuple[int, str],
    bits: Any,
    hi: Any,
) -> ReramProduct:
    return ReramProduct(
        weights,
        spec,
        *widths,
        signed,
        device_seed=child_seed(*chance, group),
        bits=_of_group(bits, group, "bits"),
        hi=_of_group(hi, group, "hi"),
    )


def child_seed(seed: int, name: str, group: int) -> int:
    """Return the seed of a layer's group: from (seed, layer name, group) and nothing else, in every process."""
    digest = hashlib.sha256(f"{seed}:device:{name}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _SEED_BITS)


def _of_group(values: Any, group: int, what: str) -> Any:
    """Return the row tiles of a group: `values` themselves, or their entry where they are given group by group."""
    if values is None or callable(values):
        return values
    depth = 0
    inner = values
    while isinstance(inner, Sequence | np.ndarray) and len(inner):
        depth, inner = depth + 1, inner[0]
    if depth not in (2, 3):
        raise InputError(
            f"{what} must be nested by row tile and slice, or by group, row tile and slice; got depth {depth}"
        )
    if depth == 2:
        return values
    if not 0 <= group < len(values):
        raise InputError(f"{what} are given for {len(values)} group(s), so there is none for group {group}")
    return values[group]
