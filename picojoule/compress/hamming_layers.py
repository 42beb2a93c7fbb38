"""A layer in Hamming-aware training: its weight's rounding, its stream, and the price of a flip in it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from picojoule.accel.systolic.operand_words import code_words
from picojoule.accel.systolic.ordering import order_rows
from picojoule.compress._hamming_kernels import cheapest_words
from picojoule.compress.hamming_codes import bit_planes, values_of_patterns
from picojoule.compress.hamming_config import HammingConfig
from picojoule.compress.hamming_streams import Stream, weight_stream
from picojoule.compress.lsq import LearnedStep
from picojoule.sim.formats import NumberFormat
from picojoule.sim.gemm import Gemm
from picojoule.sim.numerics.quantize import codes

_EDGE = 1 + 1e-6
_SWEEPS = 4


class StreamedStep(LearnedStep):
    """Rounds weights to integers times a learned step per output channel, plus a `shift` that the last search found, in steps.

    The shift stays between searches while rounding follows the weights, so that training feels at once what it does. Gradients
    reach weights and steps as if the shifted integers were the rounded ones (straight-through).
    """

    shift: Tensor
    order: Tensor
    age: Tensor

    def __init__(self, form: NumberFormat, start: Tensor, weight: Tensor, order: NDArray[np.int64]) -> None:
        super().__init__(form, start, weight.numel() // start.numel())
        self.register_buffer("shift", torch.zeros_like(weight))
        self.register_buffer("order", torch.tensor(order))
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    def integers(self, x: Tensor, step: Tensor) -> Tensor:
        """Return the integers, with gradients."""
        rounded = codes(x, step, self.form)
        return rounded + ((rounded + self.shift).clamp(self.form.qmin, self.form.qmax) - rounded).detach()

    def forward(self, x: Tensor) -> Tensor:
        """Return the rounded weights."""
        exact = self.step()
        scaled = exact * self.gradient_scale
        step = scaled + (exact - scaled).detach()
        return self.integers(x, step) * step

    def move_to(self, chosen: Tensor, x: Tensor) -> None:
        """Shift weights x to the integers `chosen`."""
        with torch.no_grad():
            self.shift.copy_(chosen - codes(x, self.step(), self.form))


@dataclass(slots=True, eq=False)
class StreamedLayer:
    """A module whose weights stream.

    importance: what a squared error of one integer step costs in the loss, per weight; flat as [groups, n, k], as all here.
    """

    module: nn.Module
    step: StreamedStep
    gemm: Gemm
    importance: NDArray[np.float32]
    config: HammingConfig
    flip_price: float = 0.0
    made: tuple[NDArray[np.int64], Stream] | None = None

    def latent(self) -> Tensor:
        """Return the weight that is trained."""
        found: Tensor = self.module.parametrizations.weight.original  # type: ignore[union-attr,assignment]
        return found

    def integers(self) -> NDArray[np.int64]:
        """Return the weights as integers, flat."""
        with torch.no_grad():
            found = self.step.integers(self.latent(), self.step.step())
            return found.flatten().numpy().astype(np.int64)

    def flips(self) -> int:
        """Return the flips on this layer's ports, exactly."""
        c = self.config
        return self.streamed().flips(code_words(self.integers(), c.weight_bits, c.number_code.value))

    def streamed(self) -> Stream:
        """Return the stream in the present order, which a checkpoint may have set."""
        order = self.step.order.numpy()
        if self.made is None or not np.array_equal(self.made[0], order):
            c = self.config
            stream = weight_stream(self.gemm, c.dataflow, c.rows, c.cols, order if order.size else None)
            self.made = (order.copy(), stream)
        return self.made[1]

    def find_order(self) -> None:
        """Put each segment in its own order, by the integers of the moment."""
        c = self.config
        if c.order == "as_is" or self.gemm.groups > 1:
            return
        weights = self.integers().reshape(self.gemm.n, self.gemm.k)
        found = order_rows(weights, bits=c.weight_bits, code=c.number_code.value, segment=c.rows, sweeps=_SWEEPS)
        self.step.order = torch.tensor(found)

    def search(self, share: float) -> None:
        """Hold the integers of the cheapest paths, for `share` of the price of a flip."""
        c, stream = self.config, self.streamed()
        with torch.no_grad():
            wanted = (self.latent() / self.step.step()).flatten().numpy().astype(np.float32)
        places, exists = stream.places, stream.places >= 0
        prices = np.broadcast_to(stream.repeats[:, None] * np.float32(self.flip_price * share), places.shape)
        values = values_of_patterns(c.weight_bits, c.number_code)
        found = cheapest_words(
            wanted[places], np.where(exists, self.importance[places], np.float32(-1)),
            np.ascontiguousarray(prices, dtype=np.float32), values, np.float32(c.zero_pull * share), 0,
        )  # fmt: skip
        chosen = np.zeros(len(wanted), dtype=np.float32)
        chosen[places[exists]] = values[found[exists]]
        self.step.move_to(torch.tensor(chosen).reshape(self.latent().shape), self.latent())

    def soft_flips(self) -> Tensor:
        """Return the flips with gradients; at integers (always) exactly `flips()`."""
        c, stream = self.config, self.streamed()
        planes = bit_planes(self.step.integers(self.latent(), self.step.step()).flatten(), c.weight_bits, c.number_code)
        padded = torch.cat([planes, torch.zeros_like(planes[:1])])
        moves = (padded[torch.tensor(stream.before)] - padded[torch.tensor(stream.after)]).abs().sum(1)
        return moves @ torch.tensor(stream.times, dtype=moves.dtype)
