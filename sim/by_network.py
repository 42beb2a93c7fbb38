"""Remembers what follows from a network alone, for as long as that network lives.

Networks are frozen values, so what follows from their shapes and formats never changes; values of weights may (a traced
module's are its own) and must not be remembered here. Networks are told apart by identity: comparing them would take longer
than most of what is remembered.
"""

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from picojoule.sim.ir import Network

Value = TypeVar("Value")
_MOST = 256
"""Entries of one network; beyond, they are made anew."""


class _Kept:
    """Entries by the network's id; they go when the network goes."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[Network], dict[Hashable, Any]]] = {}

    def of(self, network: Network) -> dict[Hashable, Any]:
        """Return the entries of a network."""
        place = id(network)
        found = self._entries.get(place)
        if found is None or found[0]() is not network:
            entries: dict[Hashable, Any] = {}
            self._entries[place] = (weakref.ref(network, lambda gone: self._drop(place, gone)), entries)
            return entries
        return found[1]

    def _drop(self, place: int, gone: "weakref.ref[Network]") -> None:
        found = self._entries.get(place)
        if found is not None and found[0] is gone:
            del self._entries[place]


_KEPT = _Kept()


def remembered(network: Network, key: Hashable, make: Callable[[], Value]) -> Value:
    """Return `make()`, or what it returned before for the same network object and an equal key.

    `make` must depend on nothing else and must not hold on to `network` itself, which then would never go. What it raises is
    raised, and not remembered.
    """
    entries = _KEPT.of(network)
    if key in entries:
        found: Value = entries[key]
        return found
    made = make()
    if len(entries) >= _MOST:
        entries.clear()
    entries[key] = made
    return made
