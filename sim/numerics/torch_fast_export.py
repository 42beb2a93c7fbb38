"""Keeps the export of recurrent layers from running them: only the shapes of their results matter there.

While it traces, torch unrolls an LSTM step by step although one node comes out (18 s of CPU for 200 steps; 2 s so). Left out:
packed sequences, which are refused anyway. Uses torch's table of Python kernels, which is not public: without it the export
is slow, not wrong.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def _layer(hidden: Tensor, x: Tensor, bidirectional: bool) -> Tensor:
    return x.new_empty((*x.shape[:-1], (2 if bidirectional else 1) * hidden.shape[-1]))


def _lstm(
    x: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _layer(states[0], x, bidirectional), torch.empty_like(states[0]), torch.empty_like(states[1])


def _one_state(
    x: Tensor,
    state: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    return _layer(state, x, bidirectional), torch.empty_like(state)


@contextlib.contextmanager
def recurrent_shapes_only() -> Iterator[None]:
    """While it lasts, recurrent operators that are traced compute shapes only (LSTMs with projections as ever)."""
    aten = torch.ops.aten
    changed: list[tuple[Any, dict[Any, Any]]] = []
    try:
        for name, kernel in (
            ("lstm", _lstm),
            ("gru", _one_state),
            ("rnn_tanh", _one_state),
            ("rnn_relu", _one_state),
        ):
            operator = getattr(aten, name).input
            kernels, cache = getattr(operator, "py_kernels", None), getattr(operator, "_dispatch_cache", None)
            if not isinstance(kernels, dict) or cache is None:
                continue
            changed.append((operator, dict(kernels)))
            for key, usual in changed[-1][1].items():
                kernels[key] = _unless_projected(kernel, usual)
            cache.clear()
        yield
    finally:
        for operator, kernels in changed:
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            operator._dispatch_cache.clear()


def _unless_projected(kernel: Callable[..., Any], usual: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Tensor, states: Any, params: Sequence[Tensor], has_biases: bool, *rest: Any) -> Any:
        projected = not isinstance(states, Tensor) and states[0].shape[-1] != states[1].shape[-1]
        return (usual if projected else kernel)(x, states, params, has_biases, *rest)

    return run
