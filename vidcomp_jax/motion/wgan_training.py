"""The training step of the motion GAN: alternating updates of its critic and its generator.

It implements the Wasserstein GAN with weight clipping (Arjovsky et al., ICML 2017, algorithm 1) or with gradient
penalty (Gulrajani et al., NeurIPS 2017, algorithm 1). A step consists of several rounds, each with several critic
updates and one generator update, all of them on the device.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from vidcomp_jax.devices import mean_over_devices
from vidcomp_jax.motion.wgan import MotionCritic, WGANConfig
from vidcomp_jax.training.step import DeviceStep, TrainState


def critic_loss(
    critic: MotionCritic,
    real: Float[Array, "b t i"],
    fake: Float[Array, "b t i"],
    alpha: Float[Array, "b t 1"] | None,
    penalty_weight: float = 10.0,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The critic's loss: the mean score of fake minus that of real motion, plus the gradient penalty.

    Args:
        critic: the critic.
        real: what the critic sees of sequences from the data (`MotionGAN.seen_by_critic`).
        fake: what it sees of generated ones.
        alpha: where between `fake` (0) and `real` (1) the gradient is penalized, in [0, 1]; None for no penalty. The
            motion GAN draws it for every frame.
        penalty_weight: weight of the penalty, the squared deviation from 1 of the gradient's norm over a whole clip.

    Returns:
        The loss and two metrics: `wasserstein`, the estimated distance (real minus fake), and `penalty`, the weighted
            penalty if there is one.
    """
    scores = critic(jnp.concatenate([real, fake]))
    distance = scores[: len(real)].mean() - scores[len(real) :].mean()
    if alpha is None:
        return -distance, {"wasserstein": distance}
    between = alpha * real + (1 - alpha) * fake
    gradient = jax.grad(lambda x: critic(x).sum())(between)
    norm = jnp.sqrt(jnp.square(gradient).sum((1, 2)))
    penalty = penalty_weight * jnp.square(norm - 1).mean()
    return penalty - distance, {"wasserstein": distance, "penalty": penalty}


def rmsprop(learning_rate: float) -> optax.GradientTransformation:
    """RMSprop for each network, with PyTorch's settings (decay 0.99, epsilon outside the square root)."""
    return for_each_network(optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False))


def for_each_network(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Apply `rule` to each network of a dict separately; networks without gradients are left unchanged."""

    def init(params):
        return {name: rule.init(part) for name, part in params.items()}

    def update(grads, state, params=None):
        results = {name: rule.update(part, state[name]) for name, part in grads.items()}
        return {name: r[0] for name, r in results.items()}, {**state, **{name: r[1] for name, r in results.items()}}

    return optax.GradientTransformation(init, update)


class Updates:
    """The critic and generator updates on one device's share of a batch, with gradients averaged over the devices.

    Args:
        graphdef: structure of a `MotionGAN` split into `nnx.Param` and `nnx.BatchStat` only.
        config: configuration of the GAN.
        tx: optimizer, as returned by `rmsprop`.
    """

    def __init__(self, graphdef: nnx.GraphDef, config: WGANConfig, tx: optax.GradientTransformation):
        self._graphdef, self._config, self._tx = graphdef, config, tx

    def critic(self, params, batch_stats, opt_state, real, noise, alpha):
        """Update the critic once. Returns `(params, opt_state, metrics)`; weight clipping does not use `alpha`."""
        clipped = self._config.constraint == "weight-clipping"
        gan = nnx.merge(self._graphdef, params, batch_stats)
        real, fake = gan.seen_by_critic(real), self._fake(gan, real, noise)

        def loss_fn(critic):
            gan = nnx.merge(self._graphdef, {**params, "critic": critic}, batch_stats)
            return critic_loss(gan.critic, real, fake, None if clipped else alpha, self._config.penalty_weight)

        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params["critic"])
        clip_first = self._config.variant == "video-completion"
        if clipped and clip_first:
            params = self._clipped(params)
        params, opt_state = self._apply({"critic": grads}, params, opt_state)
        if clipped and not clip_first:
            params = self._clipped(params)
        return params, opt_state, {"critic_loss": loss, **metrics}

    def generator(self, params, batch_stats, opt_state, real, noise):
        """Update the generator once, on the ends of `real`. Returns `(params, opt_state, metrics)`."""

        def loss_fn(generator):
            gan = nnx.merge(self._graphdef, {**params, "generator": generator}, batch_stats)
            if not self._config.variety_weight:
                return -gan.critic(self._fake(gan, real, noise)).mean(), {}
            count = self._config.variety_samples
            truth = jnp.repeat(real, count, 0)
            fake = gan.draw(truth[:, 0], truth[:, -1], noise.reshape(-1, *noise.shape[2:]))
            error = jnp.square((fake - truth) / gan.spread[...]).mean((1, 2)).reshape(-1, count)
            variety = error.min(1).mean()
            return self._config.variety_weight * variety - gan.critic(gan.seen_by_critic(fake)).mean(), {
                "variety": variety
            }

        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params["generator"])
        params, opt_state = self._apply({"generator": grads}, params, opt_state)
        return params, opt_state, {"generator_loss": loss, **metrics}

    def _clipped(self, params):
        bound = self._config.clip
        return {**params, "critic": jax.tree.map(lambda w: jnp.clip(w, -bound, bound), params["critic"])}

    def _fake(self, gan, real, noise):
        return gan.seen_by_critic(gan.draw(real[:, 0], real[:, -1], noise, pull=self._config.show_true_ends))

    def _apply(self, grads, params, opt_state):
        updates, opt_state = self._tx.update(mean_over_devices(grads), opt_state)
        changed = {name: optax.apply_updates(params[name], part) for name, part in updates.items()}
        return {**params, **changed}, opt_state


def training_step(config: WGANConfig, tx: optax.GradientTransformation) -> DeviceStep:
    """The training step for `fit`: `rounds_per_step` rounds of critic updates and one generator update.

    A batch is an array [b, windows_per_step(config), t, v] of motion vectors, with one window for each update. The
    generator is updated on the ends of its own windows, which the critic updates of the round have not used; for the
    variant `video-completion`, on those of the last critic update.
    """
    rounds, per_round = config.rounds_per_step, config.num_critic_updates + 1

    def step(graphdef, state, constants, batch, keys):
        updates = Updates(graphdef, config, tx)
        b, n, t, v = batch.shape
        windows = batch.swapaxes(0, 1).reshape(rounds, per_round, b, t, v)

        def draws(index):
            both = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(keys)
            noise = jax.vmap(lambda key: jax.random.normal(key, (t, config.noise)))(both[:, 0])
            return noise, jax.vmap(lambda key: jax.random.uniform(key, (t, 1)))(both[:, 1])

        def generator_noise(index):
            if not config.variety_weight:
                return draws(index)[0]
            shape = (config.variety_samples, t, config.noise)
            return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), shape))(keys)

        def critic_update(carry, inputs):
            index, real = inputs
            *carry, metrics = updates.critic(carry[0], state.batch_stats, carry[1], real, *draws(index))
            return tuple(carry), metrics

        def update_round(carry, inputs):
            indices, real = inputs
            carry, critic_metrics = jax.lax.scan(critic_update, carry, (indices[:-1], real[:-1]))
            noise = generator_noise(indices[-1])
            own = real[-2 if config.variant == "video-completion" else -1]
            *carry, metrics = updates.generator(carry[0], state.batch_stats, carry[1], own, noise)
            return tuple(carry), {**jax.tree.map(lambda x: x[-1], critic_metrics), **metrics}

        indices = jnp.arange(n).reshape(rounds, per_round)
        (params, opt_state), metrics = jax.lax.scan(update_round, (state.params, state.opt_state), (indices, windows))
        metrics = jax.tree.map(lambda x: x.mean(0), metrics)
        return TrainState(state.step, params, state.batch_stats, opt_state), metrics

    return step


def windows_per_step(config: WGANConfig) -> int:
    """Number of windows per example that one training step consumes."""
    return config.rounds_per_step * (config.num_critic_updates + 1)
