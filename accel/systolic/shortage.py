"""Why designs cannot hold a network: the first layer for which an SRAM is too small (see `capacity`)."""

import numpy as np

from picojoule.accel.systolic.array_pricing import ArrayPricing
from picojoule.accel.systolic.capacity import OPERANDS, Needs, require
from picojoule.accel.systolic.design_arrays import DesignArrays
from picojoule.accel.systolic.load import Load
from picojoule.accel.systolic.timing import fold_grid
from picojoule.sim.errors import InfeasibleError


def shortages(load: Load, designs: DesignArrays) -> list[str]:
    """Return for each design which SRAM is too small for which layer and what to do; an empty text where all fit."""
    if load.kinds is None:
        return [""]
    jobs = load.kinds.sample or load.kinds.whole
    pricing = ArrayPricing(designs)
    grid = fold_grid(designs.dataflow, designs.rows, designs.cols, jobs.m, jobs.n, jobs.folded_k)
    needs = pricing.needs(jobs, grid, pricing.together(jobs, grid))
    short = needs.short(designs.sram_bytes, designs.shared_sram_bytes)
    short = np.broadcast_to(short, np.broadcast_shapes(short.shape, designs.rows.shape, designs.cols.shape))
    where = np.flatnonzero(short.any(axis=0))
    places = short[:, where].argmax(axis=0)
    sizes = designs.sram_bytes if designs.shared_sram_bytes is None else (designs.shared_sram_bytes,)
    columns = [np.broadcast_to(getattr(needs, name), short.shape)[places, where] for name in OPERANDS]
    columns += [np.broadcast_to(size, short.shape[1:])[where] for size in sizes]
    sentences: dict[tuple[int, ...], str] = {}
    found = [""] * short.shape[1]
    for i, *case in zip(where.tolist(), places.tolist(), *(column.tolist() for column in columns), strict=True):
        key = tuple(case)
        if key not in sentences:
            sentences[key] = _sentence(jobs.jobs[key[0]].layer.name, key[1:4], key[4:], designs)
        found[i] = sentences[key]
    return found


def _sentence(layer: str, least: tuple[int, ...], sizes: tuple[int, ...], designs: DesignArrays) -> str:
    needs = Needs(**{name: np.array(size) for name, size in zip(OPERANDS, least, strict=True)})
    try:
        require(layer, needs, sizes, None if designs.shared_sram_bytes is None else sizes[0])
    except InfeasibleError as error:
        return str(error)
    return ""
