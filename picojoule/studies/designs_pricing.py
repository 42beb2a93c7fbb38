"""Prices of a block of designs: their metrics, and a sentence for each design that has none."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError, PicojouleError, unknown_choice
from picojoule.studies.designs_search import COMPLETE, FAILED, INFEASIBLE, DesignSearch, Price

Columns = Mapping[str, NDArray[Any]]
Block = tuple[NDArray[np.float64], NDArray[np.int8], list[str]]
"""Values [designs, metrics], states [designs], messages [designs]."""


def priced(search: DesignSearch, price: Price, columns: Columns, *, first: bool) -> Block:
    """Return the values, states and messages of designs, given as an array [designs] per parameter.

    A design that the hardware refuses (values that do not go together) fails alone: the block is halved until it is found.

    Raises:
        InputError: for an unknown metric, and if every design of a study's `first` block is refused: the study is wrong.

    """
    try:
        return _of_block(search, price, columns)
    except _UnknownMetricError as error:
        raise InputError(str(error)) from None
    except PicojouleError as error:
        values, states, messages = _halved(search, price, columns, error)
        if first and (states == FAILED).all():
            raise
        return values, states, messages


class _UnknownMetricError(InputError):
    """No halving helps."""


def _halved(search: DesignSearch, price: Price, columns: Columns, error: PicojouleError) -> Block:
    """Price the halves of a block that raised an error; a block of one fails with it."""
    count = len(columns[search.names[0]])
    if count == 1:
        return np.full((1, len(search.metrics)), np.nan), np.array([FAILED], dtype=np.int8), [str(error)]
    blocks = []
    for half in (slice(None, count // 2), slice(count // 2, None)):
        part = {name: values[half] for name, values in columns.items()}
        try:
            blocks.append(_of_block(search, price, part))
        except PicojouleError as found:
            blocks.append(_halved(search, price, part, found))
    (values, states, messages), (more_values, more_states, more_messages) = blocks
    return np.concatenate([values, more_values]), np.concatenate([states, more_states]), messages + more_messages


def _of_block(search: DesignSearch, price: Price, columns: Columns) -> Block:
    made = price(columns)
    values = np.empty((len(made.infeasible), len(search.metrics)))
    for column, metric in enumerate(search.metrics):
        if metric not in made.totals:
            raise _UnknownMetricError(unknown_choice("metric", metric, list(made.totals)))
        values[:, column] = made.totals[metric]
    messages = [str(m or "") for m in made.infeasible]
    states = np.array([INFEASIBLE if m else COMPLETE for m in messages], dtype=np.int8)
    for design in np.flatnonzero((states == COMPLETE) & ~np.isfinite(values).all(axis=1)):
        wrong = np.flatnonzero(~np.isfinite(values[design]))[0]
        states[design] = FAILED
        messages[design] = f"{search.metrics[wrong]} is {values[design, wrong]}: this hardware gives no such number"
    values[states != COMPLETE] = np.nan
    return values, states, messages
