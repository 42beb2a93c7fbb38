"""Values and keys of a ReRAM hardware file that need more than their type said when they are wrong; for `spec`."""

import re
from collections.abc import Mapping
from typing import Any

from picojoule.reram.device_presets import DEVICE_PRESETS
from picojoule.sim.errors import unknown_choice

MOST_BITS = 16
"""Widest weight or input that crossbars take (ISAAC's native width and the limit of `CrossbarSpec`)."""
NEEDED = "needed"
"""`adc_bits` that follow the network's own weights."""

_OTHER_NAMES = {
    "tile_rows": "crossbar_rows",
    "tile_cols": "crossbar_cols",
    "slices": "cell_bits",
    "cell_max": "cell_bits",
    "input_bits": "activation_bits",
    "input_bits_per_step": "dac_bits",
    "r_on_ohm": "device.g_max_us",
    "r_off_ohm": "device.on_off_ratio",
    "wire_ohm_per_cell": "device.wire_ohm_per_cell",
    "wire_model": "device.wire_model",
    "preset": "device.preset",
}
"""What `CrossbarSpec` and others call a key, and its name here."""
_ADC_BITS_RULE = (
    f"must be a number from 1 to {MOST_BITS}, one for each slice such as [7, 7, 7, 7] (least significant first), or "
    f"'{NEEDED}'"
)
_ALWAYS_CONVERTS = "hardware always has ADCs, only CrossbarSpec(adc_bits=None) in Python has none"


def check_names(values: Any) -> Any:
    """Return the mapping as it is.

    Raises:
        ValueError: for a key that has another name here.

    """
    if isinstance(values, Mapping):
        for name, here in _OTHER_NAMES.items():
            if name in values:
                raise ValueError(f"unknown key '{name}'; did you mean '{here}'?")
    return values


def check_adc_bits(value: Any) -> Any:
    """Take a number, the lists that YAML and JSON write (as a tuple), or `needed`; ValueError for anything else."""
    if value == NEEDED:
        return value
    if _is_whole(value):
        if value > MOST_BITS:
            raise ValueError(f"must be at most {MOST_BITS}")
        if value < 1:
            raise ValueError(f"must be at least 1, got {value}" + (f"; {_ALWAYS_CONVERTS}" if value == 0 else ""))
        return value
    if not isinstance(value, list | tuple):
        raise ValueError(f"{_ADC_BITS_RULE}, got {value!r}{_adc_bits_hint(value)}")
    if not value:
        raise ValueError(f"the list is empty; it {_ADC_BITS_RULE}")
    wrong = [(k, b) for k, b in enumerate(value) if not (_is_whole(b) and 1 <= b <= MOST_BITS)]
    if wrong:
        k, bits = wrong[0]
        hint = f"; '{NEEDED}' leaves out the ADC of slices that hold nothing" if bits == 0 else ""
        raise ValueError(f"each slice takes a number from 1 to {MOST_BITS}, got {bits!r} for slice {k}{hint}")
    return tuple(value)


def check_device(value: Any) -> Any:
    """Take what may be a device; ValueError for the bare name of one, and for anything else that has no keys."""
    if not isinstance(value, str | bool | int | float | list | tuple):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be a mapping of keys such as {{preset: milo-2021}}, got {value!r}")
    if value.lower() in ("none", "ideal", ""):
        raise ValueError(f"must be a mapping of keys, got {value!r}; write device=null for no imperfections")
    if value not in DEVICE_PRESETS:
        problem = unknown_choice("device preset", value, list(DEVICE_PRESETS))
        raise ValueError(f"must be a mapping of keys such as {{preset: NAME}}, got {value!r}; {problem}")
    raise ValueError(f"must be a mapping of keys, got {value!r}; write device.preset={value}")


def _adc_bits_hint(value: Any) -> str:
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
        return f"; {_ALWAYS_CONVERTS}"
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,2}(\s*,\s*\d{1,2})*\s*", value):
        numbers = [int(part) for part in value.split(",")]
        return f"; write adc_bits={numbers[0] if len(numbers) == 1 else numbers}"
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
