"""Upload a model to the Hub: one commit of its folder and its card, into a repository that isn't used for anything
else."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vitreous.errors import CheckpointError, VitreousError
from vitreous.weights.hub import COMMIT, parse_name
from vitreous.weights.hub_requests import (
    TOKEN,
    Listener,
    Missing,
    Unheard,
    Unreachable,
    ask_hub,
    choose_files,
    endpoint,
    translate_errors,
)
from vitreous.weights.model_card import remove_places
from vitreous.weights.model_folder import ModelFolder, save_model


@dataclass(frozen=True)
class Uploaded:
    """The result of a commit."""

    url: str
    commit: str
    """40 hexadecimal digits."""


def upload(
    folder: ModelFolder,
    repository: str,
    card: str,
    *,
    private: bool = False,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> Uploaded:
    """Write a model folder and its card to a repository, creating it if necessary, without paths of this machine.

    Args:
        folder: the model.
        repository: owner/name.
        card: the text of README.md.
        private: make a new repository a private one.
        overwrite: write into a repository that already holds weights; its history keeps them.
        listener: receives messages; None: nobody.

    Raises:
        CheckpointError: no such name, no token or a read-only one, or weights are already there. DownloadFailed: the
            Hub fails.
    """
    listener, parsed = listener or Unheard(), parse_name(repository)
    if parsed is None or parsed[0] != repository:
        raise CheckpointError(f"can't push to {repository!r}; give owner/name")
    check_free(repository, overwrite)
    with TemporaryDirectory() as place:
        path = Path(place) / "model"
        save_model(path, replace(folder, origin=remove_places(folder.origin)))
        size = sum(file.stat().st_size for file in path.iterdir())
        listener.message(f"uploading {repository} to {endpoint()}: {size / 1e6:,.1f} MB")
        listener.phase(f"uploading {repository}")
        with translate_errors(repository):
            return commit(repository, path, card, private)


def check_free(repository: str, overwrite: bool) -> None:
    """Refuse what can't be pushed before anything is written; raises CheckpointError or DownloadFailed."""
    from huggingface_hub import get_token

    if not get_token():
        raise CheckpointError(f"to push to {repository}, give a token that may write: {TOKEN}")
    try:
        found = ask_hub(repository, None)
    except Missing:
        return
    except Unreachable as error:
        raise CheckpointError(f"{repository} can't be pushed: {describe_cause(error)}") from error
    if choose_files(list(found.files)) and not overwrite:
        raise CheckpointError(
            f"{repository} on the Hub already holds weights; choose another name, or add --overwrite (its history "
            "keeps them)"
        )


def describe_cause(error: VitreousError) -> str:
    """Explain why the Hub can't be reached, without mentioning a download."""
    cause = str(error.__cause__ or error).splitlines()
    return f"the Hub can't be reached at {endpoint()} ({(cause or [''])[0][:100]}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE"


def commit(repository: str, path: Path, card: str, private: bool) -> Uploaded:
    """Create the repository if necessary, and commit the files and the card at once."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    files: Mapping[str, str | bytes] = {"README.md": card.encode()} | {file.name: str(file) for file in path.iterdir()}
    added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in sorted(files.items())]
    made = api.create_commit(repository, added, commit_message="Add a model of vitreous")
    assert COMMIT.fullmatch(made.oid), made.oid
    return Uploaded(f"{endpoint()}/{repository}", made.oid)
