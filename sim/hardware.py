"""Finds accelerators and presets, and reads hardware files.

Accelerators come from the entry-point group `picojoule.accelerators` (other packages can add theirs); presets are YAML
files in each accelerator's own folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from picojoule.sim.errors import InputError, nearest, unknown_choice
from picojoule.sim.protocol import Accelerator, HardwareSpec
from picojoule.sim.specs import parse_spec, parse_yaml, read_yaml_mapping

GROUP = "picojoule.accelerators"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """An accelerator that was found: its class, or why it cannot be imported."""

    kind: str
    origin: str
    accelerator: "type[Accelerator] | None"
    problem: str = ""


@cache
def plugins() -> tuple[Plugin, ...]:
    """Return all accelerators by kind; one that fails to import carries its problem and breaks nothing else."""
    found = []
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        try:
            found.append(Plugin(kind=point.name, origin=point.value, accelerator=point.load()))
        except Exception as error:  # a third party's module may fail in any way; `doctor` names it
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            found.append(Plugin(kind=point.name, origin=point.value, accelerator=None, problem=text))
    return tuple(found)


def accelerator_class(kind: str, where: str) -> "type[Accelerator]":
    """Return the class for a `kind`.

    Raises:
        InputError: if there is none, or its package fails to import.

    """
    known = {p.kind: p for p in plugins()}
    if kind not in known:
        raise InputError(f"{where}: {unknown_choice('kind', kind, list(known))}")
    plugin = known[kind]
    if plugin.accelerator is None:
        raise InputError(f"{where}: kind '{kind}' comes from {plugin.origin}, which fails to import: {plugin.problem}")
    return plugin.accelerator


def presets() -> Mapping[str, Path]:
    """Return every preset's file by name."""
    found: dict[str, Path] = {}
    for plugin in plugins():
        if plugin.accelerator is not None:
            for file in sorted(plugin.accelerator.preset_folder.glob("*.yaml")):
                found.setdefault(file.stem, file)
    return found


def load_spec(hardware: str | Path, overrides: Mapping[str, Any] | None = None) -> HardwareSpec:
    """Return the spec of a preset or a YAML file, with `overrides` (dotted keys) applied before it is checked.

    Raises:
        InputError: unknown preset (nearest match named), missing file, bad key or value.

    """
    values, where = _resolve(str(hardware))
    for dotted, value in (overrides or {}).items():
        _set(values, dotted, value)
        where = f"{where} with {dotted}={value}"
    kind = values.get("kind")
    if not isinstance(kind, str):
        problem = f"'kind' must be text, got {kind!r}" if "kind" in values else "key 'kind' is missing"
        raise InputError(
            f"{where}: {problem}; say which accelerator this describes: {', '.join(p.kind for p in plugins())}"
        )
    return parse_spec(accelerator_class(kind, where).spec_type, values, where)


def load_hardware(
    hardware: "str | Path | HardwareSpec | Accelerator", overrides: Mapping[str, Any] | None = None
) -> Accelerator:
    """Return an accelerator for a preset's name, a YAML path, a spec, or an accelerator (returned as it is)."""
    if isinstance(hardware, HardwareSpec):
        if overrides:
            values = hardware.model_dump()
            for dotted, value in overrides.items():
                _set(values, dotted, value)
            hardware = parse_spec(type(hardware), values, hardware.name or hardware.kind)
        return _build(hardware)
    if isinstance(hardware, str | Path):
        spec = load_spec(hardware, overrides)
        try:
            return _build(spec)
        except InputError as error:
            if not _is_file_name(str(hardware)) or str(hardware) in str(error):
                raise
            raise InputError(f"{hardware}: {error}") from None
    if not hasattr(hardware, "evaluate") or not hasattr(hardware, "spec"):
        raise InputError(f"expected hardware: a preset's name, a YAML path, a spec or an accelerator, got {hardware!r}")
    return load_hardware(hardware.spec, overrides) if overrides else hardware


def _build(spec: HardwareSpec) -> Accelerator:
    made = accelerator_class(spec.kind, spec.name or spec.kind)
    return made(spec)  # type: ignore[call-arg]


def parse_override(text: str, option: str = "--set") -> tuple[str, Any]:
    """Return (dotted key, value) of `key=value` as written after `option`; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option} takes key=value, got '{text}'")
    return key.strip(), parse_yaml(value, f"{option} {key.strip()}")


def _resolve(name: str, depth: int = 0) -> tuple[dict[str, Any], str]:
    if depth > 8:
        raise InputError(f"{name}: 'extends' is nested deeper than 8 files; is it a circle?")
    known = presets()
    if name not in known and not _is_file_name(name):
        raise InputError(_unknown_preset(name, known))
    path = known.get(name) or Path(name)
    values = read_yaml_mapping(path, "a hardware description")
    own_name = values.get("name", path.stem)
    base = values.pop("extends", None)
    if base is not None:
        if not isinstance(base, str):
            raise InputError(f"{path}: extends names a preset or a YAML file, got {base!r}")
        if base not in known and not _is_file_name(base):
            raise InputError(f"{path}: extends: {_unknown_preset(base, known)}")
        parent, _ = _resolve(base if base in known else str(path.parent / base), depth + 1)
        values = _merge(parent, values)
    values["name"] = own_name
    return values, path.name if name in known else str(path)


def _is_file_name(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml")


def _unknown_preset(name: str, known: Mapping[str, Path]) -> str:
    hint = nearest(name, list(known)) or "."
    broken = "".join(
        f". Presets of '{p.kind}' are missing, because {p.origin} fails to import: {p.problem}"
        for p in plugins()
        if p.accelerator is None
    )
    return f"unknown hardware preset '{name}'{hint} `picojoule presets` lists them; a file must end in .yaml{broken}"


def _merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for part in parents:
        child = values.get(part)
        values[part] = dict(child) if isinstance(child, dict) else {}
        values = values[part]
    values[last] = value
