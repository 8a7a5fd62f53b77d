"""Resolve weights given by a word (auto, the starter weights in this package, or a name on the Hub) to a pinned name.

auto is the recommended model (`recommended.AUTO`): from the Hub's cache, else from the Hub, else, if it is unavailable,
the starter weights in this package. The choice is reported, and the result of `resolve_weights` always means the same
weights.
"""

import re
from pathlib import Path

from vitreous.errors import CheckpointError, DownloadFailed, UserError
from vitreous.storage.limits import format_bytes, read_json
from vitreous.storage.presence import explain_absence, explain_url, find_similar, is_link, path_exists
from vitreous.weights.hub import Snapshot, fetch, is_repository
from vitreous.weights.hub_requests import Listener, Unheard, Unreachable
from vitreous.weights.recommended import AUTO, find_recommended, suggest_recommended

AUTO_WORD = "auto"
STARTER = Path(__file__).with_name("starter")
"""The model folder in this package."""
STARTER_LICENCE = "apache-2.0"
"""Of that folder, as its README.md says."""
STARTER_NAME = re.compile(r"starter(@(?P<digest>[0-9a-f]{12}))?")


def is_named(text: str) -> bool:
    """Return whether a text names weights by a word or on the Hub. An existing file or folder takes precedence,
    except over auto, for which ./auto works."""
    if text == AUTO_WORD:
        return True
    return (STARTER_NAME.fullmatch(text) is not None and not path_exists(text)) or is_repository(text)


def refuse_absent(path: str) -> None:
    """Raise CheckpointError for a path at which nothing lies."""
    if told := explain_url(path):
        raise CheckpointError(told)
    if is_link(Path(path)) and not path_exists(Path(path)):
        raise CheckpointError(explain_absence(Path(path)))
    if not path_exists(Path(path)):
        near = find_similar(Path(path)) if Path(path).name else None
        advice = suggest_recommended(path) or ("" if near is None else f"; did you mean {near}?")
        raise CheckpointError(f"no such model folder, run folder or file of weights: {path}{advice}")


def find_licence(name: str) -> str:
    """Return the licence of weights by its SPDX name, where it is known without a network; empty where it isn't."""
    if STARTER_NAME.fullmatch(name):
        return STARTER_LICENCE
    known = find_recommended(name)
    return known.licence if known else ""


def resolve_weights(name: str, listener: Listener | None = None) -> str:
    """Return a name that always means the same weights: owner/name@commit, starter@digest, or a path as it is.

    Downloads are kept in the cache, so that the name can be opened without a network.

    Args:
        name: auto, a short name, timm's, the Hub's, starter, or a path.
        listener: receives messages and progress; None: nobody.

    Raises:
        UserError, FailedError: as `hub.fetch` and `choose_weights` raise.
    """
    if name == AUTO_WORD:
        return choose_weights(listener)
    if not is_named(name):
        return name
    if STARTER_NAME.fullmatch(name):
        locate_starter(name)
        return f"starter@{read_digest()}"
    return fetch_named(name, listener).pinned_name


def choose_weights(listener: Listener | None = None) -> str:
    """Return the weights for auto, pinned: the recommended model, or if unavailable the starter weights; reports which.

    Raises:
        UserError: both are unavailable; says what to do.
    """
    listener = listener or Unheard()
    try:
        found = fetch(AUTO.repository, listener, prefer_cache=True)
    except (CheckpointError, DownloadFailed) as error:
        if not path_exists(STARTER):
            raise UserError(
                f"auto finds no weights: {error}; nor are there starter weights in this package. Give --weights a file or folder of your "
                "own, or train from scratch (--recipe small)"
            ) from error
        why = "the Hub can't be reached for larger ones" if isinstance(error, Unreachable) else str(error)
        listener.message(
            f"weights auto: the starter weights in this package, a small ResNet, since {why} (docs/pretrained.md)"
        )
        return f"starter@{read_digest()}"
    size = format_bytes(AUTO.bytes)
    listener.message(f"weights auto: {AUTO.name}, {found.pinned_name} ({size}, licence {AUTO.licence})")
    return found.pinned_name


def locate_weights(name: str, listener: Listener | None = None) -> Path:
    """Return the folder of weights that `is_named`; see `resolve_weights` for the rest."""
    name = choose_weights(listener) if name == AUTO_WORD else name
    return locate_starter(name) if STARTER_NAME.fullmatch(name) else fetch_named(name, listener).folder


def fetch_named(name: str, listener: Listener | None) -> Snapshot:
    """Fetch a repository: by a short name or timm's from the cache if it is there; by the Hub's name the newest."""
    return fetch(name, listener, prefer_cache="/" not in name.partition("@")[0])


def find_image(name: str) -> tuple[int, int] | None:
    """Return the rows and columns that suffice for the features of a recommended model; None for all other weights."""
    known = find_recommended(name)
    return (known.image, known.image) if known else None


def locate_starter(name: str) -> Path:
    """Return the folder of the starter weights; raises UserError if they are missing, or not the named ones."""
    match = STARTER_NAME.fullmatch(name)
    if not path_exists(STARTER):
        raise UserError(
            f"this package has no starter weights ({STARTER} is missing); give --weights a model of your own"
        )
    if match and match["digest"] and match["digest"] != read_digest():
        raise CheckpointError(
            f"{name} were the starter weights of another version of vitreous; those of this one are starter@{read_digest()}"
        )
    return STARTER


def read_digest() -> str:
    """Return the first 12 digits of the starter weights' SHA-256, from their config.json."""
    return str(read_json(STARTER / "config.json")["weights"]["sha256"])[:12]
