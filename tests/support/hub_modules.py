"""Small saved models with the published signature of the in-betweening modules, in both formats of TensorFlow Hub."""

from vidcomp_jax.data import import_tensorflow

INPUT = (16, 2, 64, 64, 3)


def blend(tf, frames):
    """Compute the output of the saved modules: a cross-fade from the first frame of each clip to the last."""
    weight = tf.reshape(tf.range(1, 15, dtype=tf.float32) / 15, (14, 1, 1, 1))
    return frames[:, :1] * (1 - weight) + frames[:, 1:] * weight


def save_tf2(folder, *, shape=INPUT, name="default", function=blend):
    tf = import_tensorflow()
    module = tf.Module()
    module.scale = tf.Variable(1.0)
    run = tf.function(
        lambda frames: {"default": function(tf, frames) * module.scale},
        input_signature=[tf.TensorSpec(shape, tf.float32, name="frames")],
    )
    tf.saved_model.save(module, str(folder), signatures={name: run})
    return folder


def save_tf1(folder):
    """Write the TF1 Hub format: a graph for training, an untagged graph, and the marker file of a Hub module."""
    tf = import_tensorflow()
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    for i, tags in enumerate([["train"], []]):
        with tf.Graph().as_default(), v1.Session() as session:
            scale = v1.get_variable("scale", initializer=1.0, use_resource=True)
            frames = v1.placeholder(tf.float32, INPUT)
            signature = v1.saved_model.predict_signature_def(
                {"default": frames}, {"default": blend(tf, frames) * scale}
            )
            session.run(v1.global_variables_initializer())
            if i == 0:
                builder.add_meta_graph_and_variables(session, tags, {"default": signature})
            else:
                builder.add_meta_graph(tags, {"default": signature})
    builder.save()
    (folder / "tfhub_module.pb").write_bytes(b"\x08\x03")
    return folder
