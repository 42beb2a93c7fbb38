"""The one interface between accelerators and everything else, and how hardware multiplies.

An accelerator is a class named in the entry-point group `picojoule.accelerators`; `hardware` finds it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from picojoule.sim.cost import Area
from picojoule.sim.formats import NumberFormat
from picojoule.sim.ir import Layer, Network
from picojoule.sim.report import Report
from picojoule.sim.specs import Spec


class HardwareSpec(Spec):
    """What every hardware file has; the same object in Python and in YAML."""

    kind: str = Field(description="name of the accelerator class's entry point")
    name: str = Field(default="", description="shown in reports; a preset's name")


class IntegerProduct(Protocol):
    """A weight matrix inside the hardware; multiplies integer inputs the way the hardware does."""

    @property
    def exact(self) -> bool:
        """Whether every product equals the integer product, so that a faster exact routine may replace this one."""
        ...

    def matmul(self, inputs: NDArray[Any], *, signed: bool | None = None) -> NDArray[np.float64]:
        """Return [out, batch] for integer inputs [in, batch], in integer product units.

        `signed` says whether the inputs' format has a sign; None: look at the inputs.
        """
        ...


class Programmer(Protocol):
    """Places weight matrices in the hardware."""

    def __call__(self, weights: NDArray[np.int64], group: int = 0) -> IntegerProduct:
        """Return the hardware holding integer weights [out, in]; `group` counts a layer's matrices (grouped convolutions).

        Whatever is random in the hardware differs from group to group.
        """
        ...


OneMatrix = Callable[[NDArray[np.int64]], IntegerProduct]
"""A programmer for which all matrices of a layer are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetArithmetic:
    """How hardware takes the offsets of a deformable convolution."""

    rounded: bool = True
    """Whether it reads whole pixels only (half to even); False: it interpolates."""
    reach: int | None = None
    """Largest displacement of a tap from its output's pixel that the line buffer holds, in rows and in columns; taps farther
    away are read at that distance. None: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """How a layer is computed.

    Operands are integers times a step in the given formats; None for both means floating point as it comes. `program`
    places an integer weight matrix [out, in] in the hardware; None means exact integer products in accumulators of
    `accumulator_bits` (which wrap around, as two's complement adders do). `offsets` concerns deformable convolution; None
    means that they are taken as they come.
    """

    weight: NumberFormat | None = None
    activation: NumberFormat | None = None
    accumulator_bits: int | None = None
    program: Programmer | OneMatrix | None = None
    offsets: OffsetArithmetic | None = None
    note: str = ""

    def place(self, weights: NDArray[np.int64], group: int) -> IntegerProduct:
        """Return the hardware holding the weights [out, in] of a group; `program` must not be None."""
        assert self.program is not None
        made: IntegerProduct = self.program(weights, **accepted(self.program, group=group))
        return made


FLOAT = Arithmetic(note="float")


def accepted(function: Callable[..., Any], **keywords: Any) -> dict[str, Any]:
    """Return those keywords that a function takes: plug-ins need not know what others ask for."""
    known = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        return keywords
    return {name: value for name, value in keywords.items() if name in known}


class Accelerator(Protocol):
    """One design: immutable, built from its spec.

    It may have more, which is looked for: `arithmetic_in(network, *, seed=0, samples=None)` returns the `arithmetic` of one
    network's layers on one chip (`seed`), from integer inputs of its layers (`samples`) where the property `needs_samples` is
    true; the property `chips_differ` says whether what is computed depends on the seed. Both count as false where missing.
    """

    model_version: ClassVar[str]
    spec_type: ClassVar[type[HardwareSpec]]
    preset_folder: ClassVar[Path]
    unit_of_op: ClassVar[dict[str, str]]

    @property
    def spec(self) -> HardwareSpec:
        """The checked hardware description."""
        ...

    def evaluate(
        self,
        network: Network,
        *,
        batch: int = 1,
        activations: object | None = None,
        mapping: str = "default",
        seed: int = 0,
        chips: int | None = 1,
        allow_unsupported: bool = False,
    ) -> Report:
        """Return the cost of `batch` samples through the network."""
        ...

    def arithmetic(self, layer: Layer) -> Arithmetic:
        """Return how this hardware computes a layer."""
        ...

    def area(self, network: Network | None = None) -> Area:
        """Return the silicon area by component."""
        ...
