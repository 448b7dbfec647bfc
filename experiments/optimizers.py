"""The optimizers of the First Order Motion Model: Adam for each network, with the betas of the released code."""

import collections
import dataclasses

import optax

from vidcomp_jax.errors import require, require_at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamConfig:
    """Adam for one network."""

    learning_rate: float = 2e-4
    """Learning rate before the first milestone; with 0, the weights stay as they are, but batch statistics move."""
    milestones: tuple[int, ...] = ()
    """Steps after which the learning rate is divided by ten, once for each time they are listed; none means
    `epoch_milestones`."""
    cosine_steps: int = 0
    """If not 0, number of steps over which the learning rate decays to a hundredth along a cosine; excludes
    milestones."""

    def __post_init__(self):
        require_at_least(self, learning_rate=0, cosine_steps=0)
        if self.cosine_steps:
            require(not self.milestones, self, "milestones", "empty where `cosine_steps` is given")

    def build(self) -> optax.GradientTransformation:
        """The optimizer, with the betas of the released training code."""
        if self.cosine_steps:
            schedule = optax.cosine_decay_schedule(self.learning_rate, self.cosine_steps, alpha=0.01)
        else:
            factors = {step: 0.1**count for step, count in collections.Counter(self.milestones).items()}
            schedule = optax.piecewise_constant_schedule(self.learning_rate, factors)
        return optax.adam(schedule, b1=0.5, b2=0.999, eps=1e-8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer of each network; dense motion shares that of the generator."""

    generator: AdamConfig = AdamConfig()
    """Generator and dense motion."""
    detector: AdamConfig = AdamConfig()
    """Keypoint detector."""
    discriminator: AdamConfig = AdamConfig()
    """Discriminator."""

    @property
    def networks(self) -> tuple[AdamConfig, AdamConfig, AdamConfig]:
        """The three, in the order of the fields."""
        return self.generator, self.detector, self.discriminator

    def with_milestones(self, milestones: tuple[int, ...]) -> "OptimizerConfig":
        """The same, with these milestones for every network that has neither its own nor a cosine."""
        generator, detector, discriminator = (
            adam if adam.milestones or adam.cosine_steps else dataclasses.replace(adam, milestones=milestones)
            for adam in self.networks
        )
        return OptimizerConfig(generator=generator, detector=detector, discriminator=discriminator)

    @staticmethod
    def same(**options) -> "OptimizerConfig":
        """The same options for all three."""
        adam = AdamConfig(**options)
        return OptimizerConfig(generator=adam, detector=adam, discriminator=adam)

    def build(self) -> optax.GradientTransformation:
        """The optimizer of `TrainingNetworks`."""
        networks = {name: getattr(self, name).build() for name in ("generator", "detector", "discriminator")}
        owners = {"dense_motion": "generator"}
        return optax.multi_transform(
            networks, lambda params: {"model": {part: owners.get(part, part) for part in params["model"]}}
        )
