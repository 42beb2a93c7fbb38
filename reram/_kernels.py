"""Compiled loops over column sums: bits of wordlines and of cells in common, counted, converted and added up in registers.

A column sum is a sum over bit planes: cells of c bits are c planes, pulses of v bits are v planes. Signed cells take one plane
more, worth -2**c (two's complement); signed inputs come as two sets of planes, of positive and of negative pulses. Bits of 32
wordlines share a word, and the words of neighbouring columns of the batch lie side by side, so that a vector register counts
for 8 or 16 of them at once.

Self-contained: numba's cache on disk does not see edits in other files. A slow twin is in the tests.

Letters: S = sign of a pulse, N = bit of an input, W = word of 32 wordlines, R = wordline, B = column of the batch, E = bitline,
C = cell plane, O = output.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

Array = npt.NDArray[Any]

_BLOCK_BYTES = 96 << 10  # pulses of one block of columns: a small part of a second-level cache
_LEAST_BLOCK = 64
_LANES = 16  # 32-bit lanes of the widest vector register


@intrinsic  # type: ignore[untyped-decorator]
def _add_common_bits(_context: Any, _total: Any, _a: Any, _b: Any) -> Any:
    """Return total (int32) plus the number of bits that `a` and `b` (uint32) have in common."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, a, b = arguments
        count_ones = builder.module.declare_intrinsic("llvm.ctpop", [ir.IntType(32)])
        return builder.add(total, builder.call(count_ones, [builder.and_(a, b)]))

    return types.int32(types.int32, types.uint32, types.uint32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _push_bit(_context: Any, _byte: Any, _value: Any, _n: Any, _keep: Any) -> Any:
    """Return `byte` moved up by one, with bit n of `value` below it where `keep` is 1 (all uint8; numba would widen them)."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte, value, n, keep = arguments
        return builder.or_(builder.add(byte, byte), builder.and_(builder.lshr(value, n), keep))

    return types.uint8(types.uint8, types.uint8, types.uint8, types.uint8), generate


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def pack_bits(x: Array, first: int, count: int, octets: Array, words: Array) -> None:
    """Write bits 0 .. N - 1 of bytes x [R, B], columns first .. first + count, to words [N, W, B']; octets [4, B'] is scratch."""
    rows = x.shape[0]
    stop = first + count
    for w in range(words.shape[1]):
        for bit in range(words.shape[0]):
            n = np.uint8(bit)
            for g in range(4):
                r = 32 * w + 8 * g
                if r >= rows:
                    octets[g, :count] = 0
                    continue
                last = rows - 1
                x0, x1, x2, x3 = (
                    x[r, first:stop],
                    x[min(r + 1, last), first:stop],
                    x[min(r + 2, last), first:stop],
                    x[min(r + 3, last), first:stop],
                )
                x4, x5, x6, x7 = (
                    x[min(r + 4, last), first:stop],
                    x[min(r + 5, last), first:stop],
                    x[min(r + 6, last), first:stop],
                    x[min(r + 7, last), first:stop],
                )
                m1, m2, m3 = np.uint8(r + 1 <= last), np.uint8(r + 2 <= last), np.uint8(r + 3 <= last)
                m4, m5 = np.uint8(r + 4 <= last), np.uint8(r + 5 <= last)
                m6, m7 = np.uint8(r + 6 <= last), np.uint8(r + 7 <= last)
                for b in range(count):
                    octet = _push_bit(np.uint8(0), x7[b], n, m7)
                    octet = _push_bit(octet, x6[b], n, m6)
                    octet = _push_bit(octet, x5[b], n, m5)
                    octet = _push_bit(octet, x4[b], n, m4)
                    octet = _push_bit(octet, x3[b], n, m3)
                    octet = _push_bit(octet, x2[b], n, m2)
                    octet = _push_bit(octet, x1[b], n, m1)
                    octets[g, b] = _push_bit(octet, x0[b], n, np.uint8(1))
            for b in range(count):
                low = np.uint32(octets[0, b]) | (np.uint32(octets[1, b]) << np.uint32(8))
                high = np.uint32(octets[2, b]) | (np.uint32(octets[3, b]) << np.uint32(8))
                words[bit, w, b] = low | (high << np.uint32(16))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _add_up(pulses: Array, count: int, input_sum: Array) -> None:
    """Write the sum of the inputs of each column to input_sum [B'], from their bits, pulses [S, N, W, B']."""
    input_sum[:count] = 0
    for s in range(pulses.shape[0]):
        for n in range(pulses.shape[1]):
            bit_worth = np.int32((1 - 2 * s) << n)
            for w in range(pulses.shape[2]):
                for b in range(count):
                    ones = _add_common_bits(np.int32(0), pulses[s, n, w, b], np.uint32(0xFFFFFFFF))
                    input_sum[b] = np.int32(input_sum[b] + np.int32(ones * bit_worth))


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _round_and_add(
    value: Array, count: int, scale: float, zero: float, low: int, high: int, step_worth: int, total: Array
) -> None:
    """Add the codes rint(value * scale - zero), within low .. high, plus zero, times step_worth to total.

    As `Adc.convert` in float32, counted from the code of 0, -zero.
    """
    lo, hi = np.float32(low), np.float32(high)
    factor, shift = np.float32(scale), np.float32(zero)
    for b in range(count):
        code = np.int32(min(max(np.rint(np.float32(value[b]) * factor - shift), lo), hi) + shift)
        total[b] = np.int32(total[b] + np.int32(code * np.int32(step_worth)))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _clip_and_add(value: Array, count: int, low: int, high: int, step_worth: int, total: Array) -> None:
    """Add value, within low .. high, times step_worth to total."""
    lo, hi = np.int32(low), np.int32(high)
    for b in range(count):
        total[b] = np.int32(total[b] + np.int32(min(max(value[b], lo), hi) * np.int32(step_worth)))


@lru_cache
def stream_of(words: int, planes: int) -> Callable[..., None]:
    """Return the loop over bitlines, compiled to count so many words of wordlines in so many cell planes at once.

    More of either take several passes, for which `stream` wants them in multiples of these. Only numbers are closed over:
    numba's cache would take a function made here for a new one in every process.
    """

    @numba.njit(cache=True)  # type: ignore[untyped-decorator]
    def stream(
        x: Array,
        input_bits: int,
        pulse_bits: int,
        cells: Array,
        plane_worth: Array,
        first_of_output: Array,
        worth: Array,
        low: Array,
        high: Array,
        rounds: bool,
        scale: Array,
        zero: Array,
        flush: Array,
        gain: Array,
        digital: Array,
        y: Array,
    ) -> None:
        """Add to y [O, B] what bitlines compute from the bytes of the inputs, x [S, bytes, R, B].

        Bitline E has cells [E, C, W], of `plane_worth` [C], clips its sums to low .. high (or rounds them to such codes) and is
        worth `worth` units in a total of 32 bits, which goes to y times `gain` after each bitline marked in `flush`. Output o has
        the bitlines first_of_output[o] .. first_of_output[o + 1], at least one, and `digital` [O] times the sum of its inputs.
        """
        signs, columns = x.shape[0], x.shape[3]
        steps = -(-input_bits // pulse_bits)
        all_planes, all_words = cells.shape[1], cells.shape[2]
        passes = signs * pulse_bits * (all_words // words) * (all_planes // planes)
        size = max(_LEAST_BLOCK, _BLOCK_BYTES // (4 * signs * steps * pulse_bits * all_words) // _LANES * _LANES)
        pulses = np.zeros((signs, steps * pulse_bits, all_words, size), dtype=np.uint32)
        octets = np.empty((4, size), dtype=np.uint8)
        total, value, input_sum = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
        for first in range(0, columns, size):
            count = min(size, columns - first)
            for s in range(signs):
                for byte in range(x.shape[1]):
                    bits = pulses[s, 8 * byte : min(8 * byte + 8, input_bits)]
                    pack_bits(x[s, byte], first, count, octets, bits)
            _add_up(pulses, count, input_sum)
            for o in range(len(first_of_output) - 1):
                total[:count] = 0
                rest = digital[o]
                for e in range(first_of_output[o], first_of_output[o + 1]):
                    cell, lo, hi = cells[e], np.int32(low[e]), np.int32(high[e])
                    for j in range(steps):
                        step_worth = np.int32(worth[e] << (j * pulse_bits))
                        if passes == 1 and not rounds:  # the usual case: sums stay in registers
                            pulse = pulses[0, j]
                            for b in range(count):
                                sum_b = np.int32(0)
                                for c in range(planes):
                                    ones = np.int32(0)
                                    for w in range(words):
                                        ones = _add_common_bits(ones, pulse[w, b], cell[c, w])
                                    sum_b = np.int32(sum_b + np.int32(ones * plane_worth[c]))
                                clipped = min(max(sum_b, lo), hi)
                                total[b] = np.int32(total[b] + np.int32(clipped * step_worth))
                            continue
                        value[:count] = 0
                        for s in range(signs):
                            for i in range(pulse_bits):
                                bit_worth = np.int32((1 - 2 * s) << i)
                                for first_word in range(0, all_words, words):
                                    pulse = pulses[s, j * pulse_bits + i, first_word : first_word + words]
                                    for p in range(0, all_planes, planes):
                                        part = cell[p : p + planes, first_word : first_word + words]
                                        part_worth = plane_worth[p : p + planes]
                                        for b in range(count):
                                            sum_b = np.int32(0)
                                            for c in range(planes):
                                                ones = np.int32(0)
                                                for w in range(words):
                                                    ones = _add_common_bits(ones, pulse[w, b], part[c, w])
                                                sum_b = np.int32(sum_b + np.int32(ones * part_worth[c]))
                                            value[b] = np.int32(value[b] + np.int32(sum_b * bit_worth))
                        if rounds:
                            _round_and_add(value, count, scale[e], zero[e], low[e], high[e], step_worth, total)
                        else:
                            _clip_and_add(value, count, low[e], high[e], step_worth, total)
                    if flush[e]:
                        y_B = y[o, first : first + count]
                        for b in range(count):
                            y_B[b] += gain[e] * total[b] + rest * input_sum[b]
                            total[b] = 0
                        rest = 0.0

    return cast(Callable[..., None], stream)
