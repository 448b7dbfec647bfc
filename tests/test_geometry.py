"""Sampling grids, warps, their inverses and Jacobians, and heatmaps of keypoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidcomp_jax.nn.geometry import (
    MIN_DETERMINANT,
    RandomWarp,
    RandomWarpConfig,
    coordinate_grid,
    gaussian_heatmaps,
    inverse_2x2,
    multiply_2x2,
    warp,
)


def image(height=7, width=9, channels=2, batch=2):
    return jax.random.uniform(jax.random.key(0), (batch, height, width, channels))


def draw(batch=3, **config):
    return RandomWarp.draw(jax.random.split(jax.random.key(1), batch), RandomWarpConfig(**config))


def test_gradients_of_a_pixel_sampled_often_are_added_up_in_float32():
    grid = jnp.zeros((1, 64, 64, 2))

    def total(x):
        return warp(x, grid).astype(jnp.float32).sum()

    gradient = jax.grad(total)(jnp.ones((1, 5, 5, 1), jnp.bfloat16))
    assert gradient.dtype == jnp.bfloat16 and float(gradient[0, 2, 2, 0]) == 4096


@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_identity_grid_warps_to_itself(padding):
    x = image()
    grid = jnp.broadcast_to(coordinate_grid(7, 9), (2, 7, 9, 2))
    np.testing.assert_allclose(warp(x, grid, padding=padding), x, atol=1e-5)


def test_grid_is_x_then_y_with_corners_at_one():
    grid = coordinate_grid(3, 5)
    np.testing.assert_allclose(grid[0, 0], [-1, -1])
    np.testing.assert_allclose(grid[0, 4], [1, -1])
    np.testing.assert_allclose(grid[2, 0], [-1, 1])


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "reflection"])
def test_warp_and_its_gradients_equal_pytorch(padding, align_corners):
    torch = pytest.importorskip("torch")
    x = image()
    grid = np.random.default_rng(0).uniform(-2.7, 2.7, (2, 6, 5, 2)).astype(np.float32)
    cotangent = np.random.default_rng(1).normal(size=(2, 6, 5, 2)).astype(np.float32)

    ours, vjp = jax.vjp(lambda x, g: warp(x, g, align_corners=align_corners, padding=padding), x, jnp.asarray(grid))
    dx, dgrid = vjp(jnp.asarray(cotangent))

    tx = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).requires_grad_()
    tgrid = torch.tensor(grid, requires_grad=True)
    theirs = torch.nn.functional.grid_sample(tx, tgrid, padding_mode=padding, align_corners=align_corners)
    theirs.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
    np.testing.assert_allclose(ours, theirs.detach().permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(dgrid, tgrid.grad, atol=2e-3)


def test_gradient_at_whole_pixels_is_a_difference_of_pixels():
    x = jnp.arange(5.0).reshape(1, 1, 5, 1) * 3 + 10
    gradient = jax.grad(lambda g: warp(x, g)[0, 0, 0, 0])(jnp.zeros((1, 1, 1, 2)))
    # There are two pixels per unit, and the values rise by three per pixel.
    np.testing.assert_allclose(gradient[0, 0, 0, 0], 3 * 4 / 2, rtol=1e-6)


def test_one_image_read_by_many_grids():
    x = image()
    grids = jax.random.uniform(jax.random.key(2), (2, 3, 4, 4, 2), minval=-1)
    together = warp(x, grids)
    assert together.shape == (2, 3, 4, 4, 2)
    np.testing.assert_allclose(together[:, 1], warp(x, grids[:, 1]), atol=1e-6)


def test_far_away_and_nan_free():
    grid = jnp.full((2, 1, 1, 2), 1e12)
    assert (warp(image(), grid) == 0).all()
    assert np.isfinite(warp(image(), grid, padding="reflection")).all()


def test_thin_plate_jacobian_equals_jacfwd():
    transform = draw(sigma_affine=0.3, sigma_thin_plate=0.1)
    points = jax.random.uniform(jax.random.key(3), (3, 5, 2), minval=-1)

    def at(affine, control, point):
        return RandomWarp(affine[None], control[None])(point[None, None])[0, 0]

    each = jax.vmap(jax.vmap(jax.jacfwd(at, argnums=2), (None, None, 0)))
    np.testing.assert_allclose(transform.jacobian(points), each(*transform, points), atol=1e-5)


def test_warped_frame_shows_at_p_what_the_original_shows_at_warp_of_p():
    x = coordinate_grid(33, 33)[None]  # an image whose values are its coordinates
    transform = draw(batch=1, sigma_affine=0.02, sigma_thin_plate=0.002)
    seen = transform.warp_frame(x)[:, 8:25, 8:25]
    expected = transform(coordinate_grid(33, 33)[8:25, 8:25].reshape(1, -1, 2)).reshape(1, 17, 17, 2)
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_each_key_has_its_own_warp():
    keys = jax.random.split(jax.random.key(0), 4)
    together = RandomWarp.draw(keys, RandomWarpConfig())
    alone = RandomWarp.draw(keys[2:3], RandomWarpConfig())
    np.testing.assert_array_equal(together.affine[2], alone.affine[0])
    assert len({float(x) for x in together.affine[:, 0, 0]}) == 4


def test_inverse():
    matrix = jax.random.normal(jax.random.key(0), (5, 3, 2, 2)) + 2 * jnp.eye(2)
    np.testing.assert_allclose(
        multiply_2x2(matrix, inverse_2x2(matrix)), np.broadcast_to(np.eye(2), (5, 3, 2, 2)), atol=1e-4
    )
    np.testing.assert_allclose(multiply_2x2(matrix, matrix), np.matmul(matrix, matrix), atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-9, -1e-9])
def test_inverse_of_a_singular_matrix_stays_finite(scale):
    singular = jnp.array([[1.0, 2.0], [2.0, 4.0 + scale]])
    inverse, gradient = inverse_2x2(singular), jax.grad(lambda m: inverse_2x2(m).sum())(singular)
    assert np.isfinite(inverse).all() and np.isfinite(gradient).all()
    assert np.abs(inverse).max() <= 4 / MIN_DETERMINANT * 1.01


def test_heatmaps_peak_at_the_keypoint():
    position = jnp.array([[0.5, -0.25], [-1.0, 1.0]])
    heatmaps = gaussian_heatmaps(position, 9, 9)
    assert heatmaps.shape == (9, 9, 2)
    assert np.unravel_index(heatmaps[..., 0].argmax(), (9, 9)) == (3, 6)
    np.testing.assert_allclose(heatmaps[8, 0, 1], 1.0)
    np.testing.assert_allclose(heatmaps[8, 1, 1], np.exp(-0.5 * 0.25**2 / 0.01), rtol=1e-4)
