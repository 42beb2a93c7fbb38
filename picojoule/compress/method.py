"""What a compression method is, and what it hands back besides the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from picojoule.compress.plan import Plan
from picojoule.sim.signals import CostSignal
from picojoule.sim.specs import Spec

if TYPE_CHECKING:
    import torch

    from picojoule.models.data import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionArtifact:
    """What a method decided: the plan to price and run the model by, its history, and remarks."""

    plan: Plan
    history: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


class CompressionMethod(Protocol):
    """A method: a type for its settings, and `fit`. The model given is never changed."""

    @property
    def config_type(self) -> type[Spec]:
        """The settings' type; every setting has a default."""
        ...

    def fit(
        self, model: "torch.nn.Module", data: "Dataset", signal: CostSignal | None, config: Any
    ) -> "tuple[torch.nn.Module, CompressionArtifact]":
        """Return the compressed model and what was decided; None as signal is the uniform one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A line of the table of methods; `target` is `module:class`, imported on use."""

    catalogue: str
    family: str
    emits: str
    source: str
    about: str
    target: str

    def load(self) -> CompressionMethod:
        """Return the method."""
        module, _, name = self.target.partition(":")
        made: CompressionMethod = getattr(import_module(module), name)()
        return made
