"""A page read back without a browser."""

from html.parser import HTMLParser


class Parsed(HTMLParser):
    """A page as a browser without scripts sees it: text by table, attributes that load things, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self._table = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag == "table":
            self._table = str(values["id"])
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        elif tag == "script":
            self.scripts.append("")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self._open[-1:] != ["style"]:
            self.text += data
            if {"td", "th"} & set(self._open) and self._table:
                self.tables[self._table][-1][-1] += data


def column(rows: list[list[str]], title: str) -> list[str]:
    at = next(i for i, cell in enumerate(rows[0]) if cell.strip() == title)
    return [row[at] for row in rows[1:]]
