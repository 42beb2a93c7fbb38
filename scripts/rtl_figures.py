#!/usr/bin/env python3
"""Run the Verilog array on its cases in Icarus Verilog and keep cycles and flips for `picojoule validate`.

Writes picojoule/validation_data/rtl.json. Needs `iverilog` (Debian package of that name). Run it again when the Verilog or
the cases change; the test suite compares the file with the cycle twin and the closed form, and with a new run.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from picojoule.accel.rtl import cases, icarus

FILE = Path(__file__).parents[1] / "picojoule" / "validation_data" / "rtl.json"


def measured(case: cases.RtlCase, folder: Path) -> dict[str, str | int]:
    """Return the row of one case; a wrong output is an error."""
    a, b = cases.operands(case)
    program = icarus.build(folder / "layer.vvp", case.dataflow, case.rows, case.cols, bits=cases.BITS, code=case.code)
    run = icarus.simulate(program, a, b, case.dataflow, bits=cases.BITS, code=case.code)
    if not np.array_equal(run.outputs, a @ b):
        raise SystemExit(f"{case.name}: the Verilog array's outputs are not A times B")
    return {"name": case.name} | case._asdict() | {count: getattr(run, count) for count in cases.COUNTS}


def main() -> None:
    """Write the file and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=FILE, help="default: %(default)s")
    out = parser.parse_args().out
    tool = icarus.version()
    if tool is None:
        raise SystemExit("Icarus Verilog is not installed: apt-get install iverilog")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(case, Path(folder)) for case in cases.CASES]
    rows_text = ",\n".join(f"    {json.dumps(row)}" for row in rows)
    head = json.dumps({"tool": tool, "bits": cases.BITS, "operands": "picojoule.accel.rtl.cases.operands"})[1:-1]
    out.write_text(f'{{\n  {head},\n  "cases": [\n{rows_text}\n  ]\n}}\n', encoding="utf-8")
    for row in rows:
        print(f"{row['name']:44}", *(f"{row[count]:>7}" for count in cases.COUNTS))


if __name__ == "__main__":
    main()
