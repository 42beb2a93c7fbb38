"""PLAN.yaml: what a compression decided, layer by layer; written by `compress`, applied by `--compression`.

Names are layer names or globs; the first entry that matches a layer is the one it gets.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, field_validator

from picojoule.compress.coupling import Coupling, channel_groups, weighted
from picojoule.compress.pruning import prune_network
from picojoule.sim.attributes import MAC_OPS
from picojoule.sim.errors import InputError, nearest
from picojoule.sim.files import write_atomic
from picojoule.sim.formats import NumberFormat, Sparsity, parse_format, parse_sparsity
from picojoule.sim.ir import Layer, Network, Operand, OperandKind
from picojoule.sim.specs import Spec, parse_spec, read_yaml_mapping


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Positive = Annotated[float, Field(gt=0)]
Steps = Annotated[Positive | tuple[Positive, ...], BeforeValidator(_as_tuple)]
Channels = Annotated[
    Annotated[int, Field(ge=1)] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)],
    BeforeValidator(_as_tuple),
]


class WeightPlan(Spec):
    """Format of a layer's weights, as `formats.parse_format` spells it."""

    format: str
    per: Literal["tensor", "channel"] | None = Field(
        default=None, description="what shares a step; tensor when not given"
    )
    step: Steps | None = Field(
        default=None, description="size of one integer step: one number, or one per output channel"
    )

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        parse_format(value)
        return value

    @property
    def number_format(self) -> NumberFormat:
        """The format with its granularity."""
        return parse_format(self.format, per=self.per or "tensor")


class ActivationPlan(Spec):
    """Format of what a layer reads."""

    format: str
    step: Positive | None = Field(default=None, description="size of one integer step; calibrated when not given")

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        parse_format(value)
        return value


class SparsityPlan(Spec):
    """Structure of a weight's zeros, as `formats.parse_sparsity` spells it; density may be left out for N:M."""

    structure: str
    density: Annotated[float, Field(ge=0, le=1)] | None = None

    def sparsity(self) -> Sparsity:
        """Return the checked value."""
        return parse_sparsity(self.structure, self.density)


class LayerPlan(Spec):
    """What happens to a layer; what is not given stays."""

    keep_channels: Channels | None = Field(
        default=None, description="output channels that stay: how many (those of largest norm) or which (from 0)"
    )
    weight: WeightPlan | None = None
    activation: ActivationPlan | None = None
    sparsity: SparsityPlan | None = None

    @field_validator("sparsity")
    @classmethod
    def _whole(cls, value: SparsityPlan | None) -> SparsityPlan | None:
        if value is not None:
            value.sparsity()
        return value


class Plan(Spec):
    """A whole PLAN.yaml."""

    model_config = ConfigDict(**(Spec.model_config | {"populate_by_name": True}))

    schema_version: Literal[1] = Field(default=1, alias="schema")
    layers: dict[str, LayerPlan] = Field(default_factory=dict)

    def pattern_for(self, layer: str) -> str | None:
        """Return the first name or glob that matches a layer."""
        return next((p for p in self.layers if matches(p, layer)), None)

    def to_yaml(self) -> str:
        """Return the file's text."""
        values = self.model_dump(by_alias=True, exclude_none=True, mode="json")
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)

    def save(self, path: str | Path) -> None:
        """Write the file."""
        write_atomic(Path(path), self.to_yaml())

    def merged(self, other: "Plan") -> "Plan":
        """Return a plan with the entries of both; for one name, what `other` says wins key by key."""
        made = dict(self.layers)
        for name, entry in other.layers.items():
            before = made.get(name, LayerPlan())
            made[name] = before.model_copy(update={k: getattr(entry, k) for k in entry.model_fields_set})
        return Plan(layers=made)


def matches(pattern: str, layer: str) -> bool:
    """Whether a name or glob means a layer."""
    return pattern == layer or fnmatchcase(layer, pattern)


def is_glob(pattern: str) -> bool:
    """Whether a name holds wildcards."""
    return re.search(r"[*?\[]", pattern) is not None


def read_plan(path: str | Path) -> Plan:
    """Return the plan in a file.

    Raises:
        InputError: naming the file, the key and the rule.

    """
    return parse_spec(Plan, read_yaml_mapping(Path(path), "a compression plan"), str(path))


def apply_plan(network: Network, plan: Plan) -> Network:
    """Return the network with channels dropped and formats, steps and sparsity set as the plan says.

    A layer that already has the number of channels asked for keeps them: a module saved after pruning comes with its plan.
    Globs concern layers of multiply-accumulates; a plain name must be one of those.

    Raises:
        InputError: for a name that matches nothing (nearest layer named), a layer that cannot take its entry, or channels
            that do not fit together.

    """
    entries = _entries(network, plan)
    network = _with_channels(network, entries)
    return network.with_layers(tuple(_planned(y, *entries[y.name]) if y.name in entries else y for y in network.layers))


def _entries(network: Network, plan: Plan) -> dict[str, tuple[LayerPlan, str]]:
    names = {layer.name: layer for layer in network.layers}
    for pattern in plan.layers:
        found = [n for n in names if matches(pattern, n)]
        if not found:
            what = "glob" if is_glob(pattern) else "name"
            raise InputError(
                f"plan: {what} '{pattern}' matches no layer of {network.name}{nearest(pattern, list(names))}"
            )
        if not any(names[n].op in MAC_OPS for n in found):
            raise InputError(
                f"plan: '{pattern}' means layer '{found[0]}', a {names[found[0]].op}, which takes no entry; only conv, linear, "
                "matmul, deformable conv and recurrent layers do"
            )
    entries = {}
    for name, layer in names.items():
        pattern_found = plan.pattern_for(name)
        if pattern_found is not None and layer.op in MAC_OPS:
            entries[name] = (plan.layers[pattern_found], pattern_found)
    return entries


# --- channels -------------------------------------------------------------------------------------------------------------


def _with_channels(network: Network, entries: Mapping[str, tuple[LayerPlan, str]]) -> Network:
    wanted = {n: e.keep_channels for n, (e, _) in entries.items() if e.keep_channels is not None}
    if not wanted:
        return network
    coupling = channel_groups(network)
    keep = np.ones(coupling.count, dtype=np.bool_)
    layers = {layer.name: layer for layer in network.layers}
    for name, channels in wanted.items():
        if not weighted(layers[name]):
            if is_glob(entries[name][1]):
                continue
            raise InputError(f"plan: layer '{name}' has no weights, so keep_channels means nothing for it")
        keep &= _kept_groups(layers[name], channels, coupling, keep)
    for name, channels in wanted.items():
        if weighted(layers[name]):
            labels = coupling.outputs_of(layers[name])
            left = int(np.count_nonzero(labels < 0) + np.count_nonzero(keep[labels[labels >= 0]]))
            asked = channels if isinstance(channels, int) else len(channels)
            if left != asked:
                raise InputError(
                    f"plan: layer '{name}' would keep {left} channels, not {asked}, because they are coupled with those of "
                    "another layer in the plan; give coupled layers the same channels"
                )
    return prune_network(network, keep, coupling)


def _kept_groups(
    layer: Layer, channels: int | tuple[int, ...], coupling: Coupling, keep: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return a flag per group: all groups but those of the channels this layer drops."""
    labels = coupling.outputs_of(layer)
    count = len(labels)
    asked = channels if isinstance(channels, int) else len(channels)
    if asked > count:
        raise InputError(f"plan: layer '{layer.name}' has {count} channels, so keep_channels cannot be {asked}")
    if isinstance(channels, tuple) and len(set(channels)) < asked:
        raise InputError(f"plan: layer '{layer.name}': keep_channels names a channel twice")
    result = np.ones(coupling.count, dtype=np.bool_)
    if asked == count:
        return result
    frozen = np.flatnonzero(labels < 0)
    if isinstance(channels, tuple):
        if max(channels) >= count:
            raise InputError(
                f"plan: layer '{layer.name}' has channels 0 to {count - 1}, but keep_channels names {max(channels)}"
            )
        dropped = np.setdiff1d(np.arange(count), channels)
        if np.intersect1d(dropped, frozen).size:
            raise InputError(
                f"plan: channel {int(np.intersect1d(dropped, frozen)[0])} of layer '{layer.name}' {_CANNOT_GO}"
            )
        result[labels[dropped]] = False
        split = np.flatnonzero(~result[labels])
        if len(split) > len(dropped):
            extra = int(np.setdiff1d(split, dropped)[0])
            raise InputError(
                f"plan: layer '{layer.name}' keeps channel {extra}, which is coupled with one it drops; drop both"
            )
        return result
    if len(frozen) > asked:
        raise InputError(
            f"plan: {len(frozen)} channels of layer '{layer.name}' cannot be dropped, so {asked} cannot be kept"
        )
    return _smallest_dropped(layer, asked, labels, result, keep)


_CANNOT_GO = "cannot be dropped (it is an output of the network, or an operator needs it)"


def _smallest_dropped(
    layer: Layer, asked: int, labels: NDArray[np.int64], result: NDArray[np.bool_], keep: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Drop the groups of least filter norm until `asked` channels are left; what coupled layers dropped already goes first."""
    numbers = np.unique(labels[labels >= 0])
    norms = _filter_norms(layer)
    norm = np.array([norms[labels == g].sum() for g in numbers])
    order = np.lexsort((norm, keep[numbers]))
    left = len(labels)
    for number in numbers[order]:
        size = int(np.count_nonzero(labels == number))
        if left - size >= asked:
            result[number] = False
            left -= size
        if left == asked:
            return result
    raise InputError(
        f"plan: layer '{layer.name}' cannot keep exactly {asked} channels, because channels go in coupled groups; "
        f"{left} is possible"
    )


def _filter_norms(layer: Layer) -> NDArray[np.float64]:
    """Return the squared L2 norm of each output channel's filter; ones where weights have no values (first ones stay)."""
    weight = layer.operands[1]
    axis = _output_axis(layer)
    count = layer.results[0].shape[1 if layer.op.value.endswith("conv") else -1]
    if weight.weights is None:
        return np.arange(count, 0, -1, dtype=np.float64)
    values = np.moveaxis(np.asarray(weight.weights.array(), dtype=np.float64), axis, 0)
    norms = np.square(values.reshape(values.shape[0], -1)).sum(1)
    return np.resize(norms, count)  # a grouped transposed filter holds the channels of one group


def _output_axis(layer: Layer) -> int:
    a = layer.attributes
    return 1 if layer.op.value == "matmul" or getattr(a, "transposed", False) else 0


# --- formats --------------------------------------------------------------------------------------------------------------


def _planned(layer: Layer, entry: LayerPlan, pattern: str) -> Layer:
    operands = list(layer.operands)
    if entry.weight is not None or entry.sparsity is not None:
        if operands[1].kind is not OperandKind.ACTIVATION:
            operands[1] = _weight(layer, operands[1], entry)
        elif not is_glob(pattern):
            raise InputError(
                f"plan: layer '{layer.name}' multiplies two activations and has no weights; give it 'activation' only"
            )
    if entry.activation is not None:
        form = parse_format(entry.activation.format)
        step = (entry.activation.step,) if entry.activation.step is not None else None
        for i in (0, 1):
            if operands[i].kind is OperandKind.ACTIVATION:
                operands[i] = replace(operands[i], format=form, step=step)
    return replace(layer, operands=tuple(operands))


def _weight(layer: Layer, operand: Operand, entry: LayerPlan) -> Operand:
    if entry.weight is not None:
        step = entry.weight.step
        steps = (step,) if isinstance(step, float) else step
        channels = operand.shape[_output_axis(layer)]
        if steps is not None and len(steps) not in (1, channels):
            raise InputError(
                f"plan: layer '{layer.name}' has {channels} output channels but {len(steps)} weight steps; give one number or "
                "one per channel"
            )
        operand = replace(operand, format=entry.weight.number_format, step=steps)
    if entry.sparsity is not None:
        operand = replace(operand, sparsity=entry.sparsity.sparsity())
    return operand
