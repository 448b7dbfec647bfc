"""Reads the YAML configurations of the published First Order Motion Model code.

Input: a YAML file. Output: its sections, checked, and the sizes of our networks.

The published code (Siarohin et al., First Order Motion Model for Image Animation, NeurIPS 2019) keeps the sizes of
the networks under `model_params`, the videos and their augmentation under `dataset_params`, the schedule and the
losses under `train_params`, and the settings of its other modes under `reconstruction_params`, `animate_params` and
`visualizer_params`. Files are read as data alone: tags that would call Python are refused.
"""

import datetime
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml

from vidcomp_jax.errors import InputError, printable
from vidcomp_jax.fomm.dense_motion import DenseMotionConfig
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.generator import GeneratorConfig
from vidcomp_jax.fomm.keypoints import KeypointDetectorConfig
from vidcomp_jax.fomm.model import FOMMConfig
from vidcomp_jax.fomm.official_sections import SECTIONS, ModelParams, Params
from vidcomp_jax.storage.untrusted import check_depth, read_text, reading

Section = TypeVar("Section", bound=msgspec.Struct)


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
        if not isinstance(self.content.get(name), dict):
            raise InputError(f"{self.path}: has no entry {name}; an official FOMM configuration was expected")
        try:
            return _converted(self.content[name], kind, name)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def model(self) -> FOMMConfig:
        """The sizes of our networks; `InputError` as for `section`, or if a size is impossible."""
        params = self.section("model_params", ModelParams)
        try:
            return _model_config(params)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None


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


def _model_config(params: ModelParams) -> FOMMConfig:
    common, detector, generator = params.common_params, params.kp_detector_params, params.generator_params
    dense_motion, discriminator = generator.dense_motion_params, params.discriminator_params
    try:
        return FOMMConfig(
            num_channels=common.num_channels,
            num_keypoints=common.num_kp,
            estimate_jacobian=common.estimate_jacobian,
            estimate_occlusion=generator.estimate_occlusion_map,
            detector=KeypointDetectorConfig(
                width=detector.block_expansion,
                max_width=detector.max_features,
                num_blocks=detector.num_blocks,
                scale=detector.scale_factor,
                temperature=detector.temperature,
                single_jacobian=detector.single_jacobian_map,
            ),
            dense_motion=DenseMotionConfig(
                width=dense_motion.block_expansion,
                max_width=dense_motion.max_features,
                num_blocks=dense_motion.num_blocks,
                scale=dense_motion.scale_factor,
                heatmap_variance=dense_motion.kp_variance,
            ),
            generator=GeneratorConfig(
                width=generator.block_expansion,
                max_width=generator.max_features,
                num_down_blocks=generator.num_down_blocks,
                num_bottleneck_blocks=generator.num_bottleneck_blocks,
            ),
            discriminator=DiscriminatorConfig(
                width=discriminator.block_expansion,
                max_width=discriminator.max_features,
                num_blocks=discriminator.num_blocks,
                scales=discriminator.scales,
                spectral_norm=discriminator.sn,
                use_keypoints=discriminator.use_kp,
                heatmap_variance=discriminator.kp_variance,
            ),
        )
    except InputError as error:
        raise InputError(f"model_params: {plainly(error)}") from None


def plainly(error: InputError) -> str:
    """The message without backticks around settings: the values are those of a file, not of options."""
    return str(error).replace("`", "")


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
