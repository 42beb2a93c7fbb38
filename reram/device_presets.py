"""Measured and published devices, by name: conductances, errors and drift that `DeviceSpec(preset=...)` starts from.

Every number has its source beside it; `basis` is published (printed or in the source's code), derived (one step of
arithmetic from it) or estimate (our choice). A key that a preset does not have is off (see `DeviceSpec`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_KOHM_US = 1e3
"""Microsiemens of 1 kohm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePreset:
    """One device: values of `DeviceSpec` keys, where they are from, and what a reader must know."""

    values: Mapping[str, Any]
    source: str
    basis: str
    notes: str = ""


_AIHWKIT_WAN = "Wan et al., Nature 608 (2022), as fitted in AIHWKIT's ReRamWan2022NoiseModel"
_AIHWKIT_WAN_NOTES = (
    "spread of conductances {}; sigma in uS over g = G/g_max; the crossbar says what empty cells conduct"
)


def _wan_aihwkit(coefficients: tuple[float, ...], after: str) -> DevicePreset:
    return DevicePreset(
        values={"g_max_us": 40.0, "programming_polynomial_us": coefficients, "programming_argument": "share"},
        source=_AIHWKIT_WAN,
        basis="published",
        notes=_AIHWKIT_WAN_NOTES.format(after),
    )


DEVICE_PRESETS: Mapping[str, DevicePreset] = {
    "ideal": DevicePreset(values={}, source="none: every effect off", basis="published"),
    "crosssim-isaac": DevicePreset(
        values={"g_max_us": _KOHM_US / 2.0, "on_off_ratio": 1000.0},
        source="CrossSim 3.2 ISAAC preset: 2 kohm on, 2 Mohm off, 2-bit cells",
        basis="published",
        notes="no errors",
    ),
    "neurosim-rram": DevicePreset(
        values={"g_max_us": _KOHM_US / 6.0, "on_off_ratio": 17.0},
        source="NeuroSim V1.4/1.5 default RRAM: 6 kohm on, on/off 17",
        basis="published",
        notes="its sigma is an option, off by default",
    ),
    "cimloop-isaac": DevicePreset(
        values={"g_max_us": _KOHM_US / 1.333, "on_off_ratio": 20.0 / 1.333},
        source="CiMLoop ISAAC cell: 1.333 kohm on, 20 kohm off",
        basis="published",
        notes="no errors",
    ),
    "cimloop-neurosim": DevicePreset(
        values={"g_max_us": _KOHM_US / 6.0, "on_off_ratio": 150.0},
        source="CiMLoop NeuroSim cell: 6 kohm on, 900 kohm off",
        basis="published",
        notes="no errors",
    ),
    "cimloop-wan": DevicePreset(
        values={"g_max_us": _KOHM_US / 250.0, "on_off_ratio": 4.0},
        source="CiMLoop Wan 2022 cell: 250 kohm on, 1 Mohm off",
        basis="published",
        notes="no errors; for errors of this chip see wan-2022",
    ),
    "mnsim-default": DevicePreset(
        values={
            "g_max_us": _KOHM_US / 10.0,
            "on_off_ratio": 100.0,
            "programming_sigma": 0.01,
            "stuck_on": 0.001,
            "stuck_off": 0.001,
        },
        source="MNSIM 2.0 SimConfig.ini: 10 kohm on, 1 Mohm off, variation 1 %, stuck-at faults 0.1 % + 0.1 %",
        basis="published",
        notes="its variation is relative to a cell's own resistance; taken here as 1 % of g_max in every state (estimate)",
    ),
    "milo-2021": DevicePreset(
        values={
            "g_max_us": 225.0,
            "on_off_ratio": 225.0 / 50.0,
            "programming_polynomial_us": (4.782, -0.00911),
            "programming_argument": "microsiemens",
        },
        source="Milo et al. 2021, RRAM, as fitted in CrossSim 3.2: G 50-225 uS, sigma = max(0, 4.782 - 0.00911 G) uS",
        basis="published",
    ),
    "wan-2022": DevicePreset(
        values={
            "g_max_us": 39.26,
            "programming_polynomial_us": (1.053, 0.2374, -0.01167, 1.536e-4),
            "programming_argument": "microsiemens",
        },
        source="Wan et al., Nature 608 (2022), RRAM, as fitted in CrossSim 3.2: "
        "sigma = 1.536e-4 G^3 - 0.01167 G^2 + 0.2374 G + 1.053 uS",
        basis="published",
        notes="the crossbar says what empty cells conduct",
    ),
    "wan-2022-aihwkit": _wan_aihwkit((0.348, 16.03, -43.853, 45.393, -16.815), "1 s after programming"),
    "wan-2022-aihwkit-1day": _wan_aihwkit((0.701, 22.086, -50.773, 47.095, -16.458), "1 day after programming"),
    "wan-2022-aihwkit-2days": _wan_aihwkit((0.782, 20.274, -43.507, 37.062, -11.934), "2 days after programming"),
    "pcm-aihwkit": DevicePreset(
        values={
            "g_max_us": 25.0,
            "programming_polynomial_us": (0.26348, 1.965, -1.1731),
            "programming_argument": "share",
            "drift_nu_law": (0.0244, -0.0155, 0.049, 0.1),
            "drift_nu_sigma_law": (-0.0059, -0.0125, 0.008, 0.045),
            "drift_t0_s": 20.0,
            "time_s": 20.0,
            "read_noise_law": (0.0088, 0.65, 0.2),
            "read_noise_t_read_s": 250e-9,
        },
        source="PCM, Nandakumar et al., ICECS 2019, as in AIHWKIT's PCMLikeNoiseModel",
        basis="published",
        notes="read at t0 (no drift yet) unless time_s says later; AIHWKIT draws its 1/f noise once per time, here every "
        "read draws anew (estimate)",
    ),
}


def device_presets() -> list[dict[str, Any]]:
    """Return every device preset as a plain row: name, values, source, basis, notes."""
    return [
        {"name": name, "values": dict(p.values), "source": p.source, "basis": p.basis, "notes": p.notes}
        for name, p in DEVICE_PRESETS.items()
    ]
