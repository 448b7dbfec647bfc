"""The schedule of a training run in epochs, and the steps that it comes to with the data set that is there.

As in the published code, an epoch is a number of passes over the training videos (over the subjects, if a subject is
visited once), and a last batch that is not full is left out. A range of KTH counts as often as whole windows fit in.
"""

import dataclasses
from typing import TypeVar

from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.storage.config import MAY_CHANGE
from vidcomp_jax.training.config import TrainConfig

Train = TypeVar("Train", bound=TrainConfig)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How long to train, in epochs; where the same is given in steps, steps count."""

    num_epochs: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """Total number of epochs, used where --num-steps is 0."""
    num_repeats: int = 1
    """Passes over the training videos in one epoch."""
    epoch_milestones: tuple[int, ...] = ()
    """Epochs after which the learning rates are divided by ten; for networks whose milestones in steps are not
    given."""
    checkpoint_epochs: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """Epochs between checkpoints, used where --checkpoint-every is 0; 0 means only at the end."""
    panel_epochs: int = dataclasses.field(default=0, metadata=MAY_CHANGE)
    """Epochs between image panels, used where --panel-every is 0; 0 means only at the end."""
    steps_per_epoch: int = 0
    """Steps in one epoch; 0 counts the training videos of the data set: their number, times --num-repeats, divided by
    --batch-size and rounded down."""

    def __post_init__(self):
        require_at_least(self, num_epochs=0, num_repeats=1, checkpoint_epochs=0, panel_epochs=0, steps_per_epoch=0)

    def counted(self, num_videos: int, batch_size: int) -> "ScheduleConfig":
        """The schedule with its `steps_per_epoch`, for so many training videos, or subjects that are visited once.

        Raises:
            InputError: an epoch has less than one batch.
        """
        if not self.num_epochs or self.steps_per_epoch:
            return self
        steps = self.num_repeats * num_videos // batch_size
        if not steps:
            raise InputError(
                f"`batch_size` is {batch_size}; an epoch has {self.num_repeats * num_videos} examples ({num_videos} "
                f"training videos x {self.num_repeats}), so give at most that, or a larger `num_repeats`"
            )
        return dataclasses.replace(self, steps_per_epoch=steps)

    def in_steps(self, train: Train) -> Train:
        """`train`, with what it leaves to the epochs; needs `steps_per_epoch`, unless there are no epochs."""
        return dataclasses.replace(
            train,
            num_steps=train.num_steps or self.num_epochs * self.steps_per_epoch,
            checkpoint_every=train.checkpoint_every or self.checkpoint_epochs * self.steps_per_epoch or None,
            panel_every=train.panel_every or self.panel_epochs * self.steps_per_epoch or None,
        )

    @property
    def milestones(self) -> tuple[int, ...]:
        """`epoch_milestones` in steps."""
        return tuple(epoch * self.steps_per_epoch for epoch in self.epoch_milestones)
