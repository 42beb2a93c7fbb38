"""A page as one HTML file: content escaped, style, script and plotly inlined, nothing fetched; same page, same bytes."""

import html
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from string import Template
from typing import Any

from picojoule.page.content import Beside, Cards, Cell, Column, Figure, Notes, Page, Part, Section, Table, Viewer
from picojoule.sim.errors import InputError

_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(page: Page) -> str:
    """Return the HTML of a page.

    Raises:
        InputError: without plotly, whose script draws the figures.

    """
    figures = {f.name: {"kind": f.kind, **f.spec} for f in _figures(page)}
    data = json_for_script({"figures": figures, **page.data})
    template = Template(_packaged("template.html"))
    return template.substitute(
        title=escaped(page.title),
        about=escaped(page.about),
        css=_packaged("page.css"),
        banner=_banner(page.banner),
        contents="".join(f'<li><a href="#{s.name}">{escaped(s.title)}</a></li>' for s in page.sections),
        sections="\n".join(_section(s) for s in page.sections),
        stored="\n".join(
            f'<template id="stored-{escaped(name)}">{"".join(_part(p) for p in parts)}</template>'
            for name, parts in page.stored.items()
        ),
        data=data,
        plotly=plotly_script().replace("</script", "<\\/script"),
        script=_packaged("page.js"),
    )


def escaped(text: str) -> str:
    """Return text for an element or a quoted attribute; characters that a screen does not show are spelt out."""
    shown = "".join(c if c.isprintable() or c in " \n\t" else f"\\x{ord(c):02x}" for c in text)
    return html.escape(shown)


def json_for_script(value: Mapping[str, Any]) -> str:
    """Return JSON that cannot end the script element it stands in, nor start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.translate({ord(c): spelt for c, spelt in _IN_SCRIPT.items()})
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no UTF-8


def plotly_script() -> str:
    """Return plotly's script.

    Raises:
        InputError: if plotly is not installed.

    """
    try:
        offline = importlib.import_module("plotly.offline")
    except ImportError:
        raise InputError(
            "a page needs plotly, which is not installed; install it with `pip install 'picojoule[report]'`"
        ) from None
    return str(offline.get_plotlyjs())


def _packaged(name: str) -> str:
    return files("picojoule.page").joinpath(name).read_text(encoding="utf-8")


def _figures(page: Page) -> Iterator[Figure]:
    for section in page.sections:
        yield from _figures_of(section.parts)
    for parts in page.stored.values():
        yield from _figures_of(parts)


def _figures_of(parts: Iterable[Part]) -> Iterator[Figure]:
    for part in parts:
        if isinstance(part, Figure):
            yield part
        elif isinstance(part, Beside):
            yield from _figures_of(part.parts)


def _banner(lines: tuple[str, ...]) -> str:
    if not lines:
        return ""
    first, *rest = (escaped(line) for line in lines)
    return f'<div class="banner" role="alert"><strong>{first}</strong> {" ".join(rest)}</div>'


def _section(section: Section) -> str:
    inner = "\n".join(_part(p) for p in section.parts)
    body = f'<div class="parts">{inner}</div>'
    if section.closed:
        body = f"<details><summary>show</summary>{body}</details>"
    return f'<section id="{section.name}"><h2>{escaped(section.title)}</h2>{body}</section>'


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Figure):
        return _figure(part)
    if isinstance(part, Cards):
        return f'<dl class="cards">{"".join(_card(c.label, c.value, c.details) for c in part.cards)}</dl>'
    if isinstance(part, Notes):
        return f"<ul>{''.join(f'<li>{escaped(item)}</li>' for item in part.items)}</ul>"
    if isinstance(part, Beside):
        return f'<div class="side{" lead" if part.lead else ""}">{"".join(_part(p) for p in part.parts)}</div>'
    if isinstance(part, Viewer):
        return _viewer(part)
    if part.verbatim:
        return f'<pre tabindex="0">{escaped(part.text)}</pre>'
    return f"<p>{escaped(part.text)}</p>"


def _card(label: str, value: str, details: tuple[str, ...]) -> str:
    small = "".join(f'<span class="detail">{escaped(d)}</span>' for d in details)
    return f'<div><dt>{escaped(label)}</dt><dd><span class="value">{escaped(value)}</span>{small}</dd></div>'


def _figure(figure: Figure) -> str:
    name = escaped(figure.name)
    return (
        f'<figure><figcaption>{escaped(figure.title)}</figcaption><div class="controls" id="controls-{name}"></div>'
        f'<div class="plot" id="plot-{name}" data-figure="{name}" role="img" aria-label="{escaped(figure.about)}"></div>'
        f'<p class="detail">{escaped(figure.about)}</p></figure>'
    )


def _viewer(viewer: Viewer) -> str:
    choices = "".join(f'<option value="{escaped(key)}">{escaped(label)}</option>' for key, label in viewer.choices)
    return (
        f'<div class="viewer" id="{escaped(viewer.name)}"><p class="controls"><label>{escaped(viewer.label)} '
        f'<select>{choices}</select></label></p><div class="view" aria-live="polite"></div></div>'
    )


def _table(table: Table) -> str:
    name = escaped(table.name)
    heads = "".join(_head(c, table.sortable, i == 0) for i, c in enumerate(table.columns))
    rows = "".join(
        f"<tr{_kind(row.kind)}>" + "".join(_cell(row.cells[i], table, i, row.opens) for i in range(len(row.cells))) + "</tr>"
        for row in table.rows
    )  # fmt: skip
    body = rows or f'<tr><td colspan="{len(table.columns)}">none</td></tr>'
    kinds = "".join(f"<option>{escaped(k)}</option>" for k in table.kinds)
    chooser = (
        f'<p class="controls" hidden><label>show <select data-kinds="{name}"><option value="">all</option>{kinds}</select>'
        f'</label> <label>containing <input type="search" data-filter="{name}" size="12"></label> '
        f'<span data-left="{name}" aria-live="polite"></span></p>'
        if table.kinds
        else ""
    )
    caption = escaped(table.caption)
    return (
        f'<div class="part">{chooser}<div class="box" tabindex="0" role="region" aria-label="{caption}">'
        f'<table id="table-{name}" data-opens="{table.opens}" data-group="{escaped(table.group)}"><caption>{caption}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def _head(column: Column, sortable: bool, first: bool) -> str:
    css = ' class="n"' if column.numeric and not first else ""
    about = f' title="{escaped(column.about)}"' if column.about else ""
    if not sortable:
        return f'<th scope="col"{css}{about}>{escaped(column.title)}</th>'
    kind = "number" if column.numeric else "text"
    return (
        f'<th scope="col"{css}{about} aria-sort="none"><button type="button" data-sort="{kind}">{escaped(column.title)}'
        f'<span class="arrow" aria-hidden="true"></span></button></th>'
    )


def _kind(kind: str) -> str:
    return f' data-kind="{escaped(kind)}"' if kind else ""


def _cell(cell: Cell, table: Table, index: int, opens: str) -> str:
    numeric = table.columns[index].numeric
    css = ' class="n"' if numeric else ""
    value = f' data-v="{escaped(str(cell.value))}"' if numeric and cell.value is not None else ""
    bar = f'<span class="bar" style="--s:{min(1.0, max(0.0, cell.bar)):.4f}"></span>' if cell.bar is not None else ""
    note = f'<span class="detail">{escaped(cell.note)}</span>' if cell.note else ""
    text = escaped(cell.text) + note
    if index:
        return f"<td{css}{value}>{text}{bar}</td>"
    if opens:
        text = f'<button type="button" class="open" data-open="{escaped(opens)}" aria-expanded="false">{text}</button>'
    return f'<th scope="row"{css}{value}>{text}</th>'
