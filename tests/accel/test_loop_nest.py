import csv
import json
import math
import random
import re
import textwrap
from itertools import pairwise, product
from pathlib import Path

import pytest
import yaml

from picojoule.accel.systolic.loop_nest import DIMS, OPERANDS, LoopNest
from picojoule.accel.systolic.loop_nest_counts import HALOS, count
from picojoule.accel.systolic.loop_nest_sets import shared, without
from picojoule.sim.errors import InfeasibleError, InputError, UnsupportedError

REFERENCE = Path(__file__).parent.parent / "reference" / "timeloop"
CASES = {case["id"]: case for case in json.loads((REFERENCE / "cases.json").read_text())}
ROWS = list(csv.DictReader((REFERENCE / "access_counts.csv").read_text().splitlines()))
NEW_IN_TOOL = {"c07", "c14", "c16", "c21", "c28"}
"""Cases where the tool's same-move rule for halos gives other numbers than plain overlap."""
QUICK = {
    "gemm": {"m": 32, "n": 32, "k": 32},
    "rows": 8,
    "cols": 8,
    "levels": ["DRAM", "GLB", "REG"],
    "mapping": "DRAM: K4 C2 | GLB: C2 P32 | spatialY: C8 | spatialX: K8 | REG:",
}


def nest_of(case):
    arch = case["arch"]
    kept = {key: case[key] for key in ("workload", "keep", "nest")}
    return LoopNest.from_dict({**kept, **{key: arch[key] for key in ("rows", "cols", "levels")}})


@pytest.mark.parametrize("halo", HALOS)
def test_golden_counts_of_all_cases(halo):
    counts = {name: count(nest_of(case), halo) for name, case in CASES.items()}
    assert len(counts) == 40 and len(ROWS) == 358
    for row in ROWS:
        ours = counts[row["id"]].of(row["level"], row["operand"])
        key = (row["id"], row["level"], row["operand"])
        golden = [int(row[f"reads_{halo}"]), int(row[f"fills_{halo}"]), int(row["updates_own"])]
        assert [ours.reads, ours.fills, ours.updates] == golden, key
        assert ours.tile_words == int(row["tile_words"]), key


def test_the_tools_own_numbers_differ_only_in_its_same_move_rule():
    counts = {name: count(nest_of(case)) for name, case in CASES.items()}
    differing = set()
    for row in (row for row in ROWS if row["tool_valid"] == "1"):
        ours = counts[row["id"]].of(row["level"], row["operand"])
        if [ours.reads, ours.fills, ours.updates] != [int(row[key]) for key in ("reads", "fills", "updates")]:
            differing.add((row["id"], row["operand"]))
    assert differing == {(name, "Inputs") for name in NEW_IN_TOOL}


@pytest.mark.parametrize("name", CASES)
def test_cycles_have_their_true_remainder(name):
    case, found = CASES[name], count(nest_of(CASES[name]))
    assert (found.cycles, found.macs) == (case["cycles_steps"], case["macs"])
    assert (found.cycles < case["cycles_tool"]) == case["ragged_temporal"]
    assert 100 * found.utilization == pytest.approx(case["utilisation_steps_pct"], abs=0.01)


@pytest.mark.parametrize("name", CASES)
def test_the_written_mapping_is_the_listed_one(name):
    case = CASES[name]
    arch = {key: case["arch"][key] for key in ("rows", "cols", "levels")}
    assert LoopNest.from_dict({**arch, **{k: case[k] for k in ("workload", "keep", "mapping")}}) == nest_of(case)


# --- the slow twin: every step, every PE, every word ------------------------------------------------------------------------


def words(operand, spans, stride, halo):
    """Return the words of a tile, given {dim: range}."""
    dims = OPERANDS[operand]
    if operand != "Inputs":
        return frozenset(product(*(spans[dim] for dim in dims)))
    axes = []
    for (p, r), step in zip(("PR", "QS"), stride, strict=True):
        touched = {i * step + j for i in spans[p] for j in spans[r]}
        axes.append(touched if halo == "touched" else range(min(touched), max(touched) + 1))
    return frozenset(product(spans["N"], spans["C"], *axes))


def walk(nest, child, operand, halo):
    """Return requests of the parent, deliveries and first visits of level `child`, PE by PE and step by step."""
    last = len(nest.levels) - 1
    outer = [(i, loop) for i, loop in enumerate(nest.loops) if loop.axis is None and nest.depth(loop) < child]
    spatial = [(i, loop) for i, loop in enumerate(nest.loops) if loop.axis is not None and child == last]

    def weight(i, loop):
        return math.prod(x.factor for x in nest.loops[i + 1 :] if x.dim == loop.dim)

    fixed = [i for i, _ in outer + spatial]
    tile = {d: math.prod(x.factor for i, x in enumerate(nest.loops) if x.dim == d and i not in fixed) for d in DIMS}
    held, ever = {}, {}
    requests = deliveries = 0
    for step in product(*(range(loop.factor) for _, loop in outer)):
        new = {}
        for pe in product(*(range(loop.factor) for _, loop in spatial)):
            start = dict.fromkeys(DIMS, 0)
            for (i, loop), value in zip(outer + spatial, step + pe, strict=True):
                start[loop.dim] += value * weight(i, loop)
            if any(start[d] >= nest.sizes[d] for d in DIMS):
                continue
            spans = {d: range(start[d], min(start[d] + tile[d], nest.sizes[d])) for d in DIMS}
            now, before = words(operand, spans, nest.stride, halo), held.get(pe, frozenset())
            new[pe] = (now if now != before else frozenset()) if halo == "refetch" else now - before
            held[pe] = now
            ever.setdefault(pe, set()).update(now)
        deliveries += sum(map(len, new.values()))
        requests += sum(map(len, set(new.values())))
    return requests, deliveries, sum(map(len, ever.values()))


def steps_of(nest):
    temporal = [(i, x) for i, x in enumerate(nest.loops) if x.axis is None]
    busy = 0
    for step in product(*(range(x.factor) for _, x in temporal)):
        at = dict.fromkeys(DIMS, 0)
        for (i, x), value in zip(temporal, step, strict=True):
            at[x.dim] += value * math.prod(y.factor for y in nest.loops[i + 1 :] if y.dim == x.dim)
        busy += all(at[d] < nest.sizes[d] for d in DIMS)
    return busy


def random_nest(rng):
    shared = rng.random() < 0.7
    levels = ["DRAM", "GLB", "REG"] if shared else ["DRAM", "OSRAM", "WSRAM", "REG"]
    used = {"X": 1, "Y": 1}
    nest = []
    for level in (*levels[:-1], "Y", "X", "REG"):
        for dim in rng.sample(DIMS, rng.choice([0, 1, 1, 2])):
            factor = rng.choice([2, 2, 3])
            if level in used:
                used[level] *= factor
            nest.append(
                {
                    "level": "ARRAY" if level in used else level,
                    "kind": "spatial" if level in used else "temporal",
                    "axis": level if level in used else None,
                    "dim": dim,
                    "factor": factor,
                    "last": rng.choice([factor, rng.randint(1, factor)]),
                }
            )
    keep = {} if shared else {"OSRAM": ["Outputs"], "WSRAM": ["Weights"]}
    stride = {"stride_h": rng.randint(1, 3), "stride_w": rng.randint(1, 3)}
    return LoopNest.from_dict({"levels": levels, "rows": 9, "cols": 9, "nest": nest, "keep": keep, "workload": stride})


def check_against_walk(nest, halo):
    found = count(nest, halo)
    assert found.cycles == steps_of(nest)
    for operand in OPERANDS:
        levels = nest.keepers(operand)
        first = math.prod(nest.sizes[dim] for dim in OPERANDS[operand]) if operand == "Outputs" else 0
        for parent, child in pairwise(levels):
            requests, deliveries, ever = walk(nest, nest.levels.index(child), operand, halo)
            assert found.of(parent, operand).reads == requests - first, (nest, halo)
            first = ever if operand == "Outputs" else 0
            assert found.of(child, operand).fills == deliveries - first, (nest, halo)
        assert found.of(levels[-1], operand).reads == nest.macs - first


@pytest.mark.parametrize("seed", range(8))
def test_closed_form_against_the_walk_over_words(seed):
    rng = random.Random(seed)
    for _ in range(15):
        nest, halo = random_nest(rng), rng.choice(HALOS)
        if nest.macs <= 20_000:
            check_against_walk(nest, halo)


@pytest.mark.parametrize("halo", HALOS)
def test_pes_with_equal_parts_of_both_axes_share(halo):
    """Rows of PEs that hold the same ifmap rows, which overlap the last ones while its columns do too."""
    mapping = "DRAM: | GLB: P2 R2 Q2 | spatialY: R2 | spatialX: P4 | REG: R3 Q4 S5"
    nest = LoopNest.from_dict({"rows": 2, "cols": 4, "levels": ["DRAM", "GLB", "REG"], "mapping": mapping})
    check_against_walk(nest, halo)


def test_no_count_wraps():
    big = {
        "levels": ["DRAM", "GLB", "REG"],
        "rows": 1,
        "cols": 1,
        "mapping": f"DRAM: P{10**12} K{10**9} | GLB: | REG: ",
    }
    found = count(LoopNest.from_dict(big))
    assert found.of("DRAM", "Outputs").updates == found.cycles == 10**21


def test_a_user_reads_it_from_yaml():
    text = textwrap.dedent(
        """
        gemm: {m: 32, n: 32, k: 32}
        rows: 8
        cols: 8
        levels: [DRAM, GLB, REG]
        mapping: "DRAM: K4 C2 | GLB: C2 P32 | spatialY: C8 | spatialX: K8 | REG:"
        """
    )
    nest = LoopNest.from_dict(yaml.safe_load(text))
    assert nest == LoopNest.from_dict(QUICK) and count(nest) == count(nest_of(CASES["g04"]))


def test_the_documents_example_runs(capsys):
    text = (Path(__file__).parents[2] / "docs" / "systolic.md").read_text()
    (code,) = re.findall(r"```python\n(.*?LoopNest.*?)```", text, re.DOTALL)
    exec(compile(code, "systolic.md", "exec"), {})
    golden = CASES["g04"]["counts"]
    inputs, outputs = golden["DRAM"]["Inputs"]["overlap"]["reads"], golden["GLB"]["Outputs"]["overlap"]["updates"]
    assert capsys.readouterr().out == f"{CASES['g04']['cycles_steps']} {inputs} {outputs}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mappin": 1}, "unknown key of a loop nest 'mappin'"),
        ({"mapping": "DRAM: Z4"}, "unknown dim of a loop 'Z'"),
        ({"mapping": "L2: K4"}, "unknown level of a loop 'L2'"),
        ({"mapping": "DRAM: K4 C"}, "mapping: 'C' in DRAM must be a dim and its steps, such as P4 or P4/1"),
        ({"mapping": "DRAM K4"}, "mapping: 'DRAM K4' must read 'LEVEL: K4 C2'"),
        ({"mapping": "DRAM: K4/5"}, "loop K4/5 of DRAM: last must be between 1 and the factor"),
        ({"mapping": "spatialX: K16 | REG:"}, "spatialX takes 16 PEs but the array has 8 columns"),
        (
            {"mapping": "GLB: K4 | DRAM: C2"},
            "loop C2/2 of DRAM stands inside a level further in; write loops from the outermost to the innermost",
        ),
        ({"gemm": {"m": 31, "n": 32, "k": 32}}, "the loops of P make 32, but the workload has P = 31"),
        ({"rows": 0}, "rows must be a whole number of at least 1, got 0"),
        ({"levels": ["DRAM"]}, "levels must be two or more different names from outer to inner, got ['DRAM']"),
        ({"keep": {"REG": ["Weights"]}}, "keep: REG must hold every operand, it lacks Inputs, Outputs"),
        ({"capacity_words": {"L2": 5}}, "unknown level in capacity_words 'L2'"),
        ({"capacity_words": {"GLB": 0}}, "capacity_words: GLB must be a whole number of at least 1, got 0"),
        ({"workload": {"stride": 2}}, "unknown key of workload 'stride'"),
        ({"levels": 3}, "levels must be a list of names, got 3"),
        ({"levels": None}, "levels must be a list of names, got None"),
        ({"levels": [["a"], "b"]}, "levels must be a list of names"),
        ({"gemm": [32, 32, 32]}, "gemm must be a dictionary with names as keys, got [32, 32, 32]"),
        ({"gemm": {"m": 32, 1: 2}}, "gemm must be a dictionary with names as keys"),
        ({"gemm": {"m": "32", "n": 32, "k": 32}}, "gemm: m must be a whole number of at least 1, got '32'"),
        ({"workload": None}, "workload must be a dictionary with names as keys, got None"),
        ({"keep": ["GLB"]}, "keep must be a dictionary with names as keys, got ['GLB']"),
        ({"keep": {"GLB": None}}, "keep: GLB must be a list of names, got None"),
        ({"keep": {"GLB": [["Weights"]]}}, "keep: GLB must be a list of names"),
        ({"keep": {"GLB": ["Weight"]}}, "unknown operand in keep 'Weight'"),
        ({"capacity_words": None}, "capacity_words must be a dictionary with names as keys, got None"),
        ({"mapping": None}, "mapping must be a text such as 'DRAM: K4 C2"),
        ({"mapping": "DRAM: K" + "9" * 5000}, "mapping: 'K999"),
        ({"mapping": "DRAM: K4"}, "the loops of P make 1, but the workload has P = 32"),
        ({"mapping": "DRAM:" + " K1" * 1001}, "a loop nest must have at most 1000 loops, got 1001"),
        ({"mapping": f"DRAM: K{10**17} K{10**17}"}, "the loops of K make a size above 1000000000000000000"),
        ({"cols": 10**8}, "cols must be at most 65536, got 100000000"),
        ({"rows": 10**5000}, "rows must be at most 65536, got a larger number"),
        ({"nest": []}, "a loop nest must have either mapping (text) or nest (a list of loops), one of the two"),
        ({"workload": {"P": 32}}, "gemm says all sizes of a product"),
        ({"workload": {"gemm_M": 32}}, "gemm says all sizes of a product"),
        ({"workload": {"stride_h": 3}}, "gemm says all sizes of a product"),
    ],
)
def test_wrong_nests_are_refused(change, message):
    with pytest.raises(InputError) as error:
        LoopNest.from_dict({**QUICK, **change})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("nest", "message"),
    [
        (None, "nest must be a list of loops, outermost first, got None"),
        ("abc", "nest must be a list of loops, outermost first, got 'abc'"),
        (["abc"], "nest[0] must be a dictionary with names as keys, got 'abc'"),
        ([{"level": "DRAM", "dim": "K", 1: 1}], "nest[0] must be a dictionary with names as keys"),
        ([{"level": "DRAM", "dim": "K", "x": 1}], "nest[0]: unknown key of a loop 'x'"),
        ([{"level": "DRAM", "dim": [1], "factor": 2}], "nest[0]: level and dim must be names, got 'DRAM' and [1]"),
        (
            [{"level": "DRAM", "dim": "K", "factor": 2.0}],
            "nest[0]: factor must be a whole number of at least 1, got 2.0",
        ),
        ([{"level": "DRAM", "dim": "K", "axis": [1]}], "nest[0]: only a loop of kind spatial has an axis, got [1]"),
        ([{"kind": "spatial", "dim": "K", "axis": [1]}], "nest[0]: a spatial loop must have axis X or Y, got [1]"),
        ([{"kind": ["x"], "dim": "K"}], "nest[0]: unknown kind '['x']'"),
        (
            [{"kind": "spatial", "level": "DRAM", "axis": "X", "dim": "K", "factor": 2}],
            "nest[0]: a spatial loop belongs to no level; leave out level 'DRAM'",
        ),
    ],
)
def test_wrong_lists_are_refused(nest, message):
    with pytest.raises(InputError) as error:
        LoopNest.from_dict({"rows": 8, "cols": 8, "levels": ["DRAM", "REG"], "nest": nest})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("document", [None, [1], 3, "DRAM: K4", {1: 2}, {}])
def test_what_is_no_nest_is_refused(document):
    with pytest.raises(InputError, match=r"dictionary with names as keys|levels must be a list"):
        LoopNest.from_dict(document)


def test_stated_sizes_of_a_product_must_agree():
    given = {key: value for key, value in QUICK.items() if key != "gemm"}
    assert LoopNest.from_dict({**given, "workload": {"gemm_M": 32, "gemm_K": 32}}) == LoopNest.from_dict(QUICK)
    with pytest.raises(InputError, match=r"^the loops of P make 32, but the workload has P = 99$"):
        LoopNest.from_dict({**given, "workload": {"gemm_M": 99}})


def test_spatial_loops_take_so_many_pes_at_most():
    given = {"rows": 65536, "cols": 65536, "levels": ["DRAM", "REG"]}
    with pytest.raises(InputError, match=r"^spatial loops must take at most 262144 PEs together, got 262208$"):
        LoopNest.from_dict({**given, "mapping": "spatialY: C4097 | spatialX: K64 | REG:"})


def test_separate_rows_of_a_tile_are_walked_once():
    """A stride above the filter's size: runs of one row each; quadratic work would take hours here."""
    given = {"rows": 1, "cols": 1, "levels": ["DRAM", "REG"], "workload": {"stride_h": 2}}
    found = count(LoopNest.from_dict({**given, "mapping": "DRAM: P4 | REG: P50000"}), "touched")
    assert found.of("DRAM", "Inputs").reads == 200_000
    message = "^halo 'touched' follows at most 100000 separate rows or columns of a tile, got 100001; use 'overlap'$"
    with pytest.raises(UnsupportedError, match=message):
        count(LoopNest.from_dict({**given, "mapping": "DRAM: P4 | REG: P100001"}), "touched")


def test_sets_along_an_axis_are_those_of_python():
    rng = random.Random(4)

    def runs():
        cuts = sorted(rng.sample(range(60), 2 * rng.randint(0, 8)))
        return tuple(zip(cuts[::2], cuts[1::2], strict=True))

    def indices(spans):
        return {i for start, stop in spans for i in range(start, stop)}

    for _ in range(300):
        a, b = runs(), runs()
        for found, wanted in ((shared(a, b), indices(a) & indices(b)), (without(a, b), indices(a) - indices(b))):
            assert indices(found) == wanted and list(found) == sorted(found)
            assert sum(stop - start for start, stop in found) == len(wanted)


def test_tiles_must_fit():
    """The GLB holds 16 x 8 weights, 32 x 16 inputs and 32 x 8 outputs."""
    fits = {**QUICK, "capacity_words": {"GLB": 128 + 512 + 256, "REG": 3}}
    assert count(LoopNest.from_dict(fits)) == count(LoopNest.from_dict(QUICK))
    message = "the tiles in GLB take 896 words but it holds 895; move a loop that makes them large further out"
    with pytest.raises(InfeasibleError, match=f"^{message}$"):
        count(LoopNest.from_dict({**QUICK, "capacity_words": {"GLB": 895}}))


def test_padding_and_unknown_halos_are_refused():
    with pytest.raises(UnsupportedError, match=r"^a loop nest counts without padding and dilation, got pad 1$"):
        LoopNest.from_dict({**QUICK, "workload": {"pad": 1}})
    with pytest.raises(InputError, match=r"^unknown halo 'exact'"):
        count(LoopNest.from_dict(QUICK), "exact")
