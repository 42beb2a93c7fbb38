"""Rows as a terminal shows them: numbers in readable units that never break across lines, and not too many rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from picojoule.figures_axes import Shown, shown_as
from picojoule.sim.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

MOST_ROWS = 40
_TEXTS = ("study", "run", "target", "split")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: its heading, the key in the rows, and how its numbers are shown. Text may wrap, numbers not."""

    head: str
    key: str
    shown: Shown | None = None
    text: bool = False

    def cell(self, row: Mapping[str, Any]) -> str:
        """Return a row's value as text."""
        value = row.get(self.key)
        if value is None:
            return "-"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, float):
            return f"{value * self.shown.factor:.4g}" if self.shown else f"{value:.3g}"
        return printable(str(value))


def narrow_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], title: str = "") -> "Table":
    """Return a table of the columns; only text wraps where the terminal is narrow."""
    from rich import box
    from rich.table import Table

    table = Table(title=printable(title) or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        if column.text:
            table.add_column(column.head, overflow="fold")
        else:
            table.add_column(column.head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def shown_points(
    rows: Sequence[Mapping[str, Any]], parameters: Sequence[str] = (), width: int = 120
) -> tuple["Table", str]:
    """Return points as a table, the front first, and a note on what it leaves out.

    parameters: keys of a space among the rows' keys. What is the same in all rows stands in the title; of parameters that
    would make the table wider than `width` characters the last ones are left out.
    """
    best = [row for row in rows if row["on_front"]]
    step = -(-len(best) // MOST_ROWS) if best else 1
    listed = best[::step] if step > 1 else [*best, *(row for row in rows if not row["on_front"])][:MOST_ROWS]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    same = {key: rows[0].get(key) for key in keys if key in _TEXTS and len({row.get(key) for row in rows}) == 1}
    title = ", ".join(f"{key} {value}" for key, value in same.items() if value)
    columns = _columns([key for key in keys if key not in same], parameters)
    dropped: list[str] = []
    while sum(_width(column, listed) for column in columns) > width - 2:
        last = next((c for c in reversed(columns) if c.key in parameters), None)
        if last is None:
            break
        columns.remove(last)
        dropped.insert(0, last.key)
    notes = []
    if len(listed) < len(rows):
        which = "an even choice of the front" if step > 1 else "the front first"
        notes.append(f"{len(listed)} of {len(rows):,} points, {which}")
    if dropped:
        notes.append(f"without {', '.join(dropped)}")
    note = "; ".join(notes) + (" (--format json lists all)" if notes else "")
    return narrow_table(listed, columns, title), note


def _columns(keys: Sequence[str], parameters: Sequence[str]) -> list[Column]:
    last = [key.rpartition(".")[2] for key in parameters]
    made = []
    for key in keys:
        if key in parameters:
            name = key.rpartition(".")[2]
            made.append(Column(head=(name if last.count(name) == 1 else key).replace("_", "\n"), key=key))
        elif key in _TEXTS:
            made.append(Column(head=key, key=key, text=True))
        elif key == "p_non_dominated":
            made.append(Column(head="P", key=key))
        elif key == "on_front":
            made.append(Column(head="front", key=key))
        else:
            shown = shown_as(key)
            words = shown.words.removesuffix(" per sample")
            made.append(Column(head=f"{words}\n{shown.unit}".rstrip(), key=key, shown=shown))
    return made


def _width(column: Column, rows: Sequence[Mapping[str, Any]]) -> int:
    """Return the width of a column, with what parts it from the next."""
    return 2 + max(len(text) for text in (*column.head.split("\n"), *(column.cell(row) for row in rows)))
