"""Reads the YAML configurations of the published First Order Motion Model code.

Input: a YAML file. Output: its sections, checked, and the sizes of our networks.

The published code (Siarohin et al., First Order Motion Model for Image Animation, NeurIPS 2019) keeps the sizes of
the networks under `model_params`, the videos and their augmentation under `dataset_params`, the schedule and the
losses under `train_params`, and the settings of its other modes under `reconstruction_params`, `animate_params` and
`visualizer_params`. Files are read as data alone: tags that would call Python are refused.
"""

import contextlib
import dataclasses
import datetime
import difflib
import math
import operator
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from vidcomp_jax.errors import InputError, printable
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.fomm.official_sections import SECTIONS, ModelParams, Params
from vidcomp_jax.storage.untrusted import check_depth, read_text, reading

Section = TypeVar("Section", bound=msgspec.Struct)


_NO_KEYS: Mapping[str, str] = {}


class OfficialFile(NamedTuple):
    """An official configuration file.

    Attributes:
        path: the file.
        content: its sections, not yet checked.
    """

    path: Path
    content: dict[str, Any]

    def section(self, name: str, kind: type[Section]) -> Section:
        """One section; `InputError` if it is missing, or a key of it is missing, unknown or of the wrong type."""
        with self.named_in_errors():
            if not isinstance(self.content.get(name), dict):
                raise InputError(f"has no entry {name}; an official FOMM configuration was expected")
            return _converted(self.content[name], kind, name)

    def model(self) -> FOMMConfig:
        """The sizes of our networks; `InputError` as for `section`, or if a size is impossible."""
        params = self.section("model_params", ModelParams)
        with self.named_in_errors():
            return _model_config(params)

    @contextlib.contextmanager
    def named_in_errors(self, keys: Mapping[str, str] = _NO_KEYS) -> Iterator[None]:
        """Turn an `InputError` about a value of the file into one that names the file, and the key, see `by_key`."""
        try:
            with by_key(keys):
                yield
        except InputError as error:
            said, start = str(error).replace("`", ""), f"{self.path}: "
            raise InputError(said if said.startswith(start) else start + said) from None


def read_official(path: Path) -> OfficialFile:
    """Read an official YAML file.

    Raises:
        InputError: the file is missing, is not YAML, has a tag that would call Python, holds a key twice or an unknown
            section, or is not an official configuration.
    """
    text = read_text(path, "not YAML")
    with reading(path, "not YAML"):
        try:
            content = yaml.load(text, Loader=_Loader)
        except yaml.constructor.ConstructorError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise InputError(f"{path}{line}: {printable(str(error.problem))}; nothing of the file was run") from None
        _check_plain(content)
    if not isinstance(content, dict) or not isinstance(content.get("model_params"), dict):
        raise InputError(f"{path}: has no entry model_params; an official FOMM configuration was expected")
    for name in content:
        if name not in SECTIONS:
            raise InputError(f"{path}: {name}: unknown section{_meant(str(name), list(SECTIONS))}")
    return OfficialFile(path, content)


def _check_plain(content: Any) -> None:
    """Raise an error for values that no setting has, and that other code does not expect."""
    check_depth(content, 20)
    for value in _leaves_of(content):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is no number that a setting can have")
        if isinstance(value, datetime.date | bytes | set):
            raise ValueError(f"a {type(value).__name__}, {value!r}, is no setting; put quotes around a text")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise ValueError("a number has more than 64 bits")
        if isinstance(value, str):
            value.encode()  # half of a surrogate pair cannot be printed or stored


def _leaves_of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_leaves_of(key), *_leaves_of(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves_of(inner)
    else:
        yield value


class _Loader(yaml.SafeLoader):
    """Reads plain data alone; refuses a key that is given twice, of which YAML would keep the last, and any alias.

    Aliases can stand for each other, by which a few lines grow to billions of entries; configurations do without them.
    """

    def __init__(self, stream: str):
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "an alias, which no configuration needs", mark)
        self._depth += 1
        if self._depth > 100:
            raise RecursionError
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys: set[str] = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key in keys:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)


def fomm_config(model_params: Mapping[str, Any]) -> FOMMConfig:
    """Convert the `model_params` of an official YAML file to the sizes of our networks.

    Raises:
        InputError: a key is missing, unknown, or of the wrong type.
    """
    return _model_config(_converted(model_params, ModelParams, "model_params"))


MODEL_KEYS: dict[str, str] = {
    "common_params.num_kp": "num_keypoints",
    "common_params.num_channels": "num_channels",
    "common_params.estimate_jacobian": "estimate_jacobian",
    "kp_detector_params.temperature": "detector.temperature",
    "kp_detector_params.block_expansion": "detector.width",
    "kp_detector_params.max_features": "detector.max_width",
    "kp_detector_params.scale_factor": "detector.scale",
    "kp_detector_params.num_blocks": "detector.num_blocks",
    "kp_detector_params.single_jacobian_map": "detector.single_jacobian",
    "generator_params.block_expansion": "generator.width",
    "generator_params.max_features": "generator.max_width",
    "generator_params.num_down_blocks": "generator.num_down_blocks",
    "generator_params.num_bottleneck_blocks": "generator.num_bottleneck_blocks",
    "generator_params.estimate_occlusion_map": "estimate_occlusion",
    "generator_params.dense_motion_params.block_expansion": "dense_motion.width",
    "generator_params.dense_motion_params.max_features": "dense_motion.max_width",
    "generator_params.dense_motion_params.num_blocks": "dense_motion.num_blocks",
    "generator_params.dense_motion_params.scale_factor": "dense_motion.scale",
    "generator_params.dense_motion_params.kp_variance": "dense_motion.heatmap_variance",
    "discriminator_params.scales": "discriminator.scales",
    "discriminator_params.block_expansion": "discriminator.width",
    "discriminator_params.max_features": "discriminator.max_width",
    "discriminator_params.num_blocks": "discriminator.num_blocks",
    "discriminator_params.sn": "discriminator.spectral_norm",
    "discriminator_params.use_kp": "discriminator.use_keypoints",
    "discriminator_params.kp_variance": "discriminator.heatmap_variance",
}
"""For each key of `model_params`, the field of `FOMMConfig` that holds its value."""


def _model_config(params: ModelParams) -> FOMMConfig:
    default = FOMMConfig()
    parts: dict[str, dict[str, Any]] = {}
    keys: dict[str, dict[str, str]] = {}
    for key, field in MODEL_KEYS.items():
        part, _, name = field.rpartition(".")
        parts.setdefault(part, {})[name] = operator.attrgetter(key)(params)
        keys.setdefault(part, {})[name] = f"model_params.{key}"
    own = parts.pop("")
    for part, values in parts.items():
        with by_key(keys[part]):
            own[part] = dataclasses.replace(getattr(default, part), **values)
    with by_key(keys[""]):
        return dataclasses.replace(default, **own)


def differing_key(one: FOMMConfig, other: FOMMConfig) -> str | None:
    """The first key of `model_params` in which two models differ, apart from those of the discriminator."""
    for key, field in MODEL_KEYS.items():
        value = operator.attrgetter(field)
        if not key.startswith("discriminator_params") and value(one) != value(other):
            return key
    return None


@contextlib.contextmanager
def by_key(keys: Mapping[str, str]) -> Iterator[None]:
    """Replace the fields that an `InputError` names by the keys of a file whose values they hold."""
    try:
        yield
    except InputError as error:
        raise InputError(re.sub(r"`([\w.]+)`", lambda found: keys.get(found[1], found[0]), str(error))) from None


def _converted(value: Any, kind: type[Section], name: str) -> Section:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InputError(_explained(str(error), value, name)) from None


def _explained(message: str, value: Any, name: str) -> str:
    """msgspec's message, with the full path of the key first, and the key or notation that was probably meant."""
    reason, _, place = message.partition(" - at `$")
    where = name + place.rstrip("`").replace("[...]", "")
    if found := re.fullmatch(r"Object contains unknown field `(.+)`", reason):
        return f"{where}.{found[1]}: unknown key{_meant(found[1], _keys())}"
    if found := re.fullmatch(r"Object missing required field `(.+)`", reason):
        return f"{where}.{found[1]}: missing"
    reason = reason.replace("`", "").replace("Expected", "expected").replace("object", "keys with values")
    given = _at(value, place.rstrip("`"))
    if isinstance(given, str) and (number := re.fullmatch(r"([+-]?\d+)[eE]([+-]?\d+)", given)):
        reason += f" (YAML takes {given} for text; write {number[1]}.0e{number[2]})"
    return f"{where}: {reason[0].lower()}{reason[1:]}"


def _at(value: Any, place: str) -> Any:
    for key in place.split(".")[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _keys() -> list[str]:
    return sorted({field for section in Params.__subclasses__() for field in section.__struct_fields__})


def _meant(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"; perhaps {close[0]} was meant" if close else ""
