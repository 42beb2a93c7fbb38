"""Compile the Verilog array beside this file and run layers on it with Icarus Verilog (programs `iverilog` and `vvp`).

Nothing of the cycle twin or of a closed form goes in: this writes operand files, starts the two programs and reads what the
test bench printed. How to do the same by hand stands in README.md.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from picojoule.accel.systolic.cycle_twin import TwinRun
from picojoule.sim.errors import PicojouleError, UnsupportedError

SOURCES = ("pe.v", "array.v", "sequencer.v", "accumulator.v", "testbench.v")
FLAGS = ("-g2005", "-Wall", "-s", "testbench")
IntArray = npt.NDArray[np.int64]


def version() -> str | None:
    """Return the first line of `iverilog -V`, or None where the simulator is not installed."""
    if shutil.which("iverilog") is None or shutil.which("vvp") is None:
        return None
    return _output(["iverilog", "-V"]).splitlines()[0].strip()


def _output(command: list[str], folder: Path | None = None) -> str:
    """Run `command` (in `folder`) and return what it printed; raise PicojouleError with its own first complaint if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, cwd=folder)
    if done.returncode:
        raise PicojouleError(f"{command[0]} failed with status {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout if command[0] != "iverilog" else done.stdout + done.stderr


def build(
    program: Path,
    dataflow: str,
    rows: int,
    cols: int,
    *,
    bits: int = 8,
    code: str = "twos_complement",
    sum_bits: int = 32,
) -> Path:
    """Compile an array of rows x cols PEs for a dataflow into the file `program`, which is returned.

    A warning of the compiler is an error (PicojouleError). UnsupportedError where there is no simulator.
    """
    if version() is None:
        raise UnsupportedError("Icarus Verilog is not installed: apt-get install iverilog")
    folder = Path(__file__).parent
    given = {"ROWS": rows, "COLS": cols, "LEFT_BITS": bits, "TOP_BITS": bits, "SUM_BITS": sum_bits}
    given |= {"STATIONARY": int(dataflow != "os"), "SIGN_MAGNITUDE": int(code == "sign_magnitude")}
    parameters = [f"-Ptestbench.{name}={value}" for name, value in given.items()]
    printed = _output(["iverilog", *FLAGS, *parameters, "-o", str(program), *(str(folder / name) for name in SOURCES)])
    if printed.strip():
        raise PicojouleError(f"iverilog warns: {printed}")
    return program


def _write_words(path: Path, words: IntArray, bits: int, code: str) -> None:
    """Write integers as hexadecimal words of `bits` bits, one a line, in the order of the array."""
    negative = (1 << (bits - 1)) - words if code == "sign_magnitude" else words & ((1 << bits) - 1)
    coded = np.where(words < 0, negative, words)
    path.write_text("".join(f"{word:x}\n" for word in coded.ravel().tolist()), encoding="ascii")


def simulate(
    program: Path, a: IntArray, b: IntArray, dataflow: str, *, bits: int = 8, code: str = "twos_complement"
) -> TwinRun:
    """Run a [M, K] times b [K, N] on what `build` compiled for the same dataflow, bits and code.

    Outputs, cycles and flips are those the test bench printed; its two files of operands are written beside `program`.
    """
    left, top = {"os": (a, b.T), "ws": (a.T, b), "is": (b, a.T)}[dataflow]
    steps = left.shape[1]
    col_count = top.shape[0] if dataflow == "os" else top.shape[1]
    files = program.with_suffix(".left.hex"), program.with_suffix(".top.hex")
    for path, words in zip(files, (left, top), strict=True):
        _write_words(path, words, bits, code)
    sizes = [f"+rows={left.shape[0]}", f"+cols={col_count}", f"+steps={steps}"]
    names = [f"+{operand}={path.name}" for operand, path in zip(("left", "top"), files, strict=True)]
    printed = _output(["vvp", "-n", program.name, *sizes, *names], program.parent)
    lines = [line.split() for line in printed.splitlines()]
    found = {words[0]: words[1] for words in lines if words and words[0] != "out"}
    if "error:" in found or "WARNING:" in found or "cycles" not in found:
        raise PicojouleError(f"the Verilog test bench failed: {printed}")
    results = np.array([[int(word) for word in words[1:4]] for words in lines if words and words[0] == "out"], np.int64)
    by_column = np.zeros((col_count, left.shape[0] if dataflow == "os" else steps), np.int64)
    if len(results) != by_column.size:
        raise PicojouleError(f"the Verilog test bench printed {len(results)} results, not {by_column.size}")
    by_column[results[:, 0], results[:, 1]] = results[:, 2]
    top_moves = dataflow == "os"
    weights = "left" if dataflow == "is" else "top"
    activations = "top" if dataflow == "is" else "left"
    return TwinRun(
        outputs=by_column if dataflow == "is" else np.ascontiguousarray(by_column.T),
        cycles=int(found["cycles"]),
        weight_flips=int(found[f"{weights}_flips"]) if top_moves or weights == "left" else 0,
        activation_flips=int(found[f"{activations}_flips"]) if top_moves or activations == "left" else 0,
        load_flips=0 if top_moves else int(found["top_flips"]),
        weight_port_flips=int(found[f"{weights}_port_flips"]),
        activation_port_flips=int(found[f"{activations}_port_flips"]),
        macs=int(found["products"]),
    )
