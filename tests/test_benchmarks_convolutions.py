"""The benchmark of convolutions compares the same convolutions, among which are some that are computed otherwise."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.convolutions import CASES, Case, measure, row, ways
from tests.support.convolutions import hold_for_all
from vidcomp_jax.nn.convolution import FEW_INPUTS

SMALL = (
    Case(3, 2, 6, 3, 4),
    Case(2, 2, 6, 3, 4),
    Case(4, 2, 9, 3, 4, padding=0),
    Case(4, 2, 8, FEW_INPUTS, 4, 2, frames=4),
    Case(3, 3, 6, FEW_INPUTS, 4, frames=3),
)


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_both_sides_compute_the_same(case, monkeypatch):
    hold_for_all(monkeypatch, patches=9, rows=True, unpadded=True, blocks=True)
    medians, worst = measure(case, 1)
    assert len(medians) == 3 and min(min(pair) for pair in medians) > 0
    assert worst < 1e-5
    output = jax.eval_shape(ways(case)[0], *(jnp.zeros(shape) for shape in shapes(case))).shape
    size = case.pixels - case.size + 1 if case.padding == 0 else case.pixels // case.stride
    assert output == (*([1] if case.frames else []), case.images, size, size, case.outputs)


def shapes(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    frames = (case.frames,) if case.frames else ()
    x = ((1,) if frames else ()) + (case.images, case.pixels, case.pixels, case.inputs)
    return x, (*frames, case.size, case.size, case.inputs, case.outputs)


def test_a_row_has_ratios():
    medians = [(2.0, 1.0), (4.0, 1.0), (1.0, 3.0)]
    case = Case(4, 16, 8, 256, 512, 2, frames=4)
    assert row(case, medians, 3e-7, False) == ("| 4x4x4, stride 2 | 16 | 8 | 256 to 512 | 0.50 | 0.25 | 3.00 | 3e-07 |")
    assert "0.25 (1.0 / 4.0 ms)" in row(case, medians, 0.0, True)


def test_the_tables_hold_most_cases():
    """A shape that is left to XLA gives the same program on both sides."""

    def program(way, x, kernel):
        def both(x, kernel):
            y, back = jax.vjp(way, x, kernel)
            return y, back(y)

        return str(jax.make_jaxpr(both)(x, kernel))

    held = {}
    for case in CASES:
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes(case)]
        xla, ours = (program(way, *arrays) for way in ways(case))
        held[case] = xla != ours
    assert held[Case(3, 4, 2, 1024, 1024)] and not held[Case(3, 4, 16, 1024, 256)]
    assert sum(held.values()) >= len(CASES) - 4
