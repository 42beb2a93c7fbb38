"""What real cells, wires and converters do wrong: the knobs, each with its symbol, unit and what 0 means.

`analog.program_analog` applies them. Conductances are in microsiemens (uS); G is a cell's conductance, G_max that of a
full cell, g = G / G_max. A key that is not given comes from `preset`, and is off without one; 0 switches an effect off.
Left out: what a device costs (`spec`), asymmetric writes, temperature, correlated errors of neighbouring cells.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from picojoule.reram.crossbar import CrossbarSpec
from picojoule.reram.device_presets import DEVICE_PRESETS, device_presets
from picojoule.sim.errors import InputError, nearest, unknown_choice
from picojoule.sim.specs import Spec

__all__ = ["Device", "DeviceSpec", "device_presets"]

Coefficients = tuple[float, ...]
Law = tuple[float, float, float, float]
PowerLaw = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device with every choice made: plain numbers, 0 or empty = off. Fields are those of `DeviceSpec`."""

    g_max_us: float | None = None
    on_off_ratio: float | None = None
    programming_sigma: float = 0.0
    programming_polynomial_us: Coefficients = ()
    programming_argument: str = "share"
    read_noise_sigma: float = 0.0
    read_noise_law: PowerLaw | None = None
    read_noise_t_read_s: float = 250e-9
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    drift_nu_mean: float = 0.0
    drift_nu_sigma: float = 0.0
    drift_nu_law: Law | None = None
    drift_nu_sigma_law: Law | None = None
    drift_t0_s: float = 20.0
    time_s: float = 0.0
    drift_compensation: bool = False
    wire_ohm_per_cell: float | None = None
    wire_model: str | None = None
    adc_offset_sigma_lsb: float = 0.0
    adc_gain_sigma: float = 0.0
    adc_inl_lsb: float = 0.0
    columns_per_adc: int = 128

    @property
    def has_programming_error(self) -> bool:
        """Whether programmed conductances miss their targets."""
        return bool(self.programming_sigma or any(self.programming_polynomial_us))

    @property
    def has_drift(self) -> bool:
        """Whether conductances have moved since they were programmed."""
        exponent = self.drift_nu_mean or self.drift_nu_sigma or self.drift_nu_law or self.drift_nu_sigma_law
        return bool(exponent) and self.time_s > self.drift_t0_s

    @property
    def has_read_noise(self) -> bool:
        """Whether every read sees other conductances."""
        return bool(self.read_noise_sigma or (self.read_noise_law and self.read_noise_law[0]))

    @property
    def has_inexact_cells(self) -> bool:
        """Whether conductances take any value, not just those of levels."""
        return self.has_programming_error or self.has_drift or self.has_read_noise

    @property
    def has_adc_error(self) -> bool:
        """Whether converters differ from the ideal one."""
        return bool(self.adc_offset_sigma_lsb or self.adc_gain_sigma or self.adc_inl_lsb)

    @property
    def has_stuck_cells(self) -> bool:
        """Whether some cells cannot be programmed."""
        return self.stuck_on > 0 or self.stuck_off > 0

    @property
    def has_chance(self) -> bool:
        """Whether seeds give different hardware; drift that is the same for all cells of a state does not."""
        uneven_drift = self.has_drift and bool(self.drift_nu_sigma or self.drift_nu_sigma_law)
        static = self.has_stuck_cells or self.has_programming_error or uneven_drift
        return static or self.has_read_noise or self.has_adc_error

    @property
    def has_errors(self) -> bool:
        """Whether anything but wires and the on/off ratio, which `CrossbarSpec` has too, is on."""
        return self.has_stuck_cells or self.has_inexact_cells or self.has_adc_error


class DeviceSpec(Spec):
    """A device: a preset, single keys, or a preset with some keys changed. Raises InputError, one sentence, if wrong."""

    preset: str | None = Field(
        default=None, description="device to start from (`device_presets`); None: everything off"
    )
    g_max_us: float | None = Field(
        default=None, gt=0, le=1e6, description="G_max of a full cell, uS; None: from the crossbar's r_on_ohm"
    )
    on_off_ratio: float | None = Field(
        default=None, ge=0, le=1e12, description="G_max / G_min; 0: empty cells conduct nothing; None: the crossbar's"
    )
    programming_sigma: float | None = Field(
        default=None,
        ge=0,
        le=10,
        description="programming error: sigma of G over G_max, the same in all states; 0: off",
    )
    programming_polynomial_us: Coefficients | None = Field(
        default=None,
        strict=False,
        max_length=12,
        description="programming error: sigma of G in uS, max(0, c0 + c1 a + c2 a^2 + ...) of the target; empty: off",
    )
    programming_argument: Literal["share", "microsiemens"] | None = Field(
        default=None, description="a of that polynomial: share (g = G / G_max, the default) or microsiemens (G)"
    )
    read_noise_sigma: float | None = Field(
        default=None, ge=0, le=10, description="read noise: sigma of G over the cell's own G, new in every read; 0: off"
    )
    read_noise_law: PowerLaw | None = Field(
        default=None,
        strict=False,
        description="(a, e, cap): sigma over G is min(a / g^e, cap) sqrt(ln((t + t_read) / (2 t_read))), t = time_s, t0 at "
        "least (PCM, AIHWKIT); a = 0: off",
    )
    read_noise_t_read_s: float | None = Field(
        default=None, gt=0, le=1, description="t_read of that law, s (AIHWKIT: 250 ns)"
    )
    stuck_on: float | None = Field(default=None, ge=0, le=1, description="share of cells stuck at G_max; 0: none")
    stuck_off: float | None = Field(default=None, ge=0, le=1, description="share of cells stuck at G_min; 0: none")
    drift_nu_mean: float | None = Field(
        default=None, ge=0, le=2, description="mean of nu in G (t / t0)^-nu, t = time_s; one nu per cell; 0: off"
    )
    drift_nu_sigma: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description="sigma of nu over cells (below 0 its sign is dropped, as in AIHWKIT); 0: all alike",
    )
    drift_nu_law: Law | None = Field(
        default=None,
        strict=False,
        description="(a, b, least, most): mean of nu is a + b ln g of the target, clipped (PCM, AIHWKIT)",
    )
    drift_nu_sigma_law: Law | None = Field(
        default=None, strict=False, description="(a, b, least, most): sigma of nu, likewise"
    )
    drift_t0_s: float | None = Field(
        default=None,
        gt=0,
        le=1e12,
        description="t0: time after programming at which conductances are the programmed ones",
    )
    time_s: float | None = Field(
        default=None, ge=0, le=1e12, description="t: time of the read after programming, s; up to t0 (and 0): no drift"
    )
    drift_compensation: bool | None = Field(
        default=None,
        description="whether results of a row tile are multiplied by its programmed over its drifted current with all rows on",
    )
    wire_ohm_per_cell: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="wire between neighbouring cells, ohm; 0: ideal; None: the crossbar's (AIHWKIT: 0.15 ohm)",
    )
    wire_model: Literal["exact", "fast"] | None = Field(
        default=None, description="how wires are solved: exact or fast (`wires`); None: the crossbar's"
    )
    adc_offset_sigma_lsb: float | None = Field(
        default=None,
        ge=0,
        le=1e4,
        description="sigma of a converter's offset, codes; drawn once per converter; 0: none",
    )
    adc_gain_sigma: float | None = Field(
        default=None, ge=0, le=1, description="sigma of a converter's gain error (relative, about input 0); 0: none"
    )
    adc_inl_lsb: float | None = Field(
        default=None, ge=0, le=1e4, description="peak of a converter's integral nonlinearity (smooth), codes; 0: none"
    )
    columns_per_adc: int | None = Field(
        default=None, ge=1, le=65536, description="outputs of one slice that share a converter (ISAAC: all 128)"
    )

    def __init__(self, **values: Any) -> None:
        """Check `values` and hold them; see the fields above."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_sentence(error, values)) from None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.preset is not None and self.preset not in DEVICE_PRESETS:
            raise InputError(unknown_choice("device preset", self.preset, list(DEVICE_PRESETS)))
        for key, law in _REPLACED.items():
            if getattr(self, key) is not None and getattr(self, law) is not None:
                raise InputError(f"{key} and {law} describe the same effect; give one of them")
        device = self.resolved()
        if device.stuck_on + device.stuck_off > 1:
            raise InputError(
                f"stuck_on and stuck_off must together be at most 1, got {device.stuck_on:g} + {device.stuck_off:g}"
            )
        if device.on_off_ratio is not None and 0 < device.on_off_ratio <= 1:
            raise InputError(f"on_off_ratio must be more than 1, or 0 for infinite, got {device.on_off_ratio:g}")
        in_microsiemens = any(device.programming_polynomial_us)
        if in_microsiemens and device.g_max_us is None:
            raise InputError("programming_polynomial_us is in uS and needs g_max_us; give it too")
        for key in ("drift_nu_law", "drift_nu_sigma_law"):
            law_values = getattr(device, key)
            if law_values is not None and not 0 <= law_values[2] <= law_values[3]:
                raise InputError(f"{key} must end with 0 <= least <= most, got {law_values[2]:g}, {law_values[3]:g}")
        if device.read_noise_law is not None and min(device.read_noise_law) < 0:
            raise InputError(f"read_noise_law must hold numbers of 0 or more, got {list(device.read_noise_law)}")
        return self

    def resolved(self) -> Device:
        """Return the plain numbers: given keys, else the preset's, else off."""
        values = {} if self.preset is None else dict(DEVICE_PRESETS[self.preset].values)
        given = {key: getattr(self, key) for key in type(self).model_fields if key != "preset"}
        given = {key: value for key, value in given.items() if value is not None}
        for key in given:  # one way of describing an effect replaces the preset's other one
            values.pop(_REPLACED.get(key) or _REPLACED_BACK.get(key, ""), None)
        if "programming_polynomial_us" in given:
            values.pop("programming_argument", None)
        if "drift_nu_mean" in given:
            values.pop("drift_nu_sigma_law", None)
        return Device(**{**values, **given})

    @property
    def has_errors(self) -> bool:
        """Whether anything but wires and the on/off ratio, which `CrossbarSpec` has too, is on."""
        return self.resolved().has_errors

    def electrical(self, spec: CrossbarSpec) -> CrossbarSpec:
        """Return `spec` with this device's conductances and wires, where given, and without the device."""
        device = self.resolved()
        changes: dict[str, Any] = {"device": None}
        on_ohm = spec.r_on_ohm if device.g_max_us is None else 1e6 / device.g_max_us
        changes["r_on_ohm"] = on_ohm
        if device.on_off_ratio is not None:
            changes["r_off_ohm"] = on_ohm * device.on_off_ratio or None
        elif spec.r_off_ohm is not None:  # a ratio of the crossbar stays what it is
            changes["r_off_ohm"] = on_ohm / spec.off_on_ratio
        if device.wire_ohm_per_cell is not None:
            changes["wire_ohm_per_cell"] = device.wire_ohm_per_cell
        if device.wire_model is not None:
            changes["wire_model"] = device.wire_model
        return spec.replace(**changes)


_REPLACED = {
    "programming_sigma": "programming_polynomial_us",
    "read_noise_sigma": "read_noise_law",
    "drift_nu_mean": "drift_nu_law",
    "drift_nu_sigma": "drift_nu_sigma_law",
}
"""Two ways of describing one effect."""
_LENGTHS = {"read_noise_law": 3, "drift_nu_law": 4, "drift_nu_sigma_law": 4}
_REPLACED_BACK = {law: key for key, law in _REPLACED.items()}


def _sentence(error: ValidationError, values: dict[str, Any]) -> str:
    """Return what is wrong in one sentence; only the first of several faults is named."""
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        return f"a device has no key '{name}'{nearest(name, list(DeviceSpec.model_fields))}"
    if first["type"] in ("missing", "too_long") and name in _LENGTHS:
        return f"{name} must hold {_LENGTHS[name]} numbers, got {values[name]!r}"
    rule = first["msg"].replace("Input should be", "must be").replace("less than or equal to", "at most")
    rule = rule.replace("greater than or equal to", "at least").replace("greater than", "more than")
    rule = rule if rule.startswith("must") else f"is refused: {rule[:1].lower()}{rule[1:]}"
    return f"{name} {rule}, got {values.get(name)!r}"
