"""Every way a file enters, and how it is attacked: `write` makes a hostile file, `load` reads it, `use` works with what came.

Errors of `load` must name the file; `use` may speak of layers and hardware.
"""

import os
import random
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import mutate_data, mutate_onnx, specimens_networks, specimens_text
from .mutate_text import MARKER
from .pricing import STEM, load_network, price, small_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One way in. `write` puts a hostile specimen into a folder; `sound` puts a sound one, which must be read.

    `share` is its part of a campaign (0: only when asked for). Readers of one `group` share a worker, so that torch is
    loaded once. `suffix` is that of the one file it reads; without, it reads a folder.
    """

    name: str
    group: str
    share: int
    write: Callable[[random.Random, Path], str]
    load: Callable[[Path], Any]
    use: Callable[[Any], None]
    sound: Callable[[int, Path], bool]
    suffix: str = ""


def _nothing(_: Any) -> None:
    pass


# --- weights ----------------------------------------------------------------------------------------------------------


def _write_pt(rng: random.Random, folder: Path) -> str:
    from .mutate_torch import write_pt

    return write_pt(rng, folder / f"{STEM}.pt")


def _write_safetensors(rng: random.Random, folder: Path) -> str:
    from .mutate_torch import write_safetensors

    return write_safetensors(rng, folder / f"{STEM}.safetensors")


def _load_weights(path: Path) -> Any:
    from picojoule.networks import load_weights

    from .corpus_torch import network

    load_weights(network(), path)


def _sound_pt(number: int, folder: Path) -> bool:
    from .corpus_torch import checkpoints

    if number < len(checkpoints()):
        (folder / f"{STEM}.pt").write_bytes(checkpoints()[number])
    return number < len(checkpoints())


def _sound_safetensors(number: int, folder: Path) -> bool:
    from .corpus_torch import safetensors

    (folder / f"{STEM}.safetensors").write_bytes(safetensors())
    return number < 1


# --- data sets --------------------------------------------------------------------------------------------------------


def _load_data(form: str) -> Callable[[Path], Any]:
    def load(path: Path) -> Any:
        from picojoule.models.data import load as load_data

        return load_data(f"{form}:{path}")

    return load


def _data_writer(write: Callable[[random.Random, Path], str]) -> Callable[[random.Random, Path], str]:
    def inside(rng: random.Random, folder: Path) -> str:
        home = folder / STEM
        home.mkdir()
        return write(rng, home)

    return inside


def _no_sound(number: int, folder: Path) -> bool:
    return False


# --- what the harness must notice ---------------------------------------------------------------------------------------

TRAPS = ("raises", "loops", "eats memory", "runs code", "starts a process", "opens a secret", "says nothing", "dies")


def _write_trap(rng: random.Random, folder: Path) -> str:
    (folder / f"{STEM}.txt").write_text(rng.choice(TRAPS))
    return "trap"


def _fall_into_trap(path: Path) -> Any:
    """Break one rule; the harness is tested with it."""
    from picojoule.sim.errors import InputError

    match path.read_text():
        case "raises":
            raise KeyError("a bug")
        case "loops":
            while True:
                pass
        case "eats memory":
            return bytearray(3 << 30)
        case "runs code":
            Path(MARKER).touch()
        case "starts a process":
            subprocess.run(["true"], check=True)
        case "opens a secret":
            (path.parent.parent / mutate_onnx.SECRET).read_bytes()
        case "says nothing":
            raise InputError("something is wrong")
        case "dies":
            os.abort()
    return None
    return None


# --- the list ---------------------------------------------------------------------------------------------------------


def _onnx_writer(rng: random.Random, folder: Path) -> str:
    return mutate_onnx.write(rng, folder / f"{STEM}.onnx")


_ALL = (
    Reader(
        name="onnx",
        suffix=".onnx",
        group="onnx",
        share=34,
        write=_onnx_writer,
        load=load_network,
        use=price,
        sound=specimens_networks.sound_onnx,
    ),
    Reader(
        name="csv",
        suffix=".csv",
        group="text",
        share=8,
        write=specimens_networks.write_csv,
        load=load_network,
        use=price,
        sound=specimens_networks.sound_csv,
    ),
    Reader(
        name="network-json",
        suffix=".json",
        group="text",
        share=10,
        write=specimens_networks.write_network,
        load=load_network,
        use=price,
        sound=specimens_networks.sound_network,
    ),
    Reader(
        name="hardware-yaml",
        suffix=".yaml",
        group="text",
        share=10,
        write=specimens_text.write_hardware,
        load=specimens_text.load_hardware,
        use=lambda a: price(small_network(), a),
        sound=specimens_text.sound_hardware,
    ),
    Reader(
        name="plan-yaml",
        suffix=".yaml",
        group="text",
        share=8,
        write=specimens_text.write_plan,
        load=specimens_text.load_plan,
        use=specimens_text.use_plan,
        sound=specimens_text.sound_plan,
    ),
    Reader(
        name="run-json",
        group="text",
        share=6,
        write=specimens_text.write_run,
        load=specimens_text.load_run,
        use=_nothing,
        sound=specimens_text.sound_run,
    ),
    Reader(
        name="points-csv",
        suffix=".csv",
        group="text",
        share=3,
        write=specimens_text.write_points,
        load=specimens_text.load_points,
        use=_nothing,
        sound=specimens_text.sound_points,
    ),
    Reader(
        name="idx",
        group="text",
        share=2,
        write=_data_writer(mutate_data.write_idx),
        load=_load_data("idx"),
        use=_nothing,
        sound=_no_sound,
    ),
    Reader(
        name="cifar10",
        group="text",
        share=1,
        write=_data_writer(mutate_data.write_cifar10),
        load=_load_data("cifar10"),
        use=_nothing,
        sound=_no_sound,
    ),
    Reader(
        name="images",
        group="text",
        share=1,
        write=_data_writer(mutate_data.write_images),
        load=_load_data("images"),
        use=_nothing,
        sound=_no_sound,
    ),
    Reader(
        name="pt",
        suffix=".pt",
        group="torch",
        share=7,
        write=_write_pt,
        load=_load_weights,
        use=_nothing,
        sound=_sound_pt,
    ),
    Reader(
        name="safetensors",
        suffix=".safetensors",
        group="torch",
        share=5,
        write=_write_safetensors,
        load=_load_weights,
        use=_nothing,
        sound=_sound_safetensors,
    ),
    Reader(
        name="traps",
        suffix=".txt",
        group="traps",
        share=0,
        write=_write_trap,
        load=_fall_into_trap,
        use=_nothing,
        sound=_no_sound,
    ),
    Reader(
        name="pt2",
        suffix=".pt2",
        group="torch",
        share=5,
        write=specimens_networks.write_pt2,
        load=load_network,
        use=price,
        sound=specimens_networks.sound_pt2,
    ),
)
READERS: Mapping[str, Reader] = {r.name: r for r in _ALL}


def specimen(reader: str, folder: Path) -> Path:
    """Return the path that a reader is given."""
    return folder / f"{STEM}{READERS[reader].suffix}"


def odd_path(rng: random.Random, reader: str, folder: Path) -> str:
    """Put something else than a file where the file should be."""
    path = specimen(reader, folder)
    if path.is_dir():
        for inner in list(path.iterdir()):
            if inner.is_file():
                inner.unlink()
        return "emptied folder"
    path.unlink()
    kind = rng.choice(("missing", "folder", "loop", "dangling", "empty", "endless"))
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind != "missing":
        path.symlink_to({"loop": path.name, "dangling": "nowhere", "endless": "/dev/zero"}[kind])
    return f"odd path: {kind}"
