"""Integer weights of a network's layers as an array streams them, output channel after output channel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from picojoule.accel.systolic.operand_words import code_words
from picojoule.accel.systolic.ordering import order_flips
from picojoule.compress.coupling import Coupling, weighted
from picojoule.compress.labels import Labels
from picojoule.sim.formats import Granularity, integer_format
from picojoule.sim.gemm import gemm_view
from picojoule.sim.integer_weights import integer_weights
from picojoule.sim.ir import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStream:
    """Weights of a layer as they stream: codes [G, N, K] in words of so many bits, and how often.

    `outputs` [G N] are the channel groups that it produces.
    """

    name: str
    codes: NDArray[np.int64]
    outputs: Labels
    bits: int
    code: str
    times: int

    def rows_of(self, block: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the weights of each group of a block side by side [block, K * occurrences]; None if none is made here."""
        rows = self.codes.reshape(-1, self.codes.shape[-1])
        if len(rows) != len(self.outputs) or not np.isin(block[0], self.outputs):
            return None
        return np.stack([rows[self.outputs == group].reshape(-1) for group in block])

    def flips(self, moves: NDArray[np.int64] | None = None) -> int:
        """Return the bits that flip as all output channels stream once, as they are or moved."""
        codes = self.codes
        if moves is not None:
            codes = codes.reshape(-1, codes.shape[-1])[permuted_axis(self.outputs, moves)].reshape(codes.shape)
        return sum(order_flips(group, bits=self.bits, code=self.code) for group in codes)


def streams_of(network: Network, coupling: Coupling, *, bits: int, code: str, cols: int) -> list[ChannelStream]:
    """Return the layers whose weights stream over more than one output channel a group.

    Each counts in the format that the network gives it, or in `bits` where it gives none; on an array of `cols` columns it
    streams once per `cols` pixels.

    Raises:
        InputError: naming the layer, if its integers do not fit the words of this code.

    """
    streams = []
    for layer in network.layers:
        view = gemm_view(layer)
        if not weighted(layer) or view is None or view.n < 2:
            continue
        form = layer.operands[1].format
        if form is None or not form.is_integer:
            form = integer_format(bits, per=Granularity.CHANNEL)
        codes = integer_weights(layer, form, needed_by="the order of channels", remedy="give a trained module")
        code_words(codes, form.bits, code, name=f"layer '{layer.name}': weights")
        outputs, times = coupling.outputs_of(layer), -(-view.m // cols)
        streams.append(
            ChannelStream(name=layer.name, codes=codes, outputs=outputs, bits=form.bits, code=code, times=times)
        )
    return streams


def permuted_axis(labels: Labels, moves: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which old index each index of an axis takes when groups move: the same occurrence of the group that comes."""
    taken = np.arange(len(labels))
    live = np.flatnonzero(labels >= 0)
    if not len(live):
        return taken
    order = live[np.argsort(labels[live], kind="stable")]
    groups, starts = np.unique(labels[order], return_index=True)
    first = dict(zip(groups.tolist(), starts.tolist(), strict=True))
    for place, index in enumerate(order.tolist()):
        group = int(labels[index])
        taken[index] = order[first[int(moves[group])] + place - first[group]]
    return taken
