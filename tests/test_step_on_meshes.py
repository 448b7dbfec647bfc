"""The step without its map: under `jit` and `shard_map` it computes what `pmap` does, also in several processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.support import toy_training
from vidcomp_jax.devices import AXIS, all_devices, initialize_distributed, shard
from vidcomp_jax.training.step import gradient_step, init_state, make_train_step, unmapped_step

ROOT = Path(__file__).parents[1]
STEPS = 3


def weights_of(state) -> list:
    """All arrays of a replicated state, on the host."""
    return [np.asarray(x.addressable_data(0)) for x in jax.tree.leaves(state)]


def with_pmap() -> list:
    """The state after some steps, as the commands train."""
    tx, key, mine = optax.adam(1e-2), jax.random.key(3), jax.local_devices()
    graphdef, constants, state = init_state(toy_training.Toy(), tx, mine)
    step = make_train_step(graphdef, tx, toy_training.objective, all_devices())
    share = 8 // jax.process_count()
    for i in range(STEPS):
        rows = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        batch = toy_training.Points(*(x[rows] for x in toy_training.batch_of(i)))
        state, _ = step(state, constants, shard(batch, share, mine), key)
    return weights_of(state)


def with_shard_map() -> list:
    """The same, as the documentation shows it for users of meshes."""
    tx = optax.adam(1e-2)
    mesh = Mesh(all_devices(), (AXIS,))
    graphdef, constants, state = init_state(toy_training.Toy(), tx, jax.local_devices())
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))

    def spread(tree, sharding):
        host = jax.tree.map(np.asarray, tree)
        return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda i: x[i]), host)

    step = unmapped_step(graphdef, gradient_step(tx, toy_training.objective))
    specs = {"in_specs": (P(), P(), P(AXIS), P()), "out_specs": (P(), P())}
    train = jax.jit(jax.shard_map(step, mesh=mesh, check_vma=False, **specs), donate_argnums=0)
    state, constants = spread(state, everywhere), spread(constants, everywhere)
    for i in range(STEPS):
        state, _ = train(state, constants, spread(toy_training.batch_of(i), split), jax.random.key(3))
    return weights_of(state)


def test_shard_map_computes_what_pmap_does():
    for mapped, sharded in zip(with_pmap(), with_shard_map(), strict=True):
        np.testing.assert_array_equal(mapped, sharded)


def as_process(coordinator: str, process: str):
    """Train both ways as one of two processes with two devices each."""
    initialize_distributed(coordinator, 2, int(process))
    assert (jax.local_device_count(), len(jax.devices())) == (2, 4)
    mapped, sharded = with_pmap(), with_shard_map()
    print(json.dumps([len(mapped), all(map(np.array_equal, mapped, sharded)), float(np.abs(mapped[-1]).sum())]))


def test_two_processes_of_two_devices_each():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    code = "import sys; from tests.test_step_on_meshes import as_process; as_process(*sys.argv[1:])"
    arguments = [sys.executable, "-c", code, coordinator]
    running = [
        subprocess.Popen([*arguments, str(i)], cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    try:
        results = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    assert results[0] == results[1]
    count, equal, total = results[0]
    assert count > 10 and equal and total > 0
