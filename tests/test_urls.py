"""A URL where a path is needed is called one, wherever the path goes."""

from pathlib import Path

import pytest

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.errors import UserError
from vitreous.image_paths import expand_paths
from vitreous.run_folder import Run
from vitreous.storage.atomic import check_name
from vitreous.storage.presence import explain_url
from vitreous.weights.loading import open_model

TOLD = {
    "https://a.org/cats.zip": "https://a.org/cats.zip is a URL, but a file or folder on this machine is needed; download it",
    "s3://bucket/cats": "s3://bucket/cats is a URL",
    "GS://bucket/cats": "gs://bucket/cats is a URL",
    "hf://owner/name": "a model on the Hub is named owner/name",
    "https://huggingface.co/owner/name": "a model on the Hub is named owner/name",
    "https://huggingface.co/owner/name/resolve/main/model.safetensors": "is a URL, but a file",
    "file:///data/cats": "give the path itself: /data/cats",
    "ftp://a.org/cats": "ftp://a.org/cats is a URL",
}


@pytest.mark.parametrize("text", TOLD)
def test_what_is_a_url_and_what_to_give_instead(text):
    assert TOLD[text] in str(explain_url(text))
    if not text.startswith("ftp"):
        assert TOLD[text] in str(explain_url(Path(text)))


@pytest.mark.parametrize(
    "text", ["cats", "./https", "C:/cats", "formula:atoms?classes=3", "a:b", "/s3/cats", "owner/name", ""]
)
def test_what_is_none(text):
    assert explain_url(text) is None


def test_a_folder_of_that_name_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert explain_url("s3://bucket") is None


@pytest.mark.parametrize(
    "use",
    [
        open_model,
        open_source,
        lambda text: open_dataset(DataConfig(text)),
        lambda text: list(expand_paths([text])),
        lambda text: check_name(Path(text)),
        lambda text: Run.create(text, {}),
    ],
)
def test_everything_that_takes_a_path_says_so(tmp_path, monkeypatch, use):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"https://a\.org/x\.zip is a URL"):
        use("https://a.org/x.zip")
    assert list(tmp_path.iterdir()) == []
