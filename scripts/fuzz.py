"""Hostile files against every reader, seeded: what was tried, what came out, the slowest and the largest case.

scripts/fuzz                                     2,000 cases over all readers
scripts/fuzz --cases 200000 --jobs 2             more of them
scripts/fuzz --reader onnx --case 1234           one case again, with its files kept in runs/fuzz/
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_SHOWN = 12


def main() -> int:
    """Run a campaign; the exit code is 1 if any case broke a rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="over all chosen readers, by their shares")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", default=[], help="only this one (may be given again)")
    parser.add_argument("--case", type=int, help="one case of one reader again")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each reader")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep", type=Path, default=_ROOT / "runs" / "fuzz", help="where failing files go")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    given = parser.parse_args()
    sys.path.insert(0, str(_ROOT / "tests"))  # the harness is a test's, and a package of its own there
    campaign: Any = importlib.import_module("fuzz.campaign")
    tally = campaign.Tally()
    known = campaign.reader_names()
    unknown = next((r for r in given.reader if r not in known), None)
    if unknown is not None:
        parser.error(f"unknown reader '{unknown}' (choose from {', '.join(known)})")
    if given.case is not None and len(given.reader) != 1:
        parser.error("--case needs the --reader it belongs to")
    if given.case is not None:
        lists = [[(given.reader[0], given.case, given.case + 1)]]
    else:
        counts = campaign.shared(given.cases, given.reader)
        lists = [[(n, a + given.first, b + given.first) for n, a, b in jobs] for jobs in campaign.jobs_of(counts)]
    campaign.run(lists, given.seed, processes=given.jobs, keep=given.keep, tell=tally.add)
    if given.format == "json":
        print(json.dumps({"table": tally.table(), "problems": tally.problems}, indent=1))
    else:
        _show(tally, given.keep, given.seed)
    return 1 if tally.problems else 0


def _show(tally: Any, keep: Path, seed: int) -> None:
    rows = tally.table()
    widths = {k: max(len(str(k)), *(len(str(r[k])) for r in rows)) for k in rows[0]}
    print("  ".join(str(k).ljust(w) for k, w in widths.items()))
    for row in rows:
        print("  ".join(str(row[k]).ljust(w) for k, w in widths.items()))
    for p in tally.problems[:_SHOWN]:
        print(f"\n{p['reader']} case {p['case']} ({p['label']}), --seed {seed}: {p['problem']}")
    if tally.problems:
        print(f"\n{len(tally.problems)} problems; files in {keep}")


if __name__ == "__main__":
    sys.exit(main())
