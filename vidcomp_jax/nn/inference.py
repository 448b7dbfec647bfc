"""Modules in inference mode, split into definition and variables for functions that `jax.jit` compiles.

Flax traverses all of a module to split it, which takes as long as some networks take to run. A module that was split
before is therefore only looked over for what has changed.
"""

import operator
import weakref
from typing import Any, NamedTuple

import jax
from flax import nnx


class Definition:
    """The definition of a module, for `nnx.merge(definition.graphdef, state)`; hashed once, as static argument of jit.

    Attributes:
        graphdef: the definition as Flax knows it.
    """

    def __init__(self, graphdef: nnx.GraphDef):
        self.graphdef = graphdef
        self._hash = hash(graphdef)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Definition) and self.graphdef == other.graphdef)


class _Split(NamedTuple):
    """The parts of a module, and the attributes of all modules in it from which they follow."""

    definition: Definition
    state: Any
    attributes: list[dict[str, Any]]
    values: list[tuple[Any, ...]]

    def holds(self) -> bool:
        """Whether all attributes are the objects that they were."""
        return all(
            len(attributes) == len(values) and all(map(operator.is_, attributes.values(), values))
            for attributes, values in zip(self.attributes, self.values, strict=True)
        )


_SPLITS: "weakref.WeakKeyDictionary[nnx.Module, _Split]" = weakref.WeakKeyDictionary()
_DEFINITIONS: "weakref.WeakValueDictionary[nnx.GraphDef, Definition]" = weakref.WeakValueDictionary()
"""One definition for all modules that are alike, so that comparing them is quick."""


def split_for_inference(module: nnx.Module) -> tuple[Definition, Any]:
    """Split a module that uses its running statistics, whatever mode it is in.

    The state holds the variables themselves, whose values may change later. The module must not be a part of itself.
    """
    found = _SPLITS.get(module)
    if found is None or not found.holds():
        found = _split(module)
        variables = {id(node) for _, node in nnx.iter_graph(module) if isinstance(node, nnx.Variable)}
        leaves = jax.tree.leaves(found.state, is_leaf=lambda x: isinstance(x, nnx.Variable))
        if all(id(leaf) in variables for leaf in leaves):  # copies would keep the values of today
            _SPLITS[module] = found
    return found.definition, found.state


def _split(module: nnx.Module) -> _Split:
    attributes = [vars(node) for _, node in nnx.iter_graph(module) if isinstance(node, nnx.Pytree)]
    graphdef, state = nnx.split(nnx.view(module, use_running_average=True, raise_if_not_found=False))
    definition = _DEFINITIONS.get(graphdef)
    if definition is None:
        definition = _DEFINITIONS[graphdef] = Definition(graphdef)
    return _Split(definition, state, attributes, [tuple(each.values()) for each in attributes])
