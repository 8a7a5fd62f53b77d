"""Find the weights in a training checkpoint, extract them, and report it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vitreous.errors import CheckpointError
from vitreous.weights.pickle_reader import Described, Inert, list_attributes

WRAPPERS = (
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema", "params_ema", "averaged_model"),
    *("teacher", "target_encoder", "model", "state_dict", "model_state_dict", "model_state", "module"),
    *("net", "network", "params", "weights", "encoder", "backbone"),
)
"""Keys under which training scripts keep the weights; the average is preferred to the raw ones."""
NOT_WEIGHTS = ("opt", "sched", "scaler", "loop", "callback", "rng", "state_dict_meta")
"""Prefixes of keys that hold something else."""
FEWEST = 8
"""Tensors of a model; what has fewer is something else beside one that has as many."""
DEEPEST = 4
"""Mappings that are looked into, one inside the other."""
MOST_ENTRIES = 300_000
"""Entries of mappings inside each other, each counted wherever it can be reached, among which weights are looked for."""
HEAD = re.compile(r"(\w+_)?(heads?|classifier|clf|fc|linear)(\.(weight|bias))?")
"""Keys of a file under which a head lies beside the rest of a model."""
AVERAGE = re.compile(r"ema|averag|swa|shadow", re.IGNORECASE)
"""Words for a moving average of weights."""
MODULE = ("_parameters", "_buffers", "_modules")
"""Attributes of a whole pickled module that hold its tensors."""
SHARDS = ("ShardedTensor", "DTensor")
STRANGE = {
    "sparse": "a sparse tensor; make it dense (tensor.to_dense()) before saving",
    "qtensor": "a quantised tensor; save the float model",
    "nested": "a nested tensor, which no weight is",
    "meta": "on torch's meta device: it has a shape, but no values",
    "numpy": "an array of NumPy's; save torch.from_numpy(array)",
}
"""Tensors that aren't plain, by a word in the name of the function that rebuilds them."""
GATHER = (
    "gather it: with torch.distributed.checkpoint, `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE`; "
    "with FSDP, save the full state_dict (StateDictType.FULL_STATE_DICT, or get_model_state_dict with full_state_dict=True)"
)


class State(NamedTuple):
    """Described tensors by name, and how they were found."""

    tensors: dict[str, Described]
    notes: tuple[str, ...]


def find_state(content: Any, where: str) -> State:
    """Find the weights in the contents of a file.

    Raises:
        CheckpointError: there are none, or several and nothing says which; or they are shards, or not plain tensors.
    """
    check_entries(content, where)
    notes: list[str] = []
    beside: dict[str, Described] = {}
    for _ in range(DEEPEST):
        if isinstance(content, Inert) and is_module(content):
            notes.append(f"took the tensors of a pickled {content.kind.replace(' ', '.')}; its code was not run")
            content = read_module_state(content)
        inner = find_holders(content)
        if not isinstance(content, Mapping) or (
            is_state(content) and not any(count_tensors(one) > count_tensors(content) for one in inner.values())
        ):
            break
        key = choose_key(inner, where)
        if key is None:
            break
        others = ", ".join(str(name)[:40] for name in list(content)[:6])
        notes.append(f"took {key!r} of the file's {others}{' ...' if len(content) > 6 else ''}")
        heads = dict(list_heads({name: value for name, value in content.items() if str(name) != key}))
        notes += [f"took the head that lies beside it: {', '.join(list(heads)[:4])}"] if heads else []
        beside |= heads
        if averages := [path for path in list_averages(content) if key not in path.split(".")]:
            notes.append(f"left an average of the weights in the file: {', '.join(averages[:3])}")
        content = inner[key]
    if not isinstance(content, Mapping) or not is_state(content):
        raise CheckpointError(f"{where} holds no state_dict: no mapping of names to tensors was found in it")
    tensors = {str(name): one for name, one in content.items() if isinstance(one, Described)}
    rest = {str(name): one for name, one in content.items() if not isinstance(one, Described)}
    check_whole(tensors, rest, where)
    tensors |= {f"outside {name}" if name in tensors else name: one for name, one in beside.items()}
    if rest:
        notes.append(f"left {len(rest)} entries that are no tensors: {', '.join(list(rest)[:6])}")
    return State(tensors, tuple(notes))


def check_entries(content: Any, where: str) -> None:
    """Raise CheckpointError for mappings that can't be looked through: a pickle of a few bytes names one mapping a million times."""
    waiting, seen = [(content, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        if not isinstance(node, Mapping) or depth > 2 * DEEPEST:
            continue
        seen += len(node)
        if seen > MOST_ENTRIES:
            raise CheckpointError(
                f"{where} holds more than {MOST_ENTRIES:,} entries in mappings inside each other; save the state_dict alone"
            )
        waiting += [(inner, depth + 1) for inner in node.values()]


def list_heads(others: Mapping[Any, Any]) -> Iterator[tuple[str, Described]]:
    """Yield the tensors of heads that lie beside what was taken, by their names in the whole model."""
    for key, value in others.items():
        if not isinstance(key, str) or HEAD.fullmatch(key) is None:
            continue
        if isinstance(value, Inert) and is_module(value):
            value = read_module_state(value)
        inside = value.items() if isinstance(value, Mapping) else ()
        named = [(f"{key}.{name}", one) for name, one in inside] or [(key, value)]
        yield from ((name, one) for name, one in named if isinstance(one, Described))


def list_averages(content: Any, path: str = "", deepest: int = DEEPEST) -> Iterator[str]:
    """Yield where moving averages lie in what a file holds, whole ones by their names or lists of tensors."""
    for key, value in content.items() if isinstance(content, Mapping) and deepest else ():
        here = f"{path}.{key}" if path else str(key)
        if str(key).startswith(NOT_WEIGHTS[:4]):  # callbacks may keep an average
            continue
        inside = list(value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ())
        if AVERAGE.search(here) and 2 * sum(isinstance(one, Described) for one in inside) > len(inside):
            yield here
        else:
            yield from list_averages(value, here, deepest - 1)


def find_holders(content: Any) -> dict[str, Any]:
    """Return the entries that hold weights, directly or deeper, by their keys."""
    if not isinstance(content, Mapping):
        return {}
    return {str(key): value for key, value in content.items() if holds_state(value, str(key), DEEPEST)}


def holds_state(value: Any, key: str, deepest: int) -> bool:
    """Tell whether something is a mapping of names to tensors or a module, or holds one, so many mappings deep at most."""
    if isinstance(value, Inert):
        return is_module(value)
    if not isinstance(value, Mapping) or not value or key.startswith(NOT_WEIGHTS) or not deepest:
        return False
    return is_state(value) or any(holds_state(inner, str(name), deepest - 1) for name, inner in value.items())


def choose_key(inner: Mapping[str, Any], where: str) -> str | None:
    """Return the key of the weights: the first usual one, else the only one; raises CheckpointError for several."""
    usual = next((key for key in WRAPPERS if key in inner), None)
    if usual is not None or not inner:
        return usual
    whole = [key for key, value in inner.items() if isinstance(value, Inert) or count_all(value) >= FEWEST]
    if len(inner) > 1 and len(whole) == 1:
        return whole[0]
    if len(inner) > 1:
        raise CheckpointError(
            f"{where} holds several state_dicts ({', '.join(list(inner)[:4])}), and nothing says which is meant; save the one that "
            "is"
        )
    return next(iter(inner))


def count_tensors(content: Any) -> int:
    """Count the tensors directly in a mapping; those of a module count by their modules."""
    values = (list_attributes(content) or {}).values()
    return sum(isinstance(value, (Described, Inert)) for value in values)


def count_all(content: Any, deepest: int = DEEPEST) -> int:
    """Count the tensors in a mapping and those below it."""
    if not isinstance(content, Mapping):
        return int(isinstance(content, Described))
    return sum(count_all(value, deepest - 1) for value in content.values()) if deepest >= 0 else 0


def is_state(content: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is one of names to tensors: half of its entries are."""
    tensors = sum(isinstance(value, Described) or is_strange(value) for value in content.values())
    return tensors > 0 and 2 * tensors >= len(content) and isinstance(next(iter(content)), str)


def is_strange(value: Any) -> bool:
    """Return whether something represents a tensor that isn't a plain one."""
    return isinstance(value, Inert) and (explain_strange(value) != "" or any(word in value.kind for word in SHARDS))


def explain_strange(value: Inert) -> str:
    """Describe a tensor that isn't a plain one; empty for anything else."""
    if "_rebuild" not in value.kind and "multiarray _reconstruct" not in value.kind:
        return ""
    return next((said for word, said in STRANGE.items() if word in value.kind), "of a kind that vitreous can't read")


def check_whole(tensors: Mapping[str, Described], rest: Mapping[str, Any], where: str) -> None:
    """Refuse weights that are partly elsewhere, or aren't plain tensors; raises CheckpointError."""
    for name, value in rest.items():
        if isinstance(value, Inert) and any(word in format_class(value) for word in SHARDS):
            raise CheckpointError(
                f"{where} holds one shard of a model that was saved in pieces ({name[:80]} is a part); {GATHER}"
            )
        if isinstance(value, Inert) and explain_strange(value):
            raise CheckpointError(f"{where}: {name[:80]} is {explain_strange(value)}")
    if any(name.rpartition(".")[2] in ("_flat_param", "flat_param") for name in tensors):
        raise CheckpointError(f"{where} holds FSDP's flattened parameters, one shard of them; {GATHER}")
    if len(tensors) > 1 and all(0 in one.shape for one in tensors.values()):
        raise CheckpointError(
            f"{where} holds names without values, as DeepSpeed's ZeRO-3 leaves them; put the weights together with its "
            "zero_to_fp32.py"
        )


def format_class(value: Inert) -> str:
    """Return the names of classes in a call, as words."""
    arguments = value.arguments if isinstance(value.arguments, tuple) else ()
    return " ".join([value.kind, *(str(one) for one in arguments if isinstance(one, str))])


def is_module(value: Inert) -> bool:
    """Return whether an object is a whole pickled module of torch's."""
    return all(isinstance((list_attributes(value) or {}).get(key), Mapping) for key in MODULE)


def read_module_state(module: Inert) -> dict[str, Described]:
    """Return the tensors of a pickled module under the names of its state_dict.

    Raises:
        CheckpointError: modules nested without end.
    """
    found: dict[str, Described] = {}
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, one = waiting.pop()
        inside = list_attributes(one) or {}
        seen += 1
        if seen > 50_000 or len(prefix) > 2_000:
            raise CheckpointError("its modules are nested without end")
        left_out = inside.get("_non_persistent_buffers_set") or ()
        held = [
            *inside["_parameters"].items(),
            *(pair for pair in inside["_buffers"].items() if pair[0] not in left_out),
        ]
        found |= {f"{prefix}{name}": tensor for name, tensor in held if isinstance(tensor, Described)}
        below = [(f"{prefix}{name}.", inner) for name, inner in inside["_modules"].items()]
        waiting += [(path, inner) for path, inner in below if isinstance(inner, Inert) and is_module(inner)]
    return found
