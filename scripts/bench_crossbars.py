"""CPU time of a network on crossbars against the same module in float32, for bench.py."""

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import picojoule as pj


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Return the least CPU time of `repeats` runs, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


LOSSY_SHARES = (100, 75, 50, 25, 0)
"""Shares of row tiles with a lossy converter, in percent; the others have 9 bits, which lose nothing."""


def crossbars(repeats: int) -> dict[str, float]:
    """Send 100 images through ResNet-20 on crossbars, one thread, and compare with the same module in plain float32.

    4 x 2-bit slices, 8-bit unsigned inputs bit by bit, 128 x 128 tiles; both in batches of 50, without batch norms.
    """
    import torch

    from picojoule.models.zoo import build
    from picojoule.reram import CrossbarSpec, program
    from picojoule.sim.formats import integer_format
    from picojoule.sim.numerics.calibration import calibrate
    from picojoule.sim.numerics.executor import Executor
    from picojoule.sim.protocol import Arithmetic

    class Product:
        """A matrix in crossbars; `narrow` tiles of its rows have a 6-bit ADC, or one that average cells overflow if fewer."""

        def __init__(self, weights: Any, spec: CrossbarSpec, narrow: Any) -> None:
            rows = weights.shape[1] // max(1, len(narrow))
            lossy_bits = min(6, (rows * spec.cell_max // 2).bit_length() - 1)
            bits = tuple((lossy_bits if lossy else 9,) * spec.slices for lossy in narrow)
            self.held = program(weights, spec.replace(adc_bits=bits) if bits else spec)
            self.exact = self.held.lossless_share == 1.0

        def matmul(self, inputs: Any, *, signed: bool | None = None) -> Any:
            return self.held.matmul(inputs)

    torch.set_num_threads(1)
    module, images = build("resnet20"), torch.rand(100, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, part in [*module.named_modules()]:
        if isinstance(part, torch.nn.BatchNorm2d):
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, torch.nn.Identity())
    network, int8 = pj.trace(module, images[:1]), integer_format(8)
    made: list[Product] = []

    def executor(spec: CrossbarSpec, lossy_percent: int | None) -> Executor:
        rng = np.random.default_rng(0)
        made.clear()

        def placed(weights: Any, group: int = 0) -> Product:
            tiles = -(-weights.shape[1] // spec.tile_rows)
            narrow = [] if lossy_percent is None else 100 * rng.random(tiles) < lossy_percent
            made.append(Product(weights, spec, narrow))
            return made[-1]

        def arithmetic(_: Any) -> Arithmetic:
            return Arithmetic(weight=int8, activation=int8, program=placed)

        return Executor(network, arithmetic=arithmetic, calibration=calibrate(network, [(images[:32],)], arithmetic))

    def all_images(run: Callable[[Any], Any]) -> None:
        for batch in images.split(50):
            run(batch)

    with torch.no_grad():
        plain = cpu_seconds(lambda: all_images(module), 2 * repeats)
        found = {"resnet20 x 100 in float32, CPU s": plain}
        lossless: dict[str, tuple[CrossbarSpec, int | None]] = {
            "lossless (offset, 9-bit ADC)": (CrossbarSpec(adc_bits=9), None),
            "lossless (flip, 8-bit ADC)": (CrossbarSpec(encoding="flip"), None),
        }
        shares = {f"offset, {share} % of tiles lossy": (CrossbarSpec(), share) for share in LOSSY_SHARES}
        others: dict[str, tuple[CrossbarSpec, int | None]] = {
            "differential, 6-bit ADC": (CrossbarSpec(encoding="differential", adc_bits=6), None),
            "offset, 6-bit ADC of the full range": (CrossbarSpec(adc_bits=6, adc_hi=128.0), None),
        }
        for name, (spec, share) in (shares | lossless | others).items():
            run = executor(spec, share)
            seconds = cpu_seconds(lambda r=run: all_images(lambda x: r.run((x,))), repeats)
            found[f"crossbars, {name}, times float32"] = seconds / plain
            if share == 100:
                losing = [1 - p.held.lossless_share for p in made]
                found["least share of lossy bitlines in a layer"] = min(losing)
                found["peak memory of float32 and all tiles lossy, MiB"] = (
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                )
    return found
