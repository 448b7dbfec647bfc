"""Reads and writes configs (frozen dataclasses) as `config.json`, and checks that a run resumes with the same one."""

import dataclasses
import pathlib
import re
from typing import Any, TypeVar

import msgspec

from vidcomp_jax.errors import InputError, check_numbers, printable
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.folders import marker_of
from vidcomp_jax.storage.untrusted import check_depth, read_bytes, reading

CONFIG_FILE = "config.json"
MAY_CHANGE = {"may_change": True}
"""Metadata of a dataclass field that a resumed run may change:
`log_every: int = dataclasses.field(default=50, metadata=MAY_CHANGE)`."""
MAY_MOVE = {"may_move": True}
"""Metadata of an optional path that a resumed run may change, but neither add nor omit."""

ADDED_LATER = {"added_later": True}
"""Metadata of a field with a default that configs of earlier versions lack. Its default must be what they did."""

Config = TypeVar("Config")


def save_config(path: pathlib.Path, config: Any) -> None:
    """Write the dataclass `config` to the JSON file `path`, replacing an existing file atomically."""
    _write(pathlib.Path(path), _plain(config))


def load_config(path: pathlib.Path, config_type: type[Config], part: str = "") -> Config:
    """Read a dataclass of type `config_type` from the JSON file `path`, or from its entry `part`.

    Raises:
        InputError: the file is missing or not JSON, or an entry is missing (unless it is marked `ADDED_LATER`),
            unknown or invalid.
    """
    path = pathlib.Path(path)
    stored = _read(path)
    if part and part not in stored:
        raise InputError(f"{path}: has no entry {part}; found {', '.join(stored) or 'nothing'}")
    stored = stored[part] if part else stored
    with reading(path, f"not a {config_type.__name__}"):
        try:
            config = msgspec.convert(stored, config_type, strict=True, dec_hook=_decode)
            check_numbers(config)
        except InputError as error:
            raise InputError(f"{path}: {_plainly(error)}") from error
        except msgspec.ValidationError as error:
            raise InputError(f"{path}: not a {config_type.__name__}: {printable(_named(error))}") from error
    there, expected = {**_added_later(config), **_flat(stored)}, _flat(_plain(config))
    problems = [f"unknown entry {name}" for name in there if name not in expected]
    problems += [f"missing entry {name}" for name in expected if name not in there]
    if problems:
        raise InputError(f"{path}: not a {config_type.__name__}: {', '.join(problems)}")
    return config


def claim_workdir(workdir: pathlib.Path, config: Any) -> None:
    """Write `workdir/config.json`, or check that an existing one has the same settings.

    Fields marked `MAY_CHANGE` may differ, and so may those marked `MAY_MOVE` if both configs set them; the file is
    then updated. A file of an earlier version that lacks fields marked `ADDED_LATER` counts as having their defaults.

    Raises:
        InputError: `workdir` holds a run with other settings; the message names each field and both values.
    """
    workdir = pathlib.Path(workdir)
    path = workdir / CONFIG_FILE
    settings = _plain(config)
    if path.exists():
        stored = _read(path)
        there, here = {**_added_later(config), **_flat(stored)}, _flat(settings)
        free, movable = _marked(config, "may_change"), _marked(config, "may_move")
        differences = [
            f"{name} is {_shown(there, name)} there, {_shown(here, name)} now"
            for name in {**there, **here}
            if there.get(name, dataclasses.MISSING) != here.get(name, dataclasses.MISSING)
            and not any(name == field or name.startswith(f"{field}.") for field in free)
            and not (name in movable and there.get(name) and here.get(name))
        ]
        if differences:
            raise InputError(
                f"{workdir}: holds a run with other settings: {'; '.join(differences)}. "
                "Give these values to continue it, or another folder to start a new run"
            )
        settings = _like_stored(config, settings, stored)
    _write(path, settings)


def as_begun(config: Config, workdir: pathlib.Path) -> Config:
    """`config`, with the settings that the run in `workdir` was begun without at the values that it had in effect.

    A run of an earlier version then goes on as it was begun, whatever the configurations of this version say about
    fields marked `ADDED_LATER`, but for those marked `MAY_CHANGE` as well. Without such a run, `config` is returned
    unchanged.
    """
    path = pathlib.Path(workdir) / CONFIG_FILE
    return _begun(config, _read(path)) if path.is_file() else config


def _write(path: pathlib.Path, settings: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")


def _named(error: msgspec.ValidationError) -> str:
    """The message with the full path of the entry: a nested config's own check knows only its field names."""
    if not isinstance(error.__cause__, InputError):
        return str(error)
    place = re.search(r"at `\$\.(.+)`$", str(error))
    said = _plainly(error.__cause__)
    return f"{place[1]}.{said}" if place else said


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; the config of a run or model was expected")
    marker_of(path.parent)  # raises if a newer version wrote the folder
    content = read_bytes(path)
    with reading(path, "not JSON"):
        stored = msgspec.json.decode(content)
        check_depth(stored)
    if not isinstance(stored, dict):
        raise InputError(f"{path}: holds a {type(stored).__name__}; an object of settings was expected")
    return stored


def _plainly(error: InputError) -> str:
    """The message without backticks around fields: the values come from a file, not from options."""
    return str(error).replace("`", "")


def _plain(config: Any) -> Any:
    return msgspec.json.decode(_json(config))


def _json(config: Any) -> bytes:
    # Converted to a dict first: msgspec does not encode fields that it left at their defaults when decoding.
    return msgspec.json.encode(dataclasses.asdict(config), enc_hook=_encode)


def _encode(value: Any) -> Any:
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise NotImplementedError(f"a config holds a {type(value).__name__}, which JSON does not")


def _decode(kind: type, value: Any) -> Any:
    if isinstance(value, str) and issubclass(kind, pathlib.PurePath):
        return kind(value)
    raise NotImplementedError(f"a config asks for a {kind.__name__}, which JSON does not hold")


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _added_later(config: Any) -> dict[str, Any]:
    """The defaults of the fields that configs of earlier versions lack, by their dotted names."""
    defaults: dict[str, Any] = {}

    def collect(part: Any, prefix: str) -> None:
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if field.metadata.get("added_later"):
                default = msgspec.json.decode(msgspec.json.encode(_default(field), enc_hook=_encode))
                defaults.update(_flat({field.name: default}, prefix))
            elif dataclasses.is_dataclass(value):
                collect(value, f"{prefix}{field.name}.")

    collect(config, "")
    return defaults


def _shown(flat: dict[str, Any], name: str) -> str:
    return repr(flat[name]) if name in flat else "absent"


def _marked(config: Any, mark: str, prefix: str = "") -> list[str]:
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata.get(mark):
            names.append(prefix + field.name)
        elif dataclasses.is_dataclass(value):
            names += _marked(value, mark, f"{prefix}{field.name}.")
    return names


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _begun(config: Any, stored: dict[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, there = getattr(config, field.name), stored.get(field.name)
        added = field.metadata.get("added_later") and not field.metadata.get("may_change")
        if added and field.name not in stored:
            changes[field.name] = _default(field)
        elif dataclasses.is_dataclass(value) and isinstance(there, dict):
            changes[field.name] = _begun(value, there)
    return dataclasses.replace(config, **changes)


def _like_stored(config: Any, settings: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """`settings` without those that `stored` lacks because it is of an earlier version, and that have their defaults.

    The run then stays one of the earlier version, which any later command treats as such.
    """
    kept = {}
    for field in dataclasses.fields(config):
        value, here = getattr(config, field.name), settings[field.name]
        if field.metadata.get("added_later") and field.name not in stored and value == _default(field):
            continue
        there = stored.get(field.name)
        nested = dataclasses.is_dataclass(value) and isinstance(there, dict)
        kept[field.name] = _like_stored(value, here, there) if nested and isinstance(there, dict) else here
    return kept
