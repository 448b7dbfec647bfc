"""Reckoned scaling: the formulas on numbers worked out by hand, the limit that is found, and bytes as XLA compiles."""

import dataclasses
import subprocess
import sys

import jax
import pytest

from benchmarks import scaling, scaling_step
from benchmarks.scaling import Options, Reduced
from tests.support.tiny_fomm import tiny
from vidcomp_jax.errors import InputError

# A megabyte of gradients, and 1000 numbers in 10 all-reduces that wait.
REDUCED = Reduced(gradients=250_000, statistics=900, others=100, waits=10)
OPTIONS = Options(
    batch=4,
    readers=2,
    cores=16,
    devices_per_host=4,
    bandwidth_within=1.0,
    bandwidth_between=0.5,
    latency_within=10.0,
    latency_between=30.0,
)


def test_seconds_of_all_reduces():
    assert scaling.all_reduce_seconds(1e6, 1, OPTIONS) == 0
    # 2 * 3/4 * 1 MB at 1 GB/s is 1.5 ms, and 2 * log2(4) messages of 10 us.
    assert scaling.all_reduce_seconds(1e6, 4, OPTIONS) == pytest.approx(1.5e-3 + 40e-6)
    # Between hosts: 2 * 7/8 * 1 MB at 0.5 GB/s is 3.5 ms, and twice 2 * 3 messages of 30 us.
    assert scaling.all_reduce_seconds(1e6, 8, OPTIONS, count=2) == pytest.approx(3.5e-3 + 360e-6)


def test_a_row_by_hand():
    row = scaling.row(4, REDUCED, step_seconds=0.1, pairs_per_second=1000, options=OPTIONS)
    waiting = 2 * 3 / 4 * 4000 / 1e9 + 10 * 4 * 10e-6
    gradients = 2 * 3 / 4 * 1e6 / 1e9 + 4 * 10e-6
    assert row.exposed == pytest.approx(waiting + gradients)
    assert row.data == pytest.approx(4 * 4 / 2000)
    assert row.step == pytest.approx(0.1 + waiting + gradients)
    assert row.efficiency == pytest.approx(0.1 / row.step)
    assert row.limit == "compute"
    hidden = scaling.row(4, REDUCED, 0.1, 1000, dataclasses.replace(OPTIONS, overlap=0.5))
    assert hidden.exposed == pytest.approx(waiting)  # a third of the step is longer than the gradients take
    partly = scaling.row(4, REDUCED, 1e-3, 1000, dataclasses.replace(OPTIONS, overlap=0.5))
    assert partly.exposed == pytest.approx(waiting + gradients - 1e-3 / 3) and partly.limit == "data"


def test_where_data_and_the_network_become_the_limit():
    # A host's readers give 2 * 50 pairs a second. A step of 0.1 s takes 4 pairs a device: 3 devices exceed that.
    rows = [scaling.row(n, REDUCED, 0.1, 50, OPTIONS) for n in (1, 2, 3, 4, 8)]
    assert [row.limit for row in rows] == ["compute", "compute", "data", "data", "data"]
    assert rows[2].step == rows[2].data == pytest.approx(0.12)
    assert rows[4].data == rows[3].data  # each host has readers of its own
    assert scaling.summary(rows, 50, OPTIONS) == "data is the limit from 3 devices on; 4 readers a host would do"
    enough = dataclasses.replace(OPTIONS, readers=4)
    assert scaling.summary([scaling.row(4, REDUCED, 0.1, 50, enough)], 50, enough).startswith("data is nowhere the")
    few = dataclasses.replace(OPTIONS, cores=3, readers=4)
    rows = [scaling.row(4, REDUCED, 0.1, 50, few)]
    assert scaling.summary(rows, 50, few).endswith("4 readers a host would do, more than its 3 cores")
    slow = dataclasses.replace(OPTIONS, bandwidth_between=0.01)
    assert scaling.row(8, REDUCED, 0.1, 1000, slow).limit == "network"


def test_the_table_has_a_line_for_each_number_of_devices():
    rows = [scaling.row(n, REDUCED, 0.1, 1000, OPTIONS) for n in (1, 64)]
    lines = scaling.table(rows, OPTIONS).splitlines()
    assert lines[2] == "| 1 | 100.00 | 0.00 | 2.00 | 100.00 | 40 | 1.000 | compute |"
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1


def with_gan():
    config = tiny()
    weights = (1.0,) * config.fomm.discriminator.num_blocks
    return dataclasses.replace(
        config, loss=dataclasses.replace(config.loss, generator_gan=1.0, feature_matching=weights)
    )


def test_the_compiled_step_reduces_the_bytes_that_are_reckoned():
    step, *arguments = scaling_step._prepare(with_gan(), 4, jax.devices()[:2])
    text = step.lower(*arguments, jax.random.key(0)).compile().as_text()
    reduced = scaling_step.reduced_by(with_gan())
    assert scaling_step.all_reduced(text) == reduced.num_bytes
    assert reduced.gradients == sum(x.size for x in jax.tree.leaves(arguments[0].params))


def test_networks_that_are_not_trained_are_not_reduced():
    on, off = scaling_step.reduced_by(with_gan()), scaling_step.reduced_by(tiny())
    model = scaling_step.FirstOrderMotionModel(tiny().fomm, rngs=scaling_step.nnx.Rngs(0))
    discriminator = scaling_step.nnx.state(model.discriminator, scaling_step.nnx.Param)
    assert on.gradients - off.gradients == sum(x.size for x in jax.tree.leaves(discriminator))
    assert on.others - off.others == 3 and on.statistics == off.statistics


def test_bytes_are_read_from_the_text_of_a_program():
    text = """
      %all-reduce.1 = f32[3,4]{1,0} all-reduce(%x), channel_id=1
      ROOT %r = (f32[2]{0}, bf16[5]{0}, f32[]) all-reduce(%a, %b, %c), to_apply=%add
      %y = f32[100]{0} add(%a, %all-reduce.1)
    """
    assert scaling_step.all_reduced(text) == 48 + 8 + 10 + 4


def test_wrong_options():
    for name, value in (("batch", 0), ("overlap", 1.5), ("bandwidth_between", 0.0), ("devices", ())):
        with pytest.raises(InputError, match=name):
            Options(**{name: value})
    command = [sys.executable, "-m", "benchmarks.scaling", "--config=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: --config=nothing: unknown; choose from")
