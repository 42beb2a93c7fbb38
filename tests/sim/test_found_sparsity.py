import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from picojoule.sim.formats import DENSE, Sparsity, Structure
from picojoule.sim.found_sparsity import find_sparsity

Mask = NDArray[np.bool_]
SHAPES = [(64, 64, 1), (32, 16, 9), (31, 17, 9), (128, 96, 1)]


def kept_of_groups(shape: tuple[int, int, int], n: int, m: int, seed: int = 0) -> Mask:
    outputs, inputs, window = shape
    order = np.random.default_rng(seed).random((outputs, -(-inputs // m), m, window)).argsort(axis=2).argsort(axis=2)
    return np.asarray((order < n).reshape(outputs, -1, window)[:, :inputs])


def blocks(shape: tuple[int, int, int], rows: int, columns: int, seed: int = 0) -> Mask:
    outputs, width = shape[0], shape[1] * shape[2]
    live = np.random.default_rng(seed).random((-(-outputs // rows), -(-width // columns))) < 0.4
    return np.asarray(np.kron(live, np.ones((rows, columns), dtype=np.bool_))[:outputs, :width].reshape(shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 4), (3, 4), (4, 8), (1, 8), (8, 16)])
def test_groups_are_found(shape: tuple[int, int, int], n: int, m: int) -> None:
    mask = kept_of_groups(shape, n, m)
    natural = mask & (np.random.default_rng(1).random(shape) < 0.9)  # a quantiser makes zeros of its own
    for values in (mask, natural):
        found = find_sparsity(values)
        assert (found.structure, found.n, found.m) == (Structure.N_OF_M, n, m)
        assert found.density == np.count_nonzero(values) / values.size


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sides", [(4, 4), (1, 2), (2, 1), (8, 1), (1, 8), (4, 2)])
def test_blocks_are_found(shape: tuple[int, int, int], sides: tuple[int, int]) -> None:
    found = find_sparsity(blocks(shape, *sides))
    assert (found.structure, found.block) == (Structure.BLOCK, sides)


def test_pruned_kernels_are_blocks_of_a_window() -> None:
    assert find_sparsity(blocks((32, 16, 9), 1, 9)).block == (1, 9)
    assert find_sparsity(blocks((32, 16, 9), 4, 18)).block == (4, 18)


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_found(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    rows = np.broadcast_to(rng.random((shape[0], 1, 1)) < 0.5, shape).copy()
    columns = np.broadcast_to(rng.random((1, shape[1], 1)) < 0.5, shape).copy()
    assert find_sparsity(rows).structure is Structure.ROW
    assert find_sparsity(columns).structure is Structure.COLUMN
    rows[:, 0] = False
    assert find_sparsity(rows).structure is Structure.ROW  # of both, what explains more


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    outputs=st.integers(1, 60),
    inputs=st.integers(1, 60),
    window=st.sampled_from([1, 4, 9]),
    density=st.floats(0.02, 0.98),
)
def test_scattered_zeros_have_no_structure(seed: int, outputs: int, inputs: int, window: int, density: float) -> None:
    mask = np.random.default_rng(seed).random((outputs, inputs, window)) < density
    found = find_sparsity(mask)
    assert found.density == np.count_nonzero(mask) / mask.size
    expected = (
        Structure.DENSE if found.density > 0.99 else Structure.ROW if found.density == 0 else Structure.UNSTRUCTURED
    )
    assert found.structure is expected


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dead=st.floats(0.1, 0.5), density=st.floats(0.3, 0.9))
def test_scattered_zeros_among_dead_inputs_are_no_groups(seed: int, dead: float, density: float) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((64, 32, 9)) < density) & (rng.random((1, 32, 1)) > dead)
    assert find_sparsity(mask).structure is Structure.UNSTRUCTURED


def test_dense_and_empty() -> None:
    mask = np.ones((10, 20, 1), dtype=np.bool_)
    assert find_sparsity(mask) == DENSE
    mask[0, 0] = False
    assert find_sparsity(mask) == Sparsity(density=0.995)  # a stray zero: dense, with its exact density
    mask[0, 1:4] = False
    assert find_sparsity(mask) == Sparsity(structure=Structure.UNSTRUCTURED, density=0.98)
    assert find_sparsity(np.zeros((10, 20, 1), dtype=np.bool_)) == Sparsity(structure=Structure.ROW, density=0.0)
