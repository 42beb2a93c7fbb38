"""Bit-serial and bit-plane execution: integer products from single bits, exactly; their cycles, storage and energy.

An integer of b bits is a sum over planes: value 2^i for bit i, but -2^(b-1) for the top bit of a signed one (two's complement).
A weight of +1 or -1 (format `binary`) is one stored bit, 2 bit - 1: a plane worth 2 and a plane of ones worth -1 that nobody
stores. Hence, with S the values of planes,

    Y = sum over weight planes p and input planes q of S_p S_q popcount(W_p & X_q),

the decomposition of EBS (Li et al., CVPR 2020) and BISMO (Umuroglu et al., FPL 2018).

| precision  | a PE's cycle                                                          | a MAC of w x a bits      |
| ---------- | --------------------------------------------------------------------- | ------------------------ |
| bit_serial | one weight bit times a whole activation (Stripes, Judd et al. 2016)    | w cycles                 |
| bit_plane  | AND and count of one plane pair over `lanes` positions of the reduction | w a / lanes cycles       |

A bit-plane PE with w a lanes has as many AND gates and nearly as many adders as a w x a multiplier: 64 lanes are the fair
match of an int8 PE, equally fast at 8 x 8 bits and 4 times as fast at 4 x 4. It holds the planes of `lanes` stationary operands;
the array's edge holds the other planes while they are used again, so that SRAM words are those of whole operands.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim import technology as tech
from picojoule.sim.errors import InputError
from picojoule.sim.formats import FormatKind, NumberFormat

PLANE_LANES = 64
"""AND gates of an 8 x 8 multiplier."""
_EXACT_BITS = 53  # products are handed on as float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Planes:
    """How codes of a format are cut: bits stored, their values, and the value of a plane of ones that is not stored (or 0)."""

    bits: int
    signed: bool
    offset: int = 0
    scale: int = 1

    @property
    def values(self) -> tuple[int, ...]:
        """What a one in each stored plane is worth, lowest first."""
        top = self.bits - 1
        return tuple(self.scale * (-(1 << i) if self.signed and i == top else 1 << i) for i in range(self.bits))

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        values = self.values
        return self.offset + sum(v for v in values if v < 0), self.offset + sum(v for v in values if v > 0)

    def stored(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the integers whose low bits are stored."""
        stored: NDArray[np.int64] = (codes - self.offset) // self.scale
        return stored

    def stored_bits(self, elements: int) -> int:
        """Return what so many elements take in memory."""
        return elements * self.bits


def planes_of(form: NumberFormat) -> Planes:
    """Return how an integer format is cut into planes.

    Raises:
        InputError: for a format that is not integer.

    """
    if not form.is_integer:
        raise InputError(f"bit planes need an integer format, got {form}; use int2 to int16, ternary or binary")
    if form.kind is FormatKind.BINARY:
        return Planes(bits=1, signed=False, offset=-1, scale=2)
    return Planes(bits=form.bits, signed=form.signed)


@dataclass(frozen=True, slots=True)
class PlaneProduct:
    """Weights [out, in] as bit planes; multiplies integer inputs plane by plane.

    `serial` takes the weight's planes one by one against whole inputs, otherwise both operands are cut. `exact` False makes an
    executor go through the planes where it would take the equal integer product.
    """

    weights: NDArray[np.int64]
    weight_planes: Planes
    input_planes: Planes
    serial: bool = False
    exact: bool = True
    name: str = field(default="weights")

    def matmul(self, inputs: NDArray[Any], *, signed: bool | None = None) -> NDArray[np.float64]:
        """Return [out, batch] for integer inputs [in, batch]; `signed` replaces the input format's own sign.

        Calibration gives inputs that are never negative an unsigned format of as many bits.

        Raises:
            InputError: for codes that their formats do not have, inputs that are not whole, or sums beyond 2^53.

        """
        given = np.asarray(inputs)
        if not (np.isfinite(given) & (given == np.rint(given))).all():
            raise InputError(
                f"{self.name}: bit planes multiply whole numbers, and some of the inputs are not; quantize them first"
            )
        x = given.astype(np.int64)
        planes = (
            self.input_planes
            if signed is None or self.input_planes.offset
            else replace(self.input_planes, signed=signed)
        )
        self._check(x, planes)
        product = self._serial(x) if self.serial else self._planes(x, planes)
        return product.astype(np.float64)

    def _planes(self, x: NDArray[np.int64], x_planes: Planes) -> NDArray[np.int64]:
        from picojoule.accel.systolic._bit_plane_kernels import packed, plane_product  # numba only where it is run

        w_planes, w, x_words = self.weight_planes, self.weights, np.ascontiguousarray(x.T)
        cut_w = packed(np.ascontiguousarray(w_planes.stored(w)), w_planes.bits)
        cut_x = packed(x_planes.stored(x_words), x_planes.bits)
        values_w, values_x = np.array(w_planes.values), np.array(x_planes.values)
        total: NDArray[np.int64] = plane_product(cut_w, values_w, cut_x, values_x)
        # Planes of ones that nobody stores: the other operand's bits, counted once per line.
        if w_planes.offset:
            total = total + w_planes.offset * x.sum(0)[None, :]
        if x_planes.offset:
            total = total + x_planes.offset * (w - w_planes.offset).sum(1)[:, None]
        return np.asarray(total)

    def _serial(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        stored = self.weight_planes.stored(self.weights)
        total = np.full((len(stored), x.shape[1]), self.weight_planes.offset) * x.sum(0)[None, :]
        for i, value in enumerate(self.weight_planes.values):
            total = total + value * (((stored >> i) & 1) @ x)
        return np.asarray(total)

    def _check(self, x: NDArray[np.int64], x_planes: Planes) -> None:
        for what, codes, planes in (("weights", self.weights, self.weight_planes), ("inputs", x, x_planes)):
            low, high = planes.range
            if codes.size and (codes.min() < low or codes.max() > high):
                raise InputError(
                    f"{self.name}: {what} of {planes.bits} {'signed' if planes.signed else 'unsigned'} bits lie between {low} "
                    f"and {high}, got {codes.min()} to {codes.max()}"
                )
            if not np.array_equal(planes.stored(codes) * planes.scale + planes.offset, codes):
                raise InputError(
                    f"{self.name}: {what} of one bit that stands for {low} or {high} hold another code; use a wider format"
                )
        largest = max(abs(v) for v in self.weight_planes.range) * max(abs(v) for v in x_planes.range)
        if largest * self.weights.shape[1] >= 1 << _EXACT_BITS:
            raise InputError(
                f"{self.name}: {self.weights.shape[1]} products of {self.weight_planes.bits} x {x_planes.bits} bits may "
                f"leave 2^{_EXACT_BITS}; split the layer"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneProgrammer:
    """Places weight matrices as bit planes (`protocol.Programmer`): for `Arithmetic(program=...)`."""

    weight: NumberFormat
    activation: NumberFormat
    serial: bool = False
    exact: bool = True
    name: str = "weights"

    def __call__(self, weights: NDArray[np.int64], group: int = 0) -> PlaneProduct:
        """Return the planes of a matrix [out, in]."""
        return PlaneProduct(
            weights.astype(np.int64),
            planes_of(self.weight),
            planes_of(self.activation),
            serial=self.serial,
            exact=self.exact,
            name=self.name if group == 0 else f"{self.name}, group {group}",
        )


def narrowing(precision: str, weight_bits: int, activation_bits: int, lanes: int = PLANE_LANES) -> tuple[int, int]:
    """Return (positions of the reduction that a PE takes at once, cycles it takes for them)."""
    if precision == "bit_serial":
        return 1, weight_bits
    return lanes, weight_bits * activation_bits


def plane_step_energy_pj(lanes: int, accumulator_bits: int, node_nm: float) -> dict[str, float]:
    """Return the energy of one step of a bit-plane PE by constant: AND and count of `lanes` bits, then one addition.

    Derived: an int8 multiplier (Horowitz, ISSCC 2014, 0.2 pJ) is 64 AND gates and the adders behind them, so a lane takes
    1/64 of it; the sum is added at the accumulator's width (0.1 pJ at 32 bits). Shifting is wiring.
    """
    scale = float(tech.logic_energy_scale(45, node_nm))
    suffix = tech.logic_scale_key(45, node_nm)
    multiply, add = tech.constant("mac.int8.multiply.45nm"), tech.constant("mac.int32.add.45nm")
    return {
        tech.product_key(multiply.name, suffix): lanes / 64 * multiply.value * scale,
        tech.product_key(add.name, suffix): accumulator_bits / 32 * add.value * scale,
    }


def plane_area_um2(lanes: int, accumulator_bits: int, node_nm: float) -> float:
    """Return the area in um2 of what `plane_step_energy_pj` prices, split the same way (Horowitz's areas at 45 nm)."""
    multiply, add = tech.constant("mac.int8.multiply.area.45nm"), tech.constant("mac.int32.add.area.45nm")
    area = lanes / 64 * multiply.value + accumulator_bits / 32 * add.value
    return area * float(tech.logic_area_scale(45, node_nm))


def plane_mac_energy_pj(
    weight_bits: int, activation_bits: int, lanes: int, accumulator_bits: int, node_nm: float
) -> dict[str, float]:
    """Return the energy of a multiply-accumulate on bit planes by constant: its share of w x a steps."""
    share = weight_bits * activation_bits / lanes
    return {key: share * pj for key, pj in plane_step_energy_pj(lanes, accumulator_bits, node_nm).items()}
