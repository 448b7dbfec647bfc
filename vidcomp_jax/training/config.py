"""How long a run trains, and how often it logs, evaluates, draws and saves."""

import dataclasses

from vidcomp_jax.errors import require_at_least
from vidcomp_jax.storage.config import MAY_CHANGE


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train and what to report. Steps, never epochs."""

    num_steps: int = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps to train for in all, those before a resume included. A finished run can be prolonged by raising it, so
    learning-rate schedules must not be derived from it but have fields of their own."""
    batch_size: int = 8
    """Examples a step, over all devices and hosts."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and all random draws."""
    log_every: int = dataclasses.field(default=50, metadata=MAY_CHANGE)
    """Steps between two reports of the losses. With several hosts also the steps until a stop signal is heeded."""
    panel_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between two image panels; None makes one at the end only."""
    evaluate_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between two evaluations, each followed by a checkpoint; None evaluates at the end only."""
    checkpoint_every: int | None = dataclasses.field(default=1000, metadata=MAY_CHANGE)
    """Steps between two checkpoints; None writes one at the end, or when stopped, only."""
    keep_last: int = dataclasses.field(default=3, metadata=MAY_CHANGE)
    """Checkpoints to keep beside the best one."""

    def __post_init__(self):
        require_at_least(self, num_steps=1, batch_size=1, seed=0, log_every=1, keep_last=1)
        for field in ("panel_every", "evaluate_every", "checkpoint_every"):
            if getattr(self, field) is not None:
                require_at_least(self, **{field: 1})
