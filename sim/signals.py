"""What a cost signal is: the price of a channel, a bit, a non-zero in every layer of one network on one design.

Hardware produces signals (`picojoule.signals`), compression methods consume them. A signal also carries `price`, which prices
a whole network by the same metric, so that a method can search for a budget.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from picojoule.sim.ir import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStep:
    """How cost falls as a layer's output channels go (hardware works in tiles, so it may fall in steps).

    The total first falls when `distance` channels are gone, by `size`. `slope` is the fall per channel averaged over a tile
    (the first eighth to quarter of the channels): what a channel is worth to a method that will drop many.
    """

    distance: int
    size: float
    slope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPrice:
    """By how much the network's total falls when one unit of a layer goes; None where nothing of that kind can go.

    `output_channel` and `input_channel` count everything that is coupled to the channel and goes with it (readers' filters,
    residual partners, norms). `weight_bit` and `activation_bit` are one bit less for the whole operand; `bit_slice` is the
    next fall of the cost when weight bits go one after the other (one column of cells on a crossbar). `nonzero` is one weight
    becoming zero. A price of 0 says that this hardware gains nothing from it.
    """

    channels: int
    output_channel: float | None = None
    input_channel: float | None = None
    weight_bit: float | None = None
    activation_bit: float | None = None
    nonzero: float | None = None
    bit_slice: float | None = None
    step: ChannelStep | None = None

    @property
    def channel_slope(self) -> float | None:
        """Price of an output channel averaged over a tile, which sees steps further away than one channel."""
        return self.step.slope if self.step else self.output_channel


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSignal:
    """Prices of all layers with weights, in units of `metric`; `baseline` is the network's total as it stands."""

    metric: str
    hardware: str
    baseline: float
    layers: Mapping[str, LayerPrice]
    price: Callable[[Network], float] = field(repr=False, compare=False)
