"""The in-betweening network of the repository xih108/Video_Completion and its losses, written with TensorFlow's layers.

Weights are dicts of arrays by the names of our modules. Pixels are in [-1, 1], as there.
"""

from vidcomp_jax.data import import_tensorflow

tf = import_tensorflow()  # loads the library of Triton first, if it is installed


def conv(x, weights, stride=1):
    strides = [1, *[1] * (len(x.shape) - 4), *[stride] * min(2, len(x.shape) - 2), 1]
    run = {3: tf.nn.conv1d, 4: tf.nn.conv2d, 5: tf.nn.conv3d}[len(x.shape)]
    return run(x, weights["kernel"], strides, "SAME") + weights["bias"]


def transposed(x, weights, stride):
    """Our kernels are those of plain convolutions along axes that are not doubled."""
    mirrored = weights["kernel"][::-1] if stride == 2 else weights["kernel"][::-1, ::-1, ::-1]
    b, t, h, w, _ = x.shape
    shape = (b, t, stride * h, stride * w, mirrored.shape[3])
    swapped = tf.transpose(mirrored, (0, 1, 2, 4, 3))
    shape = (*shape[:4], swapped.shape[3])
    return tf.nn.conv3d_transpose(x, swapped, shape, [1, 1, stride, stride, 1], "SAME") + weights["bias"]


def batch_norm(x, weights):
    mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
    return tf.nn.batch_normalization(x, mean, variance, weights["bias"], weights["scale"], 1e-3)


def layer_norm(x, weights):
    mean, variance = tf.nn.moments(x, list(range(1, len(x.shape))), keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, weights["bias"], weights["scale"], 1e-12)


def in_order(blocks):
    return [blocks[place] for place in sorted(blocks)]


def encode(frames, weights):
    x = frames
    for i, block in enumerate([*in_order(weights["blocks"]), weights["head"]]):
        x = tf.nn.relu(batch_norm(conv(x, block["conv"], 2 if i in (0, 2, 4) else 1), block["norm"]))
    return x


def stage(z, start, end, u, weights):
    t, c = z.shape[1], z.shape[-1]
    times = tf.reshape(
        tf.linalg.matvec(weights["linear"]["kernel"], u, transpose_a=True) + weights["linear"]["bias"], (1, t, c)
    )
    start_gate, end_gate, noise = tf.split(conv(times, weights["mix"])[:, :, None, None], 3, axis=-1)
    start_gate, end_gate = tf.sigmoid(start_gate), tf.sigmoid(end_gate)
    fused = start_gate * start + end_gate * end + tf.maximum(1 - start_gate - end_gate, 0) * z + noise
    return tf.nn.leaky_relu(z + conv(tf.nn.leaky_relu(conv(fused, weights["first"])), weights["second"]))


def generate(first, last, weights):
    start, end = (encode(frames, weights["encoder"])[:, None] for frames in (first, last))
    z, stages = tf.concat([start, end], 1), in_order(weights["latent"]["stages"])
    for i, one in enumerate(stages):
        if i % (len(stages) // 3) == 0:
            z = tf.repeat(z, 2, axis=1)
        z = stage(z, start, end, weights["noise"], one)
    for i, block in enumerate([*in_order(weights["decoder"]["blocks"]), weights["decoder"]["head"]]):
        z = tf.nn.leaky_relu(batch_norm(transposed(z, block["conv"], 2 if i in (2, 4, 6) else 1), block["norm"]))
    return z


def video_logits(clips, weights):
    x = clips
    for kernel, norm in zip(in_order(weights["convs"]), in_order(weights["norms"]), strict=True):
        x = tf.nn.leaky_relu(layer_norm(conv(x, kernel, 2), norm))
    return tf.reshape(x, (len(clips), -1)) @ weights["head"]["kernel"] + weights["head"]["bias"]


def image_logits(frames, weights):
    x = shortcut = frames
    for block in in_order(weights["blocks"]):
        pooled = conv(tf.nn.avg_pool2d(shortcut, 2, 2, "VALID"), block["shortcut"])
        shortcut = tf.nn.leaky_relu(layer_norm(pooled, block["shortcut_norm"]))
        x = tf.nn.leaky_relu(layer_norm(conv(x, block["first"]), block["first_norm"]))
        x = tf.nn.leaky_relu(layer_norm(conv(x, block["second"], 2), block["second_norm"])) + shortcut
    return tf.reshape(x, (len(frames), -1)) @ weights["head"]["kernel"] + weights["head"]["bias"]


def logits(clips, weights):
    """Return the logits of clips, and of their inner frames."""
    inner = tf.reshape(clips[:, 1:-1], (-1, *clips.shape[2:]))
    return video_logits(clips, weights["video_discriminator"]), image_logits(inner, weights["image_discriminator"])


def toy_generate(first, last, weights):
    """Return clips of a network that blends its ends, with weights of its own for each frame."""
    start, end, bright = (weights["mix"][:, i, None, None, None] for i in range(3))
    return tf.nn.leaky_relu(start * first[:, None] + end * last[:, None] + bright)


def toy_logits(clips, weights):
    """Return logits that are linear in the pixels."""
    video = tf.reduce_sum(clips * weights["video_discriminator"]["weight"], (1, 2, 3, 4))
    image = tf.reduce_sum(clips[:, 1:-1] * weights["image_discriminator"]["weight"], (2, 3, 4))
    return video, tf.reshape(image, (-1,))


def cross_entropy(logits, label):
    labels = tf.fill(logits.shape, float(label))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))


def gradient_difference(a, b):
    """Return the loss over all frames: mean over pixels of both differences, with a border of zeros."""
    x = tf.constant([-1.0, 1.0])[None, :, None, None]
    total = 0.0
    for kernel in (x, tf.transpose(x, (1, 0, 2, 3))):
        edges = [abs(tf.nn.conv2d(tf.reshape((c + 1) / 2, (-1, *c.shape[2:])), kernel, 1, "SAME")) for c in (a, b)]
        total += tf.reduce_mean(abs(edges[0] - edges[1]))
    return total


def step(clips, weights, rate):
    """Train the toy networks on clips: gradient descent of both discriminators, then of the generator.

    Returns:
        The weights, the losses of both updates, and those of the video discriminator afterwards.
    """
    variables = tf.nest.map_structure(tf.Variable, weights)
    judges = {name: variables[name] for name in ("video_discriminator", "image_discriminator")}
    clips = tf.constant(clips)

    def losses():
        generated = toy_generate(clips[:, 0], clips[:, -1], variables["generator"])
        real, fake = toy_logits(clips, variables), toy_logits(generated, variables)
        names = ("video_real", "image_real", "video_fake", "image_fake")
        labeled = zip(names, (*real, *fake), (1, 1, 0, 0), strict=True)
        apart = {name: cross_entropy(x, label) for name, x, label in labeled}
        error = tf.reduce_mean((clips[:, 1:-1] - generated[:, 1:-1]) ** 2) + gradient_difference(generated, clips)
        return apart, error + 0.02 * sum(cross_entropy(x, 1) for x in fake)

    def descend(part, choose):
        with tf.GradientTape() as tape:
            found = losses()
            loss = choose(*found)
        leaves = tf.nest.flatten(part)
        for variable, gradient in zip(leaves, tape.gradient(loss, leaves), strict=True):
            variable.assign_sub(rate * gradient)
        return found

    apart, _ = descend(judges, lambda apart, _: sum(apart.values()))
    _, fooled = descend(variables["generator"], lambda _, fooled: fooled)
    after, _ = losses()
    numbers = {name: float(value) for name, value in (apart | {"loss": fooled}).items()}
    verdict = [float(after["video_real"]), float(after["video_fake"])]
    return tf.nest.map_structure(lambda x: x.numpy(), variables), numbers, verdict
