"""SCALE-Sim's USER mode beside ours: the comparison is of the same layers, its causes add up, and nobody beats the bounds."""

import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from picojoule import scalesim_user, systolic_document
from picojoule.sim.errors import InputError

REFERENCE = Path(__file__).parent / "reference" / "scalesim"


@pytest.fixture(scope="module")
def found():
    return scalesim_user.comparison()


def test_the_package_holds_the_measured_rows():
    measured = list(csv.DictReader((REFERENCE / "random_v2.csv").read_text().splitlines()))
    text = files("picojoule").joinpath("validation_data/scalesim_user.csv").read_text()
    kept = list(csv.DictReader(text.splitlines()))
    assert len(kept) == 458
    assert kept == [{key: row[key] for key in kept[0]} for row in measured]


def test_causes_add_up_to_the_difference(found):
    assert found.causes.shape == (len(scalesim_user.CAUSES), 458)
    np.testing.assert_allclose(found.causes.sum(axis=0), found.theirs - found.ours)


def test_each_cause_has_the_sign_of_its_rule(found):
    causes = dict(zip(scalesim_user.CAUSES, found.causes, strict=True))
    assert (causes["edge folds"] >= 0).all()
    assert (causes["os drain"] <= 0).all() and (causes["os drain"] < 0).all(where=found.dataflow == "os")
    assert (causes["os drain"][found.dataflow != "os"] == 0).all()
    assert (causes["private buses"] <= 0).all() and (causes["free prefetch"] <= 0).all()
    assert (causes["partial sums"][found.dataflow == "os"] == 0).all()
    assert causes["buffer"].sum() > 0.9 * (found.theirs - found.ours).sum()


def test_ours_never_beats_what_no_array_can_beat(found):
    assert (found.ours >= found.bound).all()
    assert (found.ours_at_3b >= found.bound_at_3b).all()
    assert (found.our_reads >= found.compulsory_reads).all()
    assert (found.their_span >= found.bound_private).all()
    assert (found.ours_at_3b <= found.ours).all()


def test_a_word_is_a_byte_and_b_of_them_move_in_a_cycle(found):
    assert (found.our_stalls <= found.our_words / found.words_per_cycle + 1).all()
    busy = found.our_stalls > 10 * (found.ours - found.our_stalls)
    assert busy.any()
    assert (found.our_stalls[busy] > 0.9 * (found.our_words / found.words_per_cycle)[busy]).all()


def test_their_extra_reads_explain_their_extra_stalls(found):
    thrashing = found.their_reads > 2 * found.our_reads
    assert thrashing.sum() > 200
    assert found.their_stalls[thrashing].sum() > 3 * found.our_stalls[thrashing].sum()
    plenty = found.sram_kib == 64
    assert found.our_reads[plenty].sum() < 1.01 * found.compulsory_reads[plenty].sum()


def test_distinct_words_of_windows():
    sizes = [(7, 7, 3, 3, 2, 1, 1), (7, 7, 1, 1, 2, 1, 3), (6, 6, 2, 2, 1, 1, 3), (7, 5, 2, 2, 1, 1, 3)]
    for h, w, fh, fw, c, n, s in sizes:
        seen = set()
        for y in range(0, h - fh + s, s):
            for x in range(0, w - fw + s, s):
                seen |= {(y + i, x + j) for i in range(fh) for j in range(fw) if y + i < h and x + j < w}
        assert scalesim_user._touched(*np.array([[h], [w], [fh], [fw], [c], [n], [s]]))[0] == len(seen) * c


def test_groups_cover_each_layer_once_by_dataflow_and_bandwidth(found):
    sizes = {name: len(some.ours) for name, some in scalesim_user.groups(found)}
    assert sum(count for name, count in sizes.items() if "cycle" in name) == 458 == sizes["all"]
    assert sum(count for name, count in sizes.items() if "kB" in name) == 458


def test_a_document_without_a_marker_is_refused():
    message = "^expected one part 'scalesim cycles' between its markers, found 0$"
    with pytest.raises(InputError, match=message):
        systolic_document.with_sections("# Systolic arrays\n")
