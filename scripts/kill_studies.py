"""Kill -9 at random moments: short studies, killed over and over and resumed; nothing may be lost, doubled or different.

scripts/kill_studies                                        240 kills over all kinds of studies
scripts/kill_studies --kills 2000 --kinds designs sqlite    more of them over two kinds
scripts/kill_studies --seed 7 --keep                        other moments; folders of studies with a fault are kept

Kinds: `optuna-1`, `designs` and `sqlite` search hardware alone (sampler of Optuna, own generations, database); `train-1`,
`train-2` and `dask` train (one process, two, two workers of a cluster). Drivers are killed at any time, in bursts while they
start, when the journal has grown to some size, and while the front and the figures are written. In `train-2` and `dask`
workers are killed too, at most two in a session: with the third death in a row a trial is given up, as it should be.

lost: a trial whose end stood on record at a kill, and after the resume has none or another. doubled: a second end of one
trial. unequal: a study whose trials.csv, pareto.csv, summary.json or pareto.png is not that of the uninterrupted study, byte
for byte. orphans: processes of a killed driver that live on. refused: sessions that ended by themselves with an error.
Results land in runs/kill_studies.json; the exit code is 1 if anything of these was found.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from kill_studies_kinds import KINDS, NETWORK, STUDIES, TOPOLOGY, shares
from kill_studies_processes import Cluster, ForkedSearch, Search, Server
from kill_studies_sessions import Study, Tally

_ROOT = Path(__file__).resolve().parent.parent
_NAME = "out"
"""Of every study's folder, as it stands in titles of figures."""
BY_COMMAND = 0.2
"""Share of studies whose sessions are whole commands, where the others are forked."""


class Campaign:
    """Studies in a folder, their uninterrupted results, and the chance that says when to kill."""

    def __init__(self, folder: Path, *, seed: int = 0, by_command: float = BY_COMMAND, keep: bool = False) -> None:
        self.folder, self._seed, self._by_command, self._keep = folder, seed, by_command, keep
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "small.csv").write_text(TOPOLOGY)
        (folder / "net.py").write_text(NETWORK)
        self._took_s: dict[str, float] = {}
        self._servers: dict[tuple[str, ...], Server] = {}

    def close(self) -> None:
        """End the servers of searches."""
        for server in self._servers.values():
            server.close()

    def prepare(self, study: str) -> None:
        """Search a study without an interruption."""
        modules = next(k.modules for k in KINDS.values() if k.study == study and k.modules is not None)
        start = time.monotonic()
        out = self._whole(study)
        search = self._start(self._arguments(study, out), modules, by_command=self._by_command > 0)
        while search.ended() is None:
            time.sleep(0.01)
        if search.ended() != 0:
            raise RuntimeError(f"the uninterrupted study failed: {search.said()}")
        self._took_s[study] = time.monotonic() - start

    def run(self, kills: Mapping[str, int]) -> dict[str, Tally]:
        """Return by kind what came of so many kills."""
        return {name: self._run(name, count) for name, count in kills.items()}

    def _run(self, name: str, kills: int) -> Tally:
        """Kill studies of a kind until there were so many kills; each study is resumed to its end and compared."""
        tally = Tally(uninterrupted_s=self._took_s[KINDS[name].study])
        random = np.random.default_rng([self._seed, list(KINDS).index(name)])
        (self.folder / name).mkdir()
        cluster = Cluster(self.folder / name) if name == "dask" else None
        try:
            while tally.kills + tally.worker_kills < kills and tally.studies < 3 * kills + 3:
                self._study(name, tally, random, kills, cluster)
        finally:
            if cluster is not None:
                cluster.close()
        return tally

    def _study(self, name: str, tally: Tally, random: np.random.Generator, kills: int, cluster: Cluster | None) -> None:
        kind, folder = KINDS[name], self.folder / name / f"{tally.studies:04d}"
        database = folder / "trials.db" if kind.database else None
        words = [*self._arguments(kind.study, folder / _NAME, database), *kind.options, "--resume"]
        words += ["--scheduler", cluster.address] if cluster is not None else []
        by_command = bool(random.random() < self._by_command)
        study = Study(
            kind=kind,
            out=folder / _NAME,
            whole=self._whole(kind.study),
            took_s=self._took_s[kind.study],
            start=lambda: self._start(words, kind.modules, by_command=by_command),
            tally=tally,
            random=random,
            cluster=cluster,
            database=database,
        )
        faults = tally.faults
        study.kill_and_resume(kills - tally.kills - tally.worker_kills)
        tally.studies += 1
        if tally.faults == faults or not self._keep:
            shutil.rmtree(folder, ignore_errors=True)

    def _whole(self, study: str) -> Path:
        return self.folder / f"{study}-whole" / _NAME

    def _arguments(self, study: str, out: Path, database: Path | None = None) -> list[str]:
        """Write a study's file and return the words after `picojoule search`."""
        values = dict(STUDIES[study])
        values["network"] = str(self.folder / values["network"])
        if database is not None:
            values["storage"] = f"sqlite:///{database}"
        path = out.parent / "asked.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return [str(path), "--out", str(out)]

    def _start(self, words: list[str], modules: tuple[str, ...] | None, *, by_command: bool) -> Search | ForkedSearch:
        errors = Path(words[0]).with_name("errors.txt")
        if by_command or modules is None:
            return Search(words, errors)
        if modules not in self._servers:
            self._servers[modules] = Server(*modules)
        return self._servers[modules].search(words, errors)


def run_campaign(
    folder: Path,
    kills: Mapping[str, int],
    *,
    seed: int = 0,
    parallel: int = 1,
    by_command: float = BY_COMMAND,
    keep: bool = False,
) -> dict[str, Tally]:
    """Return by kind what came of so many kills; `folder` is emptied first."""
    campaign = Campaign(folder.resolve(), seed=seed, by_command=by_command, keep=keep)
    groups: dict[object, dict[str, int]] = {}  # a server forks one search at a time, so its kinds take turns
    for name, count in kills.items():
        modules = KINDS[name].modules
        groups.setdefault(name if modules is None else modules, {})[name] = count
    try:
        for study in dict.fromkeys(KINDS[name].study for name in kills):
            campaign.prepare(study)
        with ThreadPoolExecutor(parallel) as threads:
            tallies = dict(pair for found in threads.map(campaign.run, groups.values()) for pair in found.items())
    finally:
        campaign.close()
    return {name: tallies[name] for name in kills}


def main() -> int:
    """Run a campaign; the exit code is 1 if a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=240, help="over all chosen kinds, by their shares")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=2, help="kinds at a time")
    parser.add_argument("--folder", type=Path, default=_ROOT / "runs" / "kill_studies", help="is emptied first")
    parser.add_argument("--keep", action="store_true", help="keep the folders of studies with a fault")
    parser.add_argument("--out", type=Path, default=_ROOT / "runs" / "kill_studies.json")
    given = parser.parse_args()
    begun = time.monotonic()
    tallies = run_campaign(
        given.folder, shares(given.kills, given.kinds), seed=given.seed, parallel=given.parallel, keep=given.keep
    )
    found = {"seed": given.seed, "took_s": round(time.monotonic() - begun, 1)}
    found["kinds"] = {name: asdict(tally) for name, tally in tallies.items()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    _show(tallies)
    return 1 if any(tally.faults for tally in tallies.values()) else 0


def _show(tallies: Mapping[str, Tally]) -> None:
    names = [n for n in asdict(Tally()) if n not in ("problems", "other_files")]
    rows = [["kind", *names]]
    for kind, tally in tallies.items():
        values = [getattr(tally, name) for name in names]
        rows.append([kind, *(f"{v:.1f}" if isinstance(v, float) else str(v) for v in values)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
