"""Values of a report that are made when somebody looks at them; made once, and plain ever after."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """A sequence of known length whose items are all made by `make` when the first is asked for."""

    __slots__ = ("_length", "_made", "_make")

    def __init__(self, length: int, make: Callable[[], tuple[T, ...]]) -> None:
        self._length = length
        self._make: Callable[[], tuple[T, ...]] | None = make
        self._made: tuple[T, ...] = ()

    def _items(self) -> tuple[T, ...]:
        make = self._make
        if make is not None:
            self._made = make()
            self._make = None
        return self._made

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._items()[index]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return iter(self._items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple | LazySequence) and self._items() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._items())

    def __repr__(self) -> str:
        return repr(self._items())

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._items(),)  # copies and pickles are plain tuples


class LazyMapping(Mapping[str, Any]):
    """A mapping of values at hand and of values that are made when asked for, in the order given."""

    __slots__ = ("_values", "_waiting")

    def __init__(self, values: Mapping[str, Any], waiting: Mapping[str, Callable[[], Any]]) -> None:
        self._values: dict[str, Any] = {**values, **dict.fromkeys(waiting)}
        self._waiting = dict(waiting)

    def __getitem__(self, key: str) -> Any:
        make = self._waiting.get(key)
        if make is not None:
            self._values[key] = make()
            del self._waiting[key]
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)  # copies and pickles are plain dicts
