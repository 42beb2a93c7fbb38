import re

import pytest

from picojoule.accel.deform.boards import ALIASES, BOARDS, board_named, list_boards
from picojoule.sim.errors import InputError
from picojoule.sim.technology import dram_key

# DSP slices, 36 Kbit blocks, LUTs, flip-flops, URAM blocks, as the data sheets print them
DATA_SHEETS = {
    "ultra96": (360, 216, 70_560, 141_120, 0),
    "zcu104": (1728, 312, 230_400, 460_800, 96),
    "zcu102": (2520, 912, 274_080, 548_160, 0),
    "ac701": (740, 365, 134_600, 269_200, 0),
    "kc705": (840, 445, 203_800, 407_600, 0),
    "kcu1500": (5520, 2160, 663_360, 1_326_720, 0),
}


@pytest.mark.parametrize("name, counts", DATA_SHEETS.items())
def test_devices_hold_what_their_data_sheets_say(name: str, counts: tuple[int, ...]) -> None:
    board = board_named(name)
    assert (board.dsp, board.bram36, board.lut, board.ff, board.uram) == counts


def test_every_board_is_whole() -> None:
    assert tuple(BOARDS.values()) == list_boards()
    for board in list_boards():
        assert board.ff == 2 * board.lut  # two flip-flops beside each LUT, in all these families
        assert re.search(r"DS\d{3}", board.source) and 5 < board.dram_peak_gb_per_s < 100
        assert board.hard_processor == board.family.startswith("Zynq")
        assert dram_key(board.dram_type)


def test_a_device_stands_for_its_board() -> None:
    assert board_named("zu3eg") is board_named(" XCZU3EG") is BOARDS["ultra96"]
    assert board_named("ZU9EG").name == "zcu102"
    assert all(alias.removeprefix("xc") in BOARDS[name].device.lower() for alias, name in ALIASES.items())
    assert not set(ALIASES) & set(BOARDS) and set(ALIASES.values()) <= set(BOARDS)


def test_an_unknown_board_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"^unknown board 'ultra69'; did you mean 'ultra96'\? \(choose from 'ac701', "):
        board_named("ultra69")
