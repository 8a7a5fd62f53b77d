"""Weights by their name on the Hugging Face Hub: downloaded once, from the cache afterwards, offline too."""

import re
from pathlib import Path

from vitreous.errors import CheckpointError
from vitreous.storage.presence import path_exists
from vitreous.weights.recommended import find_repository

PATTERNS = ("*.json", "model*.safetensors", "open_clip_model.safetensors", "*.npz")
"""What is downloaded first; a pickled file only where there is nothing else."""
PICKLED = ("pytorch_model*.bin", "open_clip_pytorch_model.bin")
NAME = re.compile(r"(hf-hub:|hf:)?(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


def is_repository(text: str) -> bool:
    """Tell whether a text could name a repository, such as "timm/vit_base_patch16_224.augreg_in21k".

    A path below a folder that is here, such as runs/demo, is a path that was mistyped.
    """
    if find_repository(text) is not None:
        return not path_exists(text)
    return NAME.fullmatch(text) is not None and not path_exists(text) and not path_exists(text.split("/")[0])


def download(text: str) -> Path:
    """Return the folder of a repository's files, in the Hub's own cache.

    Args:
        text: owner/name, with @revision if a certain one is wanted.

    Raises:
        CheckpointError: no such repository, or neither network nor cache have it.
    """
    match = NAME.fullmatch(find_repository(text) or text)
    if match is None:
        raise CheckpointError(f"{text!r} names no repository on the Hub; it is owner/name, or owner/name@revision")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, revision = match["repo"], match["revision"]
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=list(PATTERNS)))
        if not any(file.suffix in (".safetensors", ".npz") for file in folder.iterdir()):
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=["*.json", *PICKLED]))
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"there is no {text!r} here, and no public repository of that name on the Hub") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"the Hub's {repo} has no revision {revision!r}") from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"there is no {text!r} here, and the Hub can't be reached for it (nor is it in the cache); check the path, "
            "or the network"
        ) from error
    except HFValidationError as error:
        raise CheckpointError(f"there is no {text!r} here, and nothing on the Hub can be called so") from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{text!r} could not be fetched from the Hub: {str(error).splitlines()[0]}") from error
    return folder
