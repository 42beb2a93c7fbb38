"""Hardware-only studies: a million designs priced in generations, on disk as they come, the same after any interruption.

A generation is drawn with a Generator seeded from (study seed, generation), and from nothing but the generations before it.
So growing `trials` keeps the first trials, and a resumed study ends in the same bytes as one that was never stopped. Which
generations share a chunk on disk depends on the number of designs alone, never on the clock. The search itself is in
`nsga2.py`, the files are in `designs_files.py`, the table is in `designs_table.py`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from picojoule.sim.errors import InputError
from picojoule.studies.designs_files import SCHEMA, Chunk, DesignFiles, array_to_texts, digest, texts_to_array
from picojoule.studies.designs_pricing import priced
from picojoule.studies.designs_search import DesignColumns, DesignProgress, DesignSearch, Price
from picojoule.studies.nsga2 import Rows, fresh, from_numbers, keys_of, next_generation, survivors

_SMALLEST_CHUNK, _LARGEST_CHUNK = 16, 20_000
"""Designs that are lost at most when a study is killed; between them, a tenth of those on disk."""
_SMALLEST_BLOCK, _LARGEST_BLOCK = 64, 5_000
"""Designs priced in one call by the samplers that have no generations of their own."""


@dataclass(slots=True)
class _Run:
    """A study under way: its table, filled to `done`, and what the next generation follows from."""

    search: DesignSearch
    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    states: NDArray[np.int8]
    codes: NDArray[np.int32]
    arrays: list[NDArray[Any]]  # of each parameter's choices
    messages: dict[str, int] = field(default_factory=lambda: {"": 0})
    done: int = 0
    settled: int = 0  # designs of whole generations; those after them belong to one that is not whole yet
    generation: int = 0
    population: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # numbers of designs
    ranks: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    crowding: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    seen: set[Any] = field(default_factory=set)  # of whole generations
    best: dict[str, float] = field(default_factory=dict)

    def propose(self) -> Rows:
        """Return the designs of the next generation; none when the space has no more."""
        s = self.search
        block = s.population if s.sampler == "nsga2" else min(max(self.settled // 4, _SMALLEST_BLOCK), _LARGEST_BLOCK)
        if s.sampler == "grid":
            return from_numbers(np.arange(self.settled, min(self.settled + block, math.prod(s.sizes))), s.sizes)
        generator = np.random.default_rng([s.seed, self.generation])
        if s.sampler == "random" or not len(self.population):
            return fresh(generator, s.sizes, block, self.seen)
        parents = self.indices[self.population].astype(np.int64)
        return next_generation(generator, parents, self.ranks, self.crowding, s.sizes, s.ordered, block, self.seen)

    def price(self, rows: Rows, price: Price) -> None:
        """Price designs and put them at the end of the table."""
        columns = {
            n: choices[rows[:, i]] for i, (n, choices) in enumerate(zip(self.search.names, self.arrays, strict=True))
        }
        values, states, messages = priced(self.search, price, columns, first=self.done == 0)
        at = slice(self.done, self.done + len(rows))
        self.indices[at], self.values[at], self.states[at] = rows, values, states
        self.codes[at] = [self.messages.setdefault(m, len(self.messages)) for m in messages]
        self.done += len(rows)
        self.note_best(at)

    def note_best(self, at: slice) -> None:
        """Keep the best value of each objective among allowed designs."""
        values = self.values[at][self.search.violation(self.values[at], self.states[at]) == 0]
        for column, (metric, sense) in enumerate(self.search.objectives.items() if len(values) else ()):
            pick = min if sense == "min" else max
            found = float(values[:, column].min() if sense == "min" else values[:, column].max())
            self.best[metric] = pick(self.best.get(metric, found), found)

    def settle(self) -> None:
        """End a whole generation: the survivors of the last population and of the new designs are the next."""
        new = np.arange(self.settled, self.done)
        self.settled, self.generation = self.done, self.generation + 1
        if self.search.sampler == "nsga2":
            pool = np.concatenate([self.population, new])
            costs = self.search.costs(self.values[pool])
            best = survivors(costs, self.search.violation(self.values[pool], self.states[pool]), self.search.population)
            self.population, self.ranks, self.crowding = pool[best.index], best.ranks, best.crowding

    def chunk(self, start: int, known_messages: int) -> Chunk:
        """Return the designs since `start` and all that the next generation follows from."""
        at = slice(start, self.done)
        return {
            "indices": self.indices[at],
            "values": self.values[at],
            "states": self.states[at],
            "codes": self.codes[at],
            "messages": texts_to_array(list(self.messages)[known_messages:]),
            "progress": np.array([self.settled, self.generation]),
            "population": self.population,
            "ranks": self.ranks,
            "crowding": self.crowding,
        }

    def load(self, chunk: Chunk) -> None:
        """Put a chunk at the end of the table, and go on from its state."""
        at = slice(self.done, self.done + len(chunk["indices"]))
        self.indices[at], self.values[at], self.states[at] = chunk["indices"], chunk["values"], chunk["states"]
        self.codes[at] = chunk["codes"]
        for message in array_to_texts(chunk["messages"]):
            self.messages.setdefault(message, len(self.messages))
        self.settled, self.generation = (int(v) for v in chunk["progress"])
        self.population, self.ranks, self.crowding = chunk["population"], chunk["ranks"], chunk["crowding"]
        self.done = at.stop

    def result(self, trials: int, note: str) -> DesignColumns:
        """Return the first `trials` designs."""
        end = min(trials, self.done)
        codes = self.codes[:end]
        used = 1 + int(codes.max(initial=0))  # messages are numbered as they appear
        return DesignColumns(
            indices=self.indices[:end],
            values=self.values[:end],
            states=self.states[:end],
            message_codes=codes,
            messages=tuple(self.messages)[:used],
            note=note,
        )


def run_designs(
    search: DesignSearch,
    price: Price,
    *,
    trials: int,
    folder: Path | None = None,
    progress: Callable[[DesignProgress], None] | None = None,
    look: Callable[[Callable[[], DesignColumns]], None] | None = None,
) -> DesignColumns:
    """Price designs until there are `trials` of them, or the space has no more; go on where `folder` ends.

    Args:
        search: what is searched; one that differs from what `folder` holds is refused.
        price: called with an array [designs] per parameter, under its name in the study.
        trials: may be larger than when the study was begun; the first trials stay the same.
        folder: the study's folder, None to keep nothing. Its lock is the caller's.
        progress: called after every few designs, at least once a generation.
        look: called as often, with a function that returns the designs so far.

    Raises:
        InputError: for another study's folder, an unknown metric, a folder or disk that cannot be written.

    """
    files = None if folder is None else DesignFiles(folder, _head(search))
    run = _opened(search, files.open() if files else [], trials)
    saved, known_messages = run.done, len(run.messages)

    def save() -> None:
        nonlocal saved, known_messages
        if files and run.done > saved:
            files.append(run.chunk(saved, known_messages), run.done - saved)
            saved, known_messages = run.done, len(run.messages)

    for full in _pieces(run, price, trials):
        if full:
            save()
        if progress:
            progress(DesignProgress(done=run.done, saved=saved, trials=trials, best=dict(run.best)))
        if look:
            look(lambda: run.result(trials, ""))
    save()
    note = "" if run.done >= trials else f"all {run.done:,} designs of the space are priced"
    return run.result(trials, note)


def _pieces(run: _Run, price: Price, trials: int) -> Iterator[bool]:
    """Price generations in pieces that end where chunks do; give after each piece whether a chunk is full."""
    cut = _next_cut(run.done)
    while run.done < trials and len(rows := run.propose()):
        begun = run.done - run.settled
        if not np.array_equal(run.indices[run.settled : run.done], rows[:begun]):
            raise InputError(
                f"the designs after number {run.settled} are not those that follow from the study's seed (another version of "
                "numpy?); go on where the study was begun, or give another --out folder"
            )
        first, end = run.settled, run.settled + len(rows)
        while run.done < min(trials, end):
            run.price(rows[run.done - first : min(trials, end, cut) - first], price)
            if run.done == end:
                run.settle()
            full = run.done == cut
            cut = _next_cut(cut) if full else cut
            yield full


def _next_cut(designs: int) -> int:
    """Return the number of designs at which the chunk ends that begins after `designs`."""
    return designs + min(max(designs // 10, _SMALLEST_CHUNK), _LARGEST_CHUNK)


def _opened(search: DesignSearch, chunks: Sequence[Chunk], trials: int) -> _Run:
    """Return a study with what its chunks hold, and room for `trials` designs."""
    designs = max(sum(len(c["indices"]) for c in chunks), min(trials, math.prod(search.sizes)))
    run = _Run(
        search=search,
        indices=np.empty((designs, len(search.names)), dtype=np.int32),
        values=np.empty((designs, len(search.metrics))),
        states=np.empty(designs, dtype=np.int8),
        codes=np.empty(designs, dtype=np.int32),
        arrays=[_array_of(c) for c in search.choices],
    )
    for chunk in chunks:
        run.load(chunk)
    run.note_best(slice(0, run.done))
    if search.sampler != "grid":
        run.seen = set(keys_of(run.indices[: run.settled].astype(np.int64), search.sizes))
    return run


def _head(search: DesignSearch) -> dict[str, Any]:
    """Return the first line of the journal: what every later line depends on."""
    asked = {
        "names": list(search.names),
        "choices": [list(c) for c in search.choices],
        "ordered": [bool(o) for o in search.ordered],
        "objectives": list(search.objectives.items()),
        "limits": [[k, *v] for k, v in search.limits.items()],
        "sampler": search.sampler,
        "population": search.population if search.sampler == "nsga2" else None,
        "seed": search.seed,
    }
    return {"engine": "designs", "schema": SCHEMA, "key": search.key, "search": digest(asked)}


def _array_of(choices: Sequence[Any]) -> NDArray[Any]:
    """Return choices as an array: whole numbers, numbers or truth values as such, anything else as objects."""
    kinds = {type(c) for c in choices}
    if kinds <= {bool} or kinds <= {int, float}:
        return np.asarray(choices)
    array = np.empty(len(choices), dtype=object)
    array[:] = choices
    return array
