"""What workers are given to run.

A full disk, a network file that is gone, or a lack of memory is no property of a trial: it comes back as `Stopped` and stops the
study, which goes on when that is mended.
"""

import contextlib
from dataclasses import dataclass

from picojoule.sim.errors import PicojouleError
from picojoule.studies.base import BaseTask, train_base
from picojoule.studies.trial import TrialOutcome, TrialTask, run_trial
from picojoule.studies.trial_network import load_module


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Why a worker could do nothing for the study."""

    message: str


def attempt_trial(task: TrialTask) -> TrialOutcome | Stopped:
    """Run a trial."""
    try:
        return run_trial(task)
    except PicojouleError as error:
        return Stopped(message=str(error))


def warm_up(task: BaseTask) -> None:
    """Have a worker load what its first trial would wait for, while another one trains the original."""
    from picojoule.networks import network_of

    with contextlib.suppress(PicojouleError):  # the training says what is wrong
        network_of(load_module(task.source))


def make_base(task: BaseTask) -> str | Stopped:
    """Train the original, or find it trained; return the file of its weights."""
    try:
        return train_base(task)
    except PicojouleError as error:
        return Stopped(message=str(error))
