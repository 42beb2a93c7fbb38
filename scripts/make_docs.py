#!/usr/bin/env python3
"""Rewrite what is generated in the docs: README.md's support matrix, operators.md, tables of three other documents.

Run it after adding an operator, a handler or an accelerator: `scripts/make_docs.py`. A test fails while they are stale.
"""

import argparse
import re
from pathlib import Path

from picojoule import crossbar_document, deform_document, systolic_document
from picojoule.operators import operators_document, support_matrix

_MATRIX = re.compile(r"(<!-- support matrix:.*?-->\n).*?(\n<!-- end)", re.DOTALL)


def main() -> None:
    """Write the files below --root."""
    parser = argparse.ArgumentParser(description="Rewrite the generated parts of the documentation.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent, help="folder that holds README.md")
    root = parser.parse_args().root
    readme = root / "README.md"
    text, found = _MATRIX.subn(lambda m: m[1] + support_matrix() + m[2], readme.read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit(f"{readme}: expected one support matrix between its markers, found {found}")
    readme.write_text(text, encoding="utf-8")
    (root / "docs" / "operators.md").write_text(operators_document(), encoding="utf-8")
    documents = {"deformable.md": deform_document, "crossbar.md": crossbar_document, "systolic.md": systolic_document}
    for name, document in documents.items():
        file = root / "docs" / name
        file.write_text(document.with_sections(file.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
