"""What a page consists of: plain values, so that what is said can be tested without a browser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell: the text shown, what it sorts by (None last), and optionally a bar of a share in [0, 1] and a small note."""

    text: str
    value: float | str | None = None
    bar: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column's title; `numeric` ones stand right and sort by size; `about` explains the title."""

    title: str
    numeric: bool = False
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. `opens` names what its first cell opens; `kind` is a word that rows can be chosen by."""

    cells: tuple[Cell, ...]
    opens: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table in a box that scrolls by itself; `opens` says what its rows open: `layer`, `point` or nothing."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    sortable: bool = True
    kinds: tuple[str, ...] = ()
    opens: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing: `about` says in words what it shows, `spec` is plotly's data and layout or, by `kind`, what the script draws."""

    name: str
    title: str
    about: str
    spec: Mapping[str, Any]
    kind: str = "plotly"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A paragraph, or with `verbatim` a file as it is."""

    text: str
    verbatim: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """A list of remarks."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Where one of several runs is shown: a choice of their names and labels, most interesting first."""

    name: str
    label: str
    choices: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A headline figure: what, its value with unit, and in which range or of what."""

    label: str
    value: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """Headline figures side by side."""

    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Parts side by side where there is room; with `lead` the first takes two thirds."""

    parts: "tuple[Table | Figure, ...]"
    lead: bool = False


Part = Table | Figure | Text | Notes | Viewer | Cards | Beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of a page; `closed` ones open on demand."""

    name: str
    title: str
    parts: tuple[Part, ...]
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The whole document. `banner` warns on top; `data` goes to the script; `stored` are parts that a viewer shows."""

    title: str
    about: str
    sections: tuple[Section, ...]
    banner: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
