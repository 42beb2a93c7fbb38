"""What a method may say before it trains: settings that the hardware decides, and formats that can be checked and compared."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from picojoule.compress.plan import Plan
from picojoule.sim.ir import Network
from picojoule.sim.protocol import HardwareSpec

if TYPE_CHECKING:
    import torch


@runtime_checkable
class PreparedMethod(Protocol):
    """A compression method that has more than `fit`; looked for, never required."""

    def settle(self, hardware: HardwareSpec, settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return the settings, with what the hardware decides where they leave it open, and warnings.

        Raises:
            UnsupportedError: for hardware on which the method would earn nothing.

        """
        ...

    def formats(self, model: "torch.nn.Module", network: Network, plan: Plan | None = None) -> Plan:
        """Return the plan that gives `network` (of `model`) the method's formats without its training.

        Inputs as in `plan`, if there is one.
        """
        ...
