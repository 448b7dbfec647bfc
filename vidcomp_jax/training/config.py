"""Settings of the training loop: how long to train, and how often to log, evaluate, draw panels and save."""

import dataclasses
from pathlib import Path
from typing import ClassVar

from vidcomp_jax.errors import require_at_least
from vidcomp_jax.storage.config import ADDED_LATER, MAY_CHANGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train and how often to report. All periods are in steps."""

    _fewest_steps: ClassVar[int] = 1

    num_steps: int = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Total number of steps, including those before a resume. Raising it extends a finished run, so learning-rate
    schedules must have fields of their own instead of depending on it."""
    batch_size: int = 8
    """Examples per step over all devices and hosts."""
    accumulate: int = dataclasses.field(default=1, metadata=ADDED_LATER)
    """Parts in which a device computes its share of the batch, one after another, to take less memory."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and all other random draws."""
    log_every: int = dataclasses.field(default=50, metadata=MAY_CHANGE)
    """Steps between reports of the losses. With several hosts, stop signals are checked only when something is due."""
    panel_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between image panels; None draws panels only at the end."""
    evaluate_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between evaluations, each of which is followed by a checkpoint; None evaluates only at the end."""
    checkpoint_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between checkpoints; None saves only at the end, when stopped, and after evaluations."""
    from_last_good: bool = dataclasses.field(default=False, metadata=MAY_CHANGE | ADDED_LATER)
    """If the latest checkpoint is damaged, go on from the newest whole one; damaged ones are moved to `damaged`."""
    skip_nonfinite: int = dataclasses.field(default=0, metadata=MAY_CHANGE | ADDED_LATER)
    """Number of steps in a row that may have a loss or gradient that is not finite; such a step changes nothing but
    the counter of steps. 0 stops training at the first."""
    profile: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE | ADDED_LATER)
    """Folder for a trace of five steps, the fourth to the eighth of this process, for TensorBoard or Perfetto; None
    records none."""
    keep_last: int = dataclasses.field(default=3, metadata=MAY_CHANGE)
    """Number of latest checkpoints to keep, in addition to the best one."""

    def __post_init__(self):
        require_at_least(self, num_steps=self._fewest_steps, batch_size=1, accumulate=1, seed=0, skip_nonfinite=0)
        require_at_least(self, log_every=1, keep_last=1)
        for field in ("panel_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, field) is not None:
                require_at_least(self, **{field: 1})
