"""Constants behind the lines of memory arrays: cells with transistors, wires, gates (`transistor_laws`, `reram.periphery`).

Costs are computed from geometry; these carry the source and the doubt.
"""

from picojoule.sim.technology.constant import Constant, ConstantClass, estimated
from picojoule.sim.technology.transistor_laws import gate_area_f2, transistors

__all__ = ["PERIPHERY_CONSTANTS"]

_NODE_NM = 32.0

PERIPHERY_CONSTANTS: tuple[Constant, ...] = (
    estimated(
        "reram.cell.area",
        48.0,
        "F2",
        ConstantClass.AREA,
        "NeuroSim's cell of one transistor and one resistor, 4 F x 12 F; a design states its own (range: layout)",
    ),
    estimated(
        "wire.capacitance",
        0.2,
        "fF/um",
        ConstantClass.OTHER,
        "NeuroSim's wires at every node; the usual value of a wire between neighbors, which hardly moves with the node",
        low=0.15,
        high=0.3,
    ),
    estimated(
        "transistor.gate.charge",
        transistors(_NODE_NM).gate_ff_per_um,
        "fF/um",
        ConstantClass.OTHER,
        "PTM low power, 32 nm, as NeuroSim prints it: 1.2 times the ideal gate and its fringe; other nodes by their own models",
        node_nm=_NODE_NM,
    ),
    estimated(
        "periphery.gate.area",
        gate_area_f2(2.0, 2.0),
        "F2",
        ConstantClass.AREA,
        "NeuroSim's layout rule for planar transistors: an inverter is 28 F high and two gate pitches of 3.8 F wide",
    ),
)
