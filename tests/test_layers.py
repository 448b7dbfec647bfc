"""Layers and losses against PyTorch, VGG19 files, and initial weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vidcomp_jax import AXIS, InputError
from vidcomp_jax.fomm.discriminator import SpectralNormConv
from vidcomp_jax.fomm.perceptual import VGG19, load_vgg19, perceptual_loss, pyramid_loss, save_vgg19
from vidcomp_jax.nn.hourglass import Hourglass, HourglassConfig
from vidcomp_jax.nn.layers import BatchNorm, Constant, UpBlock, conv, convolve_doubled, freeze
from vidcomp_jax.nn.resampling import AntiAliasDownsample, average_pool, max_pool, upsample_nearest

torch = pytest.importorskip("torch")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def nchw(x):
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def test_batch_norm_equals_pytorch_in_both_modes():
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm2d(3)
    for seed in range(3):
        x = 2 * normal(2, 3, 3, 3, seed=seed) + 5
        np.testing.assert_allclose(ours(jnp.asarray(x)), theirs(nchw(x)).detach().permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean, atol=1e-5)
    np.testing.assert_allclose(ours.var[...], theirs.running_var, rtol=1e-5)
    assert int(ours.num_batches[...]) == int(theirs.num_batches_tracked) == 3
    ours.eval()
    theirs.eval()
    np.testing.assert_allclose(ours(jnp.asarray(x)), theirs(nchw(x)).detach().permute(0, 2, 3, 1), atol=1e-5)
    assert int(ours.num_batches[...]) == 3


def test_batch_norm_sees_the_batches_of_all_devices():
    x = jnp.asarray(normal(4, 3, 3, 2))

    def apply(x):
        norm = BatchNorm(2)
        return norm(x), norm.var[...]

    together, var = apply(x)
    apart, each_var = jax.pmap(apply, AXIS)(x.reshape(2, 2, 3, 3, 2))
    np.testing.assert_allclose(apart.reshape(4, 3, 3, 2), together, atol=1e-5)
    np.testing.assert_allclose(each_var, np.stack([var, var]), rtol=1e-5)


def test_joined_batches_are_normalized_as_by_one_call_for_each():
    batches = jnp.stack([jnp.asarray(normal(2, 3, 4, 3, seed=seed)) + seed for seed in range(3)])
    weights = jnp.asarray(normal(*batches.shape, seed=9))

    def each_in_turn(norm, batches):
        return jnp.stack([norm(batch) for batch in batches])

    def together(norm, batches):
        return nnx.view(norm, joined_batches=3)(batches.reshape(6, 3, 4, 3)).reshape(batches.shape)

    def run(way):
        def loss(batches):
            norm = BatchNorm(3)
            outputs = way(norm, batches)
            assert norm.joined_batches == 1, "a view does not change the module itself"
            return jnp.sum(weights * jnp.sin(outputs)), (outputs, norm.mean[...], norm.var[...], norm.num_batches[...])

        return jax.grad(loss, has_aux=True)(batches)

    for ours, expected in zip(jax.tree.leaves(run(together)), jax.tree.leaves(run(each_in_turn)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


def test_joined_batches_of_two_devices_equal_those_of_one():
    batches = jnp.asarray(normal(2, 4, 3, 3, 2))

    def apply(batches):
        norm = BatchNorm(2)
        outputs = nnx.view(norm, joined_batches=2)(batches.reshape(-1, *batches.shape[2:]))
        return outputs.reshape(batches.shape), norm.mean[...], norm.var[...]

    together, mean, var = apply(batches)
    outputs, means, variances = jax.pmap(apply, AXIS, in_axes=1, out_axes=(1, 0, 0))(batches.reshape(2, 2, 2, 3, 3, 2))
    np.testing.assert_allclose(outputs.reshape(batches.shape), together, atol=1e-5)
    np.testing.assert_allclose(means, np.stack([mean, mean]), rtol=1e-5)
    np.testing.assert_allclose(variances, np.stack([var, var]), rtol=1e-5)


@pytest.mark.parametrize("scale,size", [*itertools.product([0.5, 0.25, 0.125], [16, 22])])
def test_downsampling_is_a_padded_strided_convolution(scale, size):
    x = normal(2, size, size + 2, 3)
    down = AntiAliasDownsample(scale, 3)
    kernel = np.outer(down.kernel(), down.kernel())
    weight = torch.tensor(kernel)[None, None].repeat(3, 1, 1, 1)
    expected = torch.nn.functional.conv2d(nchw(x), weight, stride=down.stride, padding=len(kernel) // 2, groups=3)
    np.testing.assert_allclose(down(jnp.asarray(x)), expected.permute(0, 2, 3, 1), atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 0.3, 2.0])
def test_impossible_scales_are_named(scale):
    with pytest.raises(InputError, match=f"scale is {scale}"):
        AntiAliasDownsample(scale, 1)


def test_pooling_and_upsampling():
    x = normal(1, 5, 7, 2)
    expected = torch.nn.functional.avg_pool2d(nchw(x), 2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), expected, atol=1e-6)
    np.testing.assert_array_equal(upsample_nearest(jnp.asarray(x)), x.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_max_pooling_gives_the_gradient_to_the_first_of_equal_pixels(size):
    x = np.random.default_rng(0).integers(0, 3, (2, *size, 3)).astype(np.float32)  # with many ties
    weights = normal(2, size[0] // 2, size[1] // 2, 3, seed=1)
    theirs = nchw(x).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, 2)
    (pooled * nchw(weights)).sum().backward()
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), pooled.detach().permute(0, 2, 3, 1))
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x) * weights))(jnp.asarray(x))
    np.testing.assert_array_equal(gradient, theirs.grad.permute(0, 2, 3, 1))


def test_convolving_the_doubled_image_without_making_it():
    x, kernel, weights = map(jnp.asarray, (normal(2, 5, 7, 3), normal(3, 3, 3, 4), normal(2, 10, 14, 4)))

    def doubled(x, kernel):
        settings = {"padding": ((1, 1), (1, 1)), "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return jax.lax.conv_general_dilated(upsample_nearest(x), kernel, (1, 1), **settings)

    expected, pullback = jax.vjp(doubled, x, kernel)
    found, our_pullback = jax.vjp(convolve_doubled, x, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for ours, theirs in zip(our_pullback(weights), pullback(weights), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("size", [8, 16])
def test_up_blocks_of_small_and_large_images_agree_with_pytorch(size):
    block = UpBlock(3, 4, 3, rngs=nnx.Rngs(0))
    x = normal(2, size, size, 3)
    up = torch.nn.functional.interpolate(nchw(x), scale_factor=2)
    kernel, bias = (torch.tensor(np.asarray(p[...])) for p in (block.conv.kernel, block.conv.bias))
    y = torch.nn.functional.conv2d(up, kernel.permute(3, 2, 0, 1), bias, padding=1)
    expected = torch.nn.functional.batch_norm(y, None, None, training=True).relu().permute(0, 2, 3, 1)
    np.testing.assert_allclose(block(jnp.asarray(x)), expected, atol=1e-4)


def test_initial_weights_are_pytorchs():
    layer = conv(16, 64, 3, padding=1, rngs=nnx.Rngs(0))
    bound = 1 / np.sqrt(16 * 9)
    for leaf in (layer.kernel[...], layer.bias[...]):
        assert np.abs(leaf).max() <= bound and np.abs(leaf).max() > 0.9 * bound
        np.testing.assert_allclose(np.std(leaf), bound / np.sqrt(3), rtol=0.2)


def test_hourglass_keeps_any_size():
    hourglass = Hourglass(HourglassConfig(width=2, max_width=4, num_blocks=3), 2, rngs=nnx.Rngs(0))
    small, large = jnp.asarray(normal(1, 9, 13, 2)), jnp.asarray(normal(1, 16, 16, 2))
    hourglass.eval()
    assert hourglass(small).shape == (1, 9, 13, hourglass.out_features)
    np.testing.assert_array_equal(hourglass(large)[..., -2:], large)  # the last skip connection is the input


def test_spectral_norm_equals_pytorch():
    ours = conv(3, 5, 4, padding=0, rngs=nnx.Rngs(0), conv_type=SpectralNormConv)
    layer = torch.nn.Conv2d(3, 5, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.asarray(ours.kernel[...]).transpose(3, 2, 0, 1)))
        layer.bias.copy_(torch.tensor(np.asarray(ours.bias[...])))
    theirs = torch.nn.utils.spectral_norm(layer)
    with torch.no_grad():
        theirs.weight_u.copy_(torch.tensor(np.asarray(ours.u[...])))
    x = normal(2, 6, 6, 3)
    for _ in range(3):
        np.testing.assert_allclose(ours(jnp.asarray(x)), theirs(nchw(x)).detach().permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(ours.u[...], theirs.weight_u, atol=1e-5)
    np.testing.assert_allclose(ours.v[...], theirs.weight_v, atol=1e-5)
    ours.eval()
    before = np.asarray(ours.u[...])
    ours(jnp.asarray(x))
    np.testing.assert_array_equal(ours.u[...], before)


def test_frozen_layers_work_and_have_no_parameters():
    layer = conv(2, 3, 3, padding=1, rngs=nnx.Rngs(0))
    x = jnp.asarray(normal(1, 4, 4, 2))
    expected = layer(x)
    freeze(layer)
    np.testing.assert_array_equal(layer(x), expected)
    assert not jax.tree.leaves(nnx.state(layer, nnx.Param))
    assert len(jax.tree.leaves(nnx.state(layer, Constant))) == 2


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.npz"
    save_vgg19(path, VGG19(rngs=nnx.Rngs(0)))
    return path


def test_vgg19_weights_come_back_frozen(vgg_file):
    vgg = load_vgg19(vgg_file)
    original = VGG19(rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(vgg.features["34"].kernel[...], original.features["34"].kernel[...])
    assert not jax.tree.leaves(nnx.state(vgg, nnx.Param))


def test_bad_vgg19_files_are_named(tmp_path, vgg_file):
    with pytest.raises(InputError, match="no such file"):
        load_vgg19(tmp_path / "missing.npz")
    (tmp_path / "page.npz").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.npz: no converted VGG19 weights"):
        load_vgg19(tmp_path / "page.npz")
    (tmp_path / "cut.npz").write_bytes(vgg_file.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cut\.npz"):
        load_vgg19(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    torch.save({"features.0.weight": torch.zeros(3)}, tmp_path / "vgg19.pth")
    for name in ("other.npz", "array.npy", "vgg19.pth"):
        with pytest.raises(InputError, match=rf"{name}: no converted VGG19 weights.*; make them with"):
            load_vgg19(tmp_path / name)


def test_reconstruction_losses_are_zero_for_the_truth_only(vgg_file):
    x, y = (np.random.default_rng(seed).uniform(size=(1, 32, 32, 1)).astype(np.float32) for seed in (0, 1))
    vgg = load_vgg19(vgg_file)
    for loss in (lambda a, b: perceptual_loss(vgg, a, b, scales=(1.0, 0.5)), lambda a, b: pyramid_loss(a, b)):
        assert loss(jnp.asarray(x), jnp.asarray(x)) == 0
        assert loss(jnp.asarray(x), jnp.asarray(y)) > 0.01
    with pytest.raises(InputError, match=r"VGG19 needs 16; leave that scale out of `loss\.scales`"):
        perceptual_loss(vgg, jnp.asarray(x), jnp.asarray(y), scales=(1.0, 0.25))


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_weights_drawn_while_tracing_are_those_drawn_outside(kind):
    def weights(key):
        return conv(30, 70, 3, padding=1, rngs=nnx.Rngs(key)).kernel[...]  # large enough to be drawn in several blocks

    key = jax.random.key(0, impl=kind)
    np.testing.assert_array_equal(jax.jit(weights)(key), weights(key))
