"""Hostile networks: ONNX, topology CSV, our own JSON, exported programs; and sound ones to begin with."""

import json
import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from .mutate_bytes import HOSTILE_INTS, damaged
from .mutate_text import NUMBERS, WORDS, encoded, write_tree
from .pricing import STEM, TOPOLOGY, load_network


def sound_onnx(number: int, folder: Path) -> bool:
    from .corpus_onnx import models

    if number < len(models()):
        (folder / f"{STEM}.onnx").write_bytes(models()[number])
    return number < len(models())


_CSV_HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
_CSVS = (
    _CSV_HEADER + TOPOLOGY,
    TOPOLOGY,
    "Layer, M, N, K,\nfc1, 64, 10, 128, 2:4\nfc2, 1, 1000, 512,\n",
    "\ufeffconvDP, 12, 14, 3, 3, 8, 1, 2\r\nconv, 224, 224, 7, 7, 3, 64, 2\r\n",
)


def write_csv(rng: random.Random, folder: Path) -> str:
    path, text = folder / f"{STEM}.csv", rng.choice(_CSVS)
    kind = rng.random()
    if kind < 0.25:
        path.write_bytes(damaged(rng, text.encode()))
        return "bytes"
    if kind < 0.35:
        path.write_text(_big_csv(rng))
        return "bulk"
    rows = [row.split(",") for row in text.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 4))):
        row = rng.choice(rows)
        choice = rng.random()
        if choice < 0.6 and row:
            row[rng.randrange(len(row))] = field(rng)
        elif choice < 0.7 and row:
            del row[rng.randrange(len(row)) :]
        elif choice < 0.8:
            row.extend([field(rng)] * rng.choice((1, 2, 300)))
        else:
            rows.insert(rng.randrange(len(rows) + 1), list(row))
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(rng.choice((",", ",", ",", ";", "\t")).join(r) for r in rows)
    path.write_bytes(encoded(rng, text))
    return "fields"


def field(rng: random.Random) -> str:
    text = str(rng.choice((*NUMBERS, *WORDS, *HOSTILE_INTS)))
    return rng.choice((text, text, f'"{text}"', f" {text} ", f"'{text}", "1:4", "4:2", "2:4", "=1+1", "1.0", "٣", "²"))


def _big_csv(rng: random.Random) -> str:
    rows = rng.choice((200, 1000))
    return rng.choice(
        (
            lambda: "a," * 300_000,
            lambda: "x, 8, 8, 3, 3, 3, 8, 1\n" * rows,
            lambda: "\n" * 500_000,
            lambda: "x" * 1_000_000,
            lambda: "x, 1, 1, 1, 1, 1, 1, 1\n" * 40_000,
            lambda: '"' * 300_000,
            lambda: "".join(f"l{i}, {rng.choice(HOSTILE_INTS)}, 8, 3, 3, 3, 8, 1\n" for i in range(50)),
        )
    )()


def sound_csv(number: int, folder: Path) -> bool:
    if number < len(_CSVS):
        (folder / f"{STEM}.csv").write_text(_CSVS[number])
    return number < len(_CSVS)


@cache
def _documents() -> tuple[tuple[dict[str, Any], bytes], ...]:
    """Return sound JSON networks with the values beside them: what `export` writes of small ONNX models."""
    from picojoule.sim.exporters.network_json import write_network

    from .corpus_onnx import attention, convnet, shape_arithmetic

    made = []
    with tempfile.TemporaryDirectory() as folder:
        for network in (convnet, attention, shape_arithmetic):
            path = Path(folder) / f"{STEM}.onnx"
            path.write_bytes(network().SerializeToString())
            write_network(load_network(path), path.with_suffix(".json"))
            values = path.with_suffix(".safetensors").read_bytes()
            made.append((json.loads(path.with_suffix(".json").read_text()), values))
    return tuple(made)


def write_network(rng: random.Random, folder: Path) -> str:
    tree, values = rng.choice(_documents())
    (folder / f"{STEM}.safetensors").write_bytes(damaged(rng, values) if rng.random() < 0.1 else values)
    return write_tree(rng, folder / f"{STEM}.json", tree, yaml=False)


def sound_network(number: int, folder: Path) -> bool:
    if number < len(_documents()):
        tree, values = _documents()[number]
        (folder / f"{STEM}.json").write_text(json.dumps(tree))
        (folder / f"{STEM}.safetensors").write_bytes(values)
    return number < len(_documents())


def sound_pt2(number: int, folder: Path) -> bool:
    from .corpus_torch import programs

    if number < len(programs()):
        (folder / f"{STEM}.pt2").write_bytes(programs()[number])
    return number < len(programs())


def write_pt2(rng: random.Random, folder: Path) -> str:
    from .mutate_torch import write_pt2

    return write_pt2(rng, folder / f"{STEM}.pt2")
