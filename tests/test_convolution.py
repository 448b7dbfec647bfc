"""Every way to convolve equals XLA's convolution, in values and in derivatives of all modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tests.support.convolutions import hold_for_all
from vidcomp_jax.nn import convolution
from vidcomp_jax.nn.convolution import Shapes, convolve


def random(*shape: int, seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def conv(x, kernel, stride, padding):
    return convolve(x, kernel, (stride, stride), padding, dimension_numbers=convolution.LAYOUT)


def xla(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=convolution.LAYOUT)


SHAPES = {"plain": (1, 3, ((1, 1), (1, 1))), "even": (1, 2, ((1, 0), (0, 1))), "unpadded": (1, 4, ((0, 0), (0, 0)))}
STRIDED = {"halved": (2, 4, ((1, 1), (1, 1))), "cropped": (2, 2, ((0, 1), (0, 0))), "uneven": (2, 4, ((1, 2), (2, 1)))}
WAYS = [({"patches": 9}, [*SHAPES, *STRIDED])]
WAYS += [({way: True, "unpadded": True}, list(SHAPES)) for way in ("rows", "shifts", "unpadded")]
WAYS += [({"blocks": True}, list(STRIDED)), ({"blocks": True, "rows": True, "unpadded": True}, ["halved"])]


@pytest.mark.parametrize("ways, shape", [(ways, shape) for ways, shapes in WAYS for shape in shapes], ids=str)
def test_values_and_derivatives_equal_xlas(ways, shape, monkeypatch):
    hold_for_all(monkeypatch, **ways)
    stride, size, padding = (SHAPES | STRIDED)[shape]
    x, kernel = random(2, 6, 5, 3), random(size, size, 3, 4, seed=1)
    direction = random(*x.shape, seed=2), random(*kernel.shape, seed=3)
    ours, theirs = (
        str(jax.make_jaxpr(jax.grad(lambda *args, run=run: run(*args, stride, padding).sum(), 1))(x, kernel))
        for run in (conv, xla)
    )
    if "unpadded" not in ways or "rows" in ways or "shifts" in ways or shape == "unpadded":
        assert ours != theirs

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(run, x, kernel, direction):
        def loss(*args):
            return jnp.sin(run(*args, stride, padding)).sum()

        gradient = jax.grad(loss, (0, 1))
        forward = jax.jvp(lambda *args: run(*args, stride, padding), (x, kernel), direction)
        forward_over_reverse = jax.jvp(gradient, (x, kernel), direction)[1]
        reverse_over_reverse = jax.grad(lambda *args: sum((g**2).sum() for g in gradient(*args)), (0, 1))(x, kernel)
        mapped = jax.vmap(jax.grad(loss, 1), (None, 0))(x, jnp.stack([kernel, 2 * kernel]))
        return forward, gradient(x, kernel), forward_over_reverse, mapped, reverse_over_reverse

    ours, theirs = (derivatives(run, x, kernel, direction) for run in (conv, xla))
    close(ours[:4], theirs[:4])
    for one, other in zip(ours[4], theirs[4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(jnp.abs(other).max()))


@pytest.mark.parametrize(
    "ways", [{"patches": 9}, {"rows": True}, {"shifts": True}, {"unpadded": True}, {"blocks": True}], ids=str
)
def test_two_devices_equal_one(ways, monkeypatch):
    hold_for_all(monkeypatch, **ways)
    x, kernel, padding = random(4, 5, 4, 3), random(4, 4, 3, 4, seed=1), ((1, 2), (2, 1))
    stride = 2 if "blocks" in ways else 1

    def gradients(x, kernel):
        return jax.grad(lambda *args: jnp.sin(conv(*args, stride, padding)).sum(), (0, 1))(x, kernel)

    def on_each(x, kernel):
        dx, dk = gradients(x, jax.lax.pcast(kernel, "data", to="varying"))
        return dx, jax.lax.psum(dk, "data")

    mesh = Mesh(jax.devices()[:2], "data")
    split = jax.shard_map(on_each, mesh=mesh, in_specs=(P("data"), P()), out_specs=(P("data"), P()))
    close(jax.jit(split)(x, kernel), gradients(x, kernel))


@pytest.mark.parametrize("way", ["rows", "shifts"])
def test_a_frozen_kernel_costs_no_gradient(way, monkeypatch):
    hold_for_all(monkeypatch, **{way: True})
    x, kernel, padding = random(2, 6, 6, 3), random(3, 3, 3, 4), ((1, 1), (1, 1))
    program = str(jax.make_jaxpr(jax.grad(lambda x: conv(x, kernel, 1, padding).sum()))(x))
    assert "dot_general" not in program
    both = jax.grad(lambda x, kernel: conv(x, kernel, 1, padding).sum(), (0, 1))
    assert "dot_general" in str(jax.make_jaxpr(both)(x, kernel))


def test_the_tables_decide(monkeypatch):
    x, kernel = random(2, 6, 6, 3), random(3, 3, 3, 4)
    run = functools.partial(convolve, padding=((1, 1), (1, 1)), dimension_numbers=convolution.LAYOUT)

    def program(strides=(1, 1), dtype=jnp.float32, **options):
        gradient = jax.grad(lambda k: run(x.astype(dtype), k, strides, **options).sum().astype(jnp.float32))
        return str(jax.make_jaxpr(gradient)(kernel.astype(dtype)))

    hold_for_all(monkeypatch)
    assert "dot_general" not in program()
    hold_for_all(monkeypatch, patches=9)
    assert "dot_general" in program() and "conv_general_dilated" not in program()
    for gradient in ("rows", "shifts"):
        hold_for_all(monkeypatch, **{gradient: True})
        assert "dot_general" in program() and "conv_general_dilated" in program()
    hold_for_all(monkeypatch, rows=True, shifts=True, unpadded=True, blocks=True)
    for other in (
        {"strides": (2, 2)},
        {"strides": (2, 1)},
        {"dtype": jnp.bfloat16},
        {"rhs_dilation": (2, 2)},
        {"precision": "highest"},
    ):
        assert "dot_general" not in program(**other), other


@pytest.mark.parametrize("pad, padded", [(0, 1), (1, 0)])
def test_only_convolutions_without_padding_get_a_row(monkeypatch, pad, padded):
    x, kernel = random(2, 6, 6, 3), random(3, 3, 3, 4)

    def program(x):
        run = functools.partial(convolve, padding=((pad, pad), (pad, pad)), dimension_numbers=convolution.LAYOUT)
        return str(jax.make_jaxpr(lambda k: run(x, k, (1, 1)))(kernel))

    hold_for_all(monkeypatch)
    assert "padding=((0, 1), (0, 0))" not in program(x)
    for others in ({}, {"rows": True}, {"shifts": True}):
        hold_for_all(monkeypatch, unpadded=True, **others)
        assert program(x).count("padding=((0, 1), (0, 0))") == padded


def test_other_devices_use_xla(monkeypatch):
    hold_for_all(monkeypatch, patches=9, rows=True, shifts=True, unpadded=True, blocks=True)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel = random(2, 6, 6, 3), random(3, 3, 3, 4)
    for pad in (0, 1):
        run = functools.partial(convolve, padding=((pad, pad), (pad, pad)), dimension_numbers=convolution.LAYOUT)
        program = str(jax.make_jaxpr(lambda x, k, run=run: run(x, k, (1, 1)))(x, kernel))
        assert "dot_general" not in program and "padding=((0, 1)" not in program


def test_shapes_hold_within_their_limits():
    shapes = Shapes(kernel=3, pixels=(4, 8), batch=2, outputs=16, products=128, most_outputs=32, stride=2)
    assert shapes.hold(2, (3, 3, 8, 16), (4, 8), 2)
    for batch, kernel, output, stride in (
        (1, (3, 3, 8, 16), (4, 8), 2),
        (2, (3, 2, 8, 16), (4, 8), 2),
        (2, (3, 3, 8, 15), (4, 8), 2),
        (2, (3, 3, 8, 33), (4, 8), 2),
        (2, (3, 3, 7, 16), (4, 8), 2),
        (2, (3, 3, 8, 16), (3, 8), 2),
        (2, (3, 3, 8, 16), (4, 9), 2),
        (2, (3, 3, 8, 16), (4, 8), 1),
    ):
        assert not shapes.hold(batch, kernel, output, stride)
