"""What workers are given to run.

A folder that cannot be written (a full disk) is no property of a trial: it comes back as `Unwritable` and stops the study,
which goes on when there is room.
"""

from dataclasses import dataclass

from picojoule.sim.errors import InputError
from picojoule.studies.base import BaseTask, train_base
from picojoule.studies.trial import TrialOutcome, TrialTask, run_trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwritable:
    """Why a worker could not write its results."""

    message: str


def attempt_trial(task: TrialTask) -> TrialOutcome | Unwritable:
    """Run a trial."""
    try:
        return run_trial(task)
    except InputError as error:
        return Unwritable(message=str(error))


def make_base(task: BaseTask) -> str | Unwritable:
    """Train the original, or find it trained; return the file of its weights."""
    try:
        return train_base(task)
    except InputError as error:
        return Unwritable(message=str(error))
