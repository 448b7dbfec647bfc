"""Training of the flow-matching motion model: objective, optimizer, and the step with its moving average of weights.

Input: windows of motion vectors. Output: the updated state.

Conditional flow matching (Lipman et al., arXiv 2210.02747, equation 23), written as a loss on the predicted offset. The
level tau is drawn from a logit-normal distribution (Esser et al., arXiv 2403.03206, section 3.1).
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.known import neighbors
from vidcomp_jax.training.step import DeviceStep, gradient_step

OUTSIDE = 0.1
"""Weight of the squared errors of frames before the first or after the last known frame."""


def flow_objective(
    motion: FlowMotion, batch: Float[Array, "b n t v"], keys: Key[Array, " b"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The training objective: the mean squared error of what the network predicts, over the frames that are not known.

    Args:
        motion: the model to train.
        batch: motion vectors; n windows for each example.
        keys: one random key per example.

    Returns:
        The loss and two metrics: `offset_mse`, the squared error of the predicted offsets in units of their spread, and
            `difference_mse`, that of their differences between consecutive frames.
    """
    config = motion.config
    b, n, t, v = batch.shape

    def draw(key):
        level, noise, known = jax.random.split(key, 3)
        return (
            jax.nn.sigmoid(jax.random.normal(level, ())),
            jax.random.normal(noise, (t, v)),
            draw_known(known, t, config.random_known),
        )

    level, noise, known = jax.vmap(draw)(jax.vmap(lambda key: jax.random.split(key, n))(keys).reshape(b * n))
    vectors = batch.reshape(b * n, t, v)
    around = neighbors(vectors, known)
    offsets = motion.to_offsets(vectors, around)
    tau = level[:, None, None]
    noisy = jnp.where(known[..., None], offsets, (1 - tau) * noise + tau * offsets)
    times = jnp.arange(t, dtype=jnp.float32)[None]
    predicted, velocity = motion.offsets(motion.network, noisy, level, motion.context(around, known), times)
    if config.predict == "velocity":
        error, weight = velocity - (offsets - noise), 1 - tau
    else:
        error, weight = predicted - offsets, 1.0
    # Frames outside of the known ones can hardly be predicted; their errors would hide those of the others.
    outside = jnp.where(around.beyond > 0, OUTSIDE, 1.0)
    error = jnp.where(known[..., None], 0, jnp.sqrt(outside) * error)
    # The errors of a clip are averaged over its unknown frames, of which a window of up to four may have none.
    share = (1 / jnp.maximum((~known).sum(1), 1))[:, None, None]
    mse, difference = (_per_entry(share * jnp.square(x)) for x in (error, jnp.diff(error, axis=1)))
    metrics = {"offset_mse": _per_entry(share * jnp.square(weight * error)), "difference_mse": difference}
    return mse + config.difference_weight * difference, metrics


def _per_entry(errors: Float[Array, "b t v"]) -> Float[Array, ""]:
    """Sum over time, and mean over clips and entries."""
    return errors.sum(1).mean()


def draw_known(key: Key[Array, ""], num_frames: int, random_known: float) -> Bool[Array, " t"]:
    """Draw which frames of a window are known.

    With probability `random_known` these are two to half of all frames, drawn at random, in nine of ten cases with
    the two ends; otherwise the two ends alone.
    """
    choose, count, order, add_ends = jax.random.split(key, 4)
    most = max(num_frames // 2, 2)
    rank = jnp.argsort(jax.random.permutation(order, num_frames))
    random = rank < jax.random.randint(count, (), 2, most + 1)
    ends = jnp.zeros(num_frames, bool).at[jnp.array([0, -1])].set(True)
    random |= ends & (jax.random.uniform(add_ends) < 0.9)
    return jnp.where(jax.random.uniform(choose) < random_known, random, ends)


def flow_optimizer(config: FlowConfig) -> optax.GradientTransformation:
    """AdamW for the network, with a warm-up, cosine decay and clipped gradients."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.decay_steps, 0.01 * config.learning_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(config.max_gradient),
        optax.adamw(schedule, b1=0.9, b2=0.99, weight_decay=config.weight_decay),
    )


def flow_step(config: FlowConfig, tx: optax.GradientTransformation) -> DeviceStep:
    """The training step for `fit`: a gradient step, then an update of the moving average of the weights.

    The average starts as a plain mean, so that the initial weights are forgotten early.
    """
    update = gradient_step(tx, flow_objective)

    def step(graphdef, state, constants, batch, keys):
        new, metrics = update(graphdef, state, constants, batch, keys)
        number = state.step.astype(jnp.float32)
        decay = jnp.minimum(config.average_decay, (1 + number) / (10 + number))
        average = jax.tree.map(
            lambda old, weight: decay * old + (1 - decay) * weight,
            state.batch_stats["average"],
            new.params["network"],
        )
        return new._replace(batch_stats={**new.batch_stats, "average": average}), metrics

    return step
