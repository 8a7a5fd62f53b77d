import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from tests.support.image_bombs import saved

from vitreous.errors import ImageError
from vitreous.images import formats, pillow
from vitreous.images.decode import decode


@pytest.fixture
def extra(monkeypatch):
    """Pretend that the extra is installed, or not."""

    def there(yes):
        monkeypatch.setattr(formats, "is_extra_installed", lambda name: yes)
        formats.list_suffixes.cache_clear()

    yield there
    formats.list_suffixes.cache_clear()


def test_heic_is_read_with_the_extra_and_named_without(extra):
    extra(False)
    assert formats.suggest_remedy(".HEIC") == "install vitreous[formats]"
    assert "HEIF" not in formats.list_formats()
    assert ".heic" not in formats.list_suffixes()
    extra(True)
    assert formats.suggest_remedy(".HEIC") == ""
    assert "HEIF" in formats.list_formats()


def test_every_ending_is_read_or_has_a_remedy_or_is_no_images():
    assert {formats.suggest_remedy(ending) for endings in formats.READ.values() for ending in endings} == {""}
    assert set(formats.UNREAD).isdisjoint(
        ending for endings in (formats.READ | formats.EXTRA).values() for ending in endings
    )
    assert "PNG" in (formats.suggest_remedy(".PSD") or "")
    assert [formats.suggest_remedy(ending) for ending in ("", ".txt", ".csv", ".db")] == [None] * 4


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\3\4" + bytes(30), "holiday.jpg is a ZIP archive; unpack it first"),
        (b"\n<!DOCTYPE html><HTML><title>404</title>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "run `git lfs pull`"),
        (b"a/1.jpg".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0"), "is a tar archive"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, told: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data, name="holiday.jpg")
    assert told in str(caught.value)


def test_decoding_in_threads_leaves_the_warnings_alone(monkeypatch):
    opened, before = pillow.open_unguarded, list(warnings.filters)

    def open_slowly(data, kind):
        time.sleep(0.02)
        return opened(data, kind)

    monkeypatch.setattr(pillow, "open_unguarded", open_slowly)
    data = saved(Image.new("L", (4, 4)), "PNG")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(decode, data)
        time.sleep(0.01)
        assert (pool.submit(decode, data).result() == first.result()).all()
    assert list(warnings.filters) == before
