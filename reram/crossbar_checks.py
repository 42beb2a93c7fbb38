"""What a crossbar's fields may hold, and how wrong ones are told; for `crossbar`.

A field of the converters is one value, one per slice (least significant first), or for each row tile one per slice.
"""

import math
from typing import Any

import numpy as np
from pydantic import ValidationError

from picojoule.sim.errors import InputError, nearest, unknown_choice

# Whole-number fields: smallest and largest value. Products of the largest ones stay far inside int64.
LIMITS = {
    "weight_bits": (2, 16),
    "slices": (1, 16),
    "cell_max": (1, 65535),
    "input_bits": (1, 16),
    "input_bits_per_step": (0, 16),
    "tile_rows": (1, 65536),
    "tile_cols": (1, 65536),
    "rows_active": (1, 65536),
    "seed": (0, (1 << 63) - 1),
}
MOST_ADC_BITS = 24

_TYPES = dict.fromkeys(LIMITS, "a whole number") | {
    "rows_active": "a whole number, or None for all rows",
    "signed_inputs": "true or false",
    "adc_bits": "a whole number, one per slice (least significant first) or per row tile and slice, or None for no ADC",
    "adc_lo": "a number, one per slice (least significant first) or per row tile and slice, or None",
    "adc_hi": "a number, one per slice (least significant first) or per row tile and slice, or None",
    "r_on_ohm": "a number",
    "r_off_ohm": "a number, or None for infinite",
    "wire_ohm_per_cell": "a number, or None for ideal wires",
    "wire_model": "'exact' or 'fast'",
}


def plain(value: Any) -> Any:
    """Return numpy numbers and lists as Python writes them."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(plain(v) for v in value) if isinstance(value, list | tuple) else value


def sentence(error: ValidationError, values: dict[str, Any], fields: list[str], encodings: list[str]) -> str:
    """Return what is wrong in one sentence; only the first of several faults is named."""
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"a crossbar has no field '{name}'{nearest(name, fields)}"
    if name == "encoding":
        return unknown_choice("encoding", str(values[name]), encodings)
    return f"{name} must be {_TYPES[name]}, got {values[name]!r}"


# ---- cells and inputs


def check_cells(spec: Any) -> None:
    """Raise InputError for cells that cannot hold the weights of a `CrossbarSpec`, and for impossible resistances."""
    needed_bits = spec.stored_bits
    cell_bits = spec.cell_max.bit_length()
    held = f"{spec.weight_bits}-bit weights in {spec.encoding.value} encoding"
    if spec.cell_max + 1 != 1 << cell_bits:
        if spec.slices > 1:
            raise InputError(
                f"cell_max must be 1, 3, 7, 15, ... (2**bits - 1) with several slices, got {spec.cell_max}; "
                "use slices=1 for one analogue cell"
            )
        if spec.cell_max < (1 << needed_bits) - 1:
            raise InputError(f"{held} need cell_max of at least {(1 << needed_bits) - 1}, got {spec.cell_max}")
    elif spec.slices * cell_bits < needed_bits:
        raise InputError(
            f"{held} need {needed_bits} bits of cells, got {spec.slices} x {cell_bits}; "
            "use more slices or a larger cell_max"
        )
    for name in ("r_on_ohm", "r_off_ohm"):
        value = getattr(spec, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} must be more than 0 and finite, got {value:g}")
    wire_ohm = spec.wire_ohm_per_cell
    if wire_ohm is not None and not (math.isfinite(wire_ohm) and wire_ohm >= 0):
        raise InputError(f"wire_ohm_per_cell must be 0 or more and finite, got {wire_ohm:g}")
    if spec.r_off_ohm is not None and spec.r_off_ohm <= spec.r_on_ohm:
        raise InputError(f"r_off_ohm must be larger than r_on_ohm ({spec.r_on_ohm:g}), got {spec.r_off_ohm:g}")


def check_inputs(spec: Any) -> None:
    """Raise InputError for pulses that cannot carry the inputs of a `CrossbarSpec`."""
    if spec.magnitude_bits < 1:
        raise InputError(f"input_bits must be at least 2 where signed_inputs is true, got {spec.input_bits}")
    if spec.input_bits_per_step > spec.magnitude_bits:
        raise InputError(
            f"input_bits_per_step must be at most the {spec.magnitude_bits} magnitude bits of an input, "
            f"got {spec.input_bits_per_step}; use 0 for one analogue pulse"
        )


# ---- fields of the converters


def value_at(value: Any, tile: int, k: int) -> Any:
    """Return what a converter field says for slice k of a row tile."""
    if not isinstance(value, tuple):
        return value
    return value[tile][k] if _is_nested(value) else value[k]


def tiles_of(values: tuple[Any, ...]) -> int | None:
    """Return for how many row tiles one of these fields gives values one by one; None: no field does."""
    counts = [len(value) for value in values if _is_nested(value)]
    return counts[0] if counts else None


def check_shapes(fields: dict[str, Any], slices: int) -> None:
    """Raise InputError for a tuple that is not as long as there are slices, or row tiles in another field."""
    tiles = tiles_of(tuple(fields.values()))
    for name, value in fields.items():
        if _is_nested(value):
            if len(value) != tiles:
                raise InputError(f"{name} must have one entry per row tile ({tiles}), got {len(value)}")
            for tile, of_slices in enumerate(value):
                if len(of_slices) != slices:
                    raise InputError(f"{name}[{tile}] must have one value per slice ({slices}), got {len(of_slices)}")
        elif isinstance(value, tuple) and len(value) != slices:
            raise InputError(f"{name} must have one value per slice ({slices}), got {len(value)}")


def check_converter(bits: int, lo: float | None, hi: float | None, signed_why: str | None) -> None:
    """Raise InputError for an impossible converter; `signed_why` names what makes column sums negative, if anything does."""
    if not 1 <= bits <= MOST_ADC_BITS:
        hint = "; use None for no ADC" if bits == 0 else ""
        raise InputError(f"adc_bits must be between 1 and {MOST_ADC_BITS}, got {bits}{hint}")
    if hi is None and lo is not None:
        raise InputError("adc_lo is given without adc_hi; give both, or neither for one code per cell unit")
    _check_top(hi)
    if hi is not None and lo is not None and not (lo == 0 or abs(lo + hi) <= 1e-9 * hi):
        raise InputError(f"adc_lo must be 0, or -adc_hi for a signed ADC, got {lo:g} with adc_hi {hi:g}")
    if lo == 0 and signed_why:
        raise InputError(f"{signed_why} need a signed ADC: adc_lo must be -adc_hi, got 0")
    if bits < 2 and (signed_why or (lo is not None and lo < 0)):
        raise InputError("a signed ADC has at least 2 bits, got adc_bits 1")


def check_unused_range(lo: Any, hi: Any) -> None:
    """Raise InputError for a range that no converter can have, where there is none that would use it."""
    for end in _flat(hi):
        _check_top(end)
    for end in _flat(lo):
        if end is not None and not (math.isfinite(end) and end <= 0):
            raise InputError(f"adc_lo must be 0, or -adc_hi for a signed ADC, got {end:g}")


def _check_top(hi: float | None) -> None:
    if hi is not None and not (math.isfinite(hi) and hi > 0):
        raise InputError(f"adc_hi must be more than 0 and finite, got {hi:g}")


def _flat(value: Any) -> list[Any]:
    return [end for part in value for end in _flat(part)] if isinstance(value, tuple) else [value]


def _is_nested(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], tuple)
