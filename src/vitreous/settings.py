"""Convert settings to and from JSON: frozen dataclasses on one side, plain dicts on the other. Strict in both directions.

If a field may hold one of several dataclasses, such as `ViTConfig | ResNetConfig`, the key "kind" says which: it holds the
class variable KIND of one of them. Without that key it is the first.

A dataclass whose settings used to have other names lists them in its class variable RENAMED: the former name, with dots
where it was nested, to the current name. A dataclass whose settings used to have another scale lists those, with their
defaults, in its class variable FORMER; its static method `renew` takes them all by name and returns the current
settings.
"""

import dataclasses
import functools
import hashlib
import json
import math
import types
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vitreous.errors import ConfigError, UnknownName

T = TypeVar("T")

TAG = "kind"
"""The key that says which of several dataclasses a field holds."""
LARGEST = 2**63
"""Upper bound of whole numbers in settings; Python's integers have none, but 10^400 is of no use in a model."""
SEAL = "sha256"
"""The key under which a file holds the hash of everything else in it, so that manual edits are noticed."""
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "an object",
    type(None): "null",
}


def refuse_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object (`object_pairs_hook`); raises ConfigError for a key that occurs twice.

    Python's JSON reader would silently keep only the last value.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ConfigError(f"{twice[:80]!r} is given twice in one object; keep only one")
    return found


def to_dict(settings: Any) -> dict[str, Any]:
    """Return a dataclass as a dict that JSON holds exactly: tuples become lists, nested dataclasses dicts."""
    tagged = list_alternatives(type(settings))
    values = {field.name: _convert_plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    return {
        name: {TAG: getattr(settings, name).KIND, **value} if name in tagged else value
        for name, value in values.items()
    }


@functools.cache
def list_alternatives(kind: type) -> dict[str, dict[str, type]]:
    """Return the fields of a dataclass that may hold one of several dataclasses: {field: {KIND: dataclass}}."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        members = [member for member in get_args(hint) if dataclasses.is_dataclass(member)]
        if get_origin(hint) in (Union, types.UnionType) and len(members) > 1:
            found[name] = {member.KIND: member for member in members}
    return found


def override_settings(settings: T, values: Mapping[str, Any]) -> T:
    """Return settings with some replaced, in nested dicts; another "kind" starts from that kind's defaults.

    Raises:
        UnknownName: a key that isn't a field. ConfigError: a value of the wrong type, or one that the dataclass
            refuses.
    """
    return from_dict(type(settings), _override(settings, values))


def _override(settings: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    result, tagged = to_dict(settings), list_alternatives(type(settings))
    for name, value in renew_settings(type(settings), values).items():
        old = getattr(settings, name, None)
        if not isinstance(value, Mapping) or (name in tagged and value.get(TAG, old.KIND) != old.KIND):
            result[name] = value
        elif dataclasses.is_dataclass(old):
            result[name] = {**({TAG: old.KIND} if name in tagged else {}), **_override(old, value)}
        else:
            result[name] = {**old, **value} if isinstance(old, Mapping) else value
    return result


def merge_settings(kind: type, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return some settings of a dataclass, nested, with others in place of the same names. If `second` states another
    "kind" than `first`, it replaces all of the first's settings there; if `first` states none, they are kept, and are
    refused later if they don't fit."""
    tagged = list_alternatives(kind)
    other = {
        name
        for name in tagged.keys() & first.keys() & second.keys()
        if isinstance(first[name], Mapping) and isinstance(second[name], Mapping) and TAG in first[name]
        if second[name].get(TAG, first[name].get(TAG)) != first[name].get(TAG)
    }
    return _merge({name: value for name, value in first.items() if name not in other}, second)


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    nested = {name for name in second if isinstance(second[name], Mapping) and isinstance(first.get(name), Mapping)}
    return {**first, **second, **{name: _merge(first[name], second[name]) for name in nested}}


def check_partial(kind: type, values: Any, where: str = "") -> dict[str, Any]:
    """Return some settings of a dataclass under today's names. Each is checked against its type, but not against the others.

    If a field may hold one of several dataclasses and no "kind" says which, it is the one that has most of these settings,
    the first of equals.

    Raises:
        UnknownName: a key that isn't a field; the message suggests the nearest. ConfigError: a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'the document'} must be an object of settings, not {_format_value(values)}")
    values, types_of = renew_settings(kind, values, where), _annotations(kind)
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    found = {}
    for name, value in values.items():
        if name not in fields:
            meant = next((field for field in fields if field == str(name).replace("-", "_")), None)
            raise UnknownName(f"setting in {where}" if where else "setting", str(name), fields, meant)
        place, hint = _join(where, name), types_of[name]
        members = [member for member in (hint, *get_args(hint)) if dataclasses.is_dataclass(member)]
        if not members or not isinstance(value, Mapping):
            _read(hint, value, place)
            found[name] = value
        elif len(members) == 1:
            found[name] = check_partial(members[0], value, place)
        else:
            found[name] = _check_tagged(members, value, place)
    return found


def _check_tagged(members: list[Any], value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check some settings of one of several dataclasses."""
    rest = {key: item for key, item in value.items() if key != TAG}
    if TAG in value:
        member = _choose_member(members, value, where)
        return {TAG: member.KIND, **check_partial(member, rest, where)}
    known = {member: {*_annotations(member), *getattr(member, "RENAMED", {})} for member in members}
    return check_partial(
        max(members, key=lambda member: sum(str(name).replace("-", "_") in known[member] for name in rest)), rest, where
    )


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """Build the dataclass `kind` from the result of `to_dict`, whether or not it has been through JSON.

    A field that is absent takes its default, so the default of a new field must mean what was done before it existed.

    Args:
        kind: the dataclass to build.
        values: a mapping of field names to JSON values.
        where: the path of these settings within the file, such as "model"; shown in error messages.

    Raises:
        UnknownName: a key that isn't a field; the message suggests the nearest.
        ConfigError: a value of the wrong type, a missing field without a default, or a value that `kind` itself refuses.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or kind.__name__} must be an object of settings, not {_format_value(values)}")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    values = renew_settings(kind, values, where)
    for key in values:
        if key not in fields:
            raise UnknownName(f"setting in {where}" if where else "setting", str(key), fields)
    types_of = _annotations(kind)
    given = {name: _read(types_of[name], value, _join(where, name)) for name, value in values.items()}
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in given and not optional:
            raise ConfigError(f"{_join(where, name)} is missing; it must be {_describe_type(types_of[name])}")
    return kind(**given)


def renew_settings(kind: type, values: Mapping[str, Any], where: str = "") -> Mapping[str, Any]:
    """Return settings of earlier versions as today's equivalents; an absent setting counts as its default.

    Raises:
        ConfigError: a value of the wrong type, or a setting given in both its old and its new form.
    """
    values = _rename(getattr(kind, "RENAMED", {}), values, where)
    former: dict[str, Any] = getattr(kind, "FORMER", {})
    old = {name: values[name] for name in former if name in values}
    if not old:
        return values
    for name, value in old.items():
        _read(type(former[name]), value, _join(where, name))
    new = kind.renew(**former | old)  # type: ignore[attr-defined]
    for name in new.keys() & values.keys():
        raise ConfigError(
            f"{_join(where, name)} and {_join(where, next(iter(old)))} are the same setting; leave one of them out"
        )
    return {name: value for name, value in values.items() if name not in old} | new


def _rename(names: Mapping[str, str], values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return settings with former names replaced by today's; raises ConfigError if one is given under both."""
    for former, today in names.items():
        given = _pop(values, former.split("."))
        if given is None:
            continue
        values, value = given
        if _pop(values, today.split(".")) is not None:
            raise ConfigError(f"{_join(where, former)} is called {_join(where, today)} now; leave out the first")
        values = _put(values, today.split("."), value)
    return values


def _pop(values: Mapping[str, Any], path: list[str]) -> tuple[Mapping[str, Any], Any] | None:
    """Return the settings without the value at a path, and that value; None if there is none."""
    name, *rest = path
    if name not in values or (rest and not isinstance(values[name], Mapping)):
        return None
    if not rest:
        return {key: value for key, value in values.items() if key != name}, values[name]
    below = _pop(values[name], rest)
    return None if below is None else ({**values, name: below[0]}, below[1])


def _put(values: Mapping[str, Any], path: list[str], value: Any) -> Mapping[str, Any]:
    """Return the settings with a value set at a path."""
    name, *rest = path
    return {**values, name: _put(values.get(name) or {}, rest, value) if rest else value}


def check_settings(settings: Any) -> None:
    """Check each field's value against its annotation, in the `__post_init__` of settings that people build themselves.

    A list becomes a tuple if the field is one. The class variable LARGEST, if there is one, holds the largest number
    for each field: absurd values are refused before anything is built from them.

    Raises:
        ConfigError: a value of another type, or a word that the field doesn't allow.
    """
    types_of, largest = _annotations(type(settings)), getattr(settings, "LARGEST", {})
    for name, value in ((field.name, getattr(settings, field.name)) for field in dataclasses.fields(settings)):
        annotation = types_of[name]
        if dataclasses.is_dataclass(annotation):
            if not isinstance(value, annotation):  # type: ignore[arg-type]
                raise ConfigError(f"{name} is {_format_value(value)}; it must be a {annotation.__name__}")
            continue
        read = _read(annotation, value, name)
        if name in largest:
            for number in value if isinstance(value, (tuple, list)) else (value,):
                check_size(number, name, largest[name])
        if isinstance(value, list):
            object.__setattr__(settings, name, read)


@functools.cache
def _annotations(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as indented JSON in UTF-8, with readable text; raises ValueError for NaN and infinities."""
    try:
        return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except UnicodeEncodeError:  # file names that are not UTF-8: escape everything
        return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def hash_document(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON document's contents, independent of formatting and without the entry under SEAL."""
    contents = {name: value for name, value in document.items() if name != SEAL}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _convert_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _convert_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a setting can't be a {type(value).__name__}, which JSON doesn't hold")


def _read(kind: Any, value: Any, where: str) -> Any:
    """Convert one JSON value to the annotated type, or raise ConfigError."""
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(kind, value, where)
    if origin is tuple:
        return _read_tuple(kind, value, where)
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _read(get_args(kind)[1], item, _join(where, str(key))) for key, item in value.items()}
    if _fits(kind, value):
        check_size(value, where)
        return float(value) if kind is float else value
    raise ConfigError(f"{where} is {_format_value(value)}; it must be {_describe_type(kind)}")


def check_size(value: Any, where: str, most: float = 2**63 - 1) -> None:
    """Raise ConfigError for a number that is infinite, NaN or absurdly large; other values pass."""
    if isinstance(value, (int, float)) and not (
        math.isfinite(value) if isinstance(value, float) else abs(value) <= most
    ):
        raise ConfigError(f"{where} is {_format_value(value)}; it must be a finite number of at most {most:,}")


def _fits(kind: Any, value: Any) -> bool:
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return any(value == item and type(value) is type(item) for item in get_args(kind))
    if kind is float:
        return isinstance(value, float) or (type(value) is int and abs(value) < LARGEST)
    return type(value) is kind and (kind is not int or abs(value) < LARGEST)


def _read_union(kind: Any, value: Any, where: str) -> Any:
    members = [member for member in get_args(kind) if dataclasses.is_dataclass(member)]
    if isinstance(value, Mapping) and len(members) > 1:
        return _read_tagged(members, value, where)
    if isinstance(value, Mapping) and members:
        return from_dict(members[0], value, where)  # type: ignore[arg-type]
    for alternative in get_args(kind):
        try:
            return _read(alternative, value, where)
        except ConfigError:
            continue
    raise ConfigError(f"{where} is {_format_value(value)}; it must be {_describe_type(kind)}")


def _read_tagged(members: list[Any], value: Mapping[str, Any], where: str) -> Any:
    """Read one of several dataclasses by its tag; without one it is the first."""
    rest = {key: item for key, item in value.items() if key != TAG}
    return from_dict(_choose_member(members, value, where), rest, where)


def _choose_member(members: list[Any], value: Mapping[str, Any], where: str) -> Any:
    known = {member.KIND: member for member in members}
    tag = value.get(TAG, members[0].KIND)
    if not isinstance(tag, str) or tag not in known:
        raise UnknownName(f"kind of {where}", str(tag), known)
    return known[tag]


def _read_tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    inner = get_args(kind)
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where} is {_format_value(value)}; it must be {_describe_type(kind)}")
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(inner) != len(value):
        raise ConfigError(f"{where} has {len(value)} values; it must have {len(inner)}")
    pairs = enumerate(zip(inner, value, strict=True))
    return tuple(_read(item_kind, item, f"{where}[{index}]") for index, (item_kind, item) in pairs)


def _describe_type(kind: Any) -> str:
    """Describe a type in words."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(repr(item) for item in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe_type(item) for item in inner)
    if origin is tuple:
        each = _describe_type(inner[0]).removeprefix("a ") + "s"
        return f"a list of {each}" if inner[-1] is Ellipsis else f"a list of {len(inner)} {each}"
    if dataclasses.is_dataclass(kind) or origin is dict:
        return "an object of settings"
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _format_value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
