"""Small image files that claim much: one clear line before any work is done, wherever an image is read."""

import numpy as np
import pytest
from PIL import Image
from tests.fuzz.worker import attempt
from tests.support.image_bombs import READ, REFUSED, png, saved, small_png

from vitreous.api.inspection import inspect_image as describe_image
from vitreous.data.listing.listing import Listing, Row
from vitreous.data.listing.scan import look_at
from vitreous.errors import ImageError
from vitreous.images.augment import augment
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.images.containers.survey import FRAMES
from vitreous.images.decode import decode, probe
from vitreous.images.preprocess import preprocess_image

OTHERS = {
    "PSD": (b"8BPS\0\1", "Photoshop"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "PostScript"),
    "EPS for DOS": (b"\xc5\xd0\xd3\xc6" + bytes(28), "PostScript"),
    "PDF": (b"%PDF-1.7\n", "PDF"),
    "ICO": (b"\0\0\1\0\1\0" + bytes(16), "ICO"),
    "ICNS": (b"icns\0\0\1\0", "ICNS"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "JPEG XL": (b"\xff\x0a\0\0", "JPEG XL"),
    "DDS": (b"DDS |\0\0\0", "DDS"),
    "WMF": (b"\xd7\xcd\xc6\x9a\0\0", "WMF"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "DICOM": (bytes(128) + b"DICM", "DICOM"),
    "FLI": (b"\x20\0\0\0\x11\xaf\1\0" + bytes(120), "known format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_each_is_one_clear_line(name):
    suffix, data = REFUSED[name]()
    for action in (probe, decode):
        with pytest.raises(ImageError) as caught:
            action(data, name=f"holiday{suffix}")
        assert str(caught.value).startswith("holiday")
        assert "\n" not in str(caught.value)
        assert " at 0x" not in str(caught.value)
        assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", READ)
def test_what_hangs_on_an_image_is_not_unpacked(name):
    _, data = READ[name]()
    assert probe(data).frames <= FRAMES
    assert decode(data).ndim == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", [*REFUSED, *READ])
def test_none_takes_a_second_or_much_memory(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tests.fuzz.worker.MEMORY", 64 * 2**20)
    suffix, data = (REFUSED | READ)[name]()
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(data)
    answer = attempt(lambda path: decode(path.read_bytes(), name=path.name), path)
    assert (answer.verdict, answer.cpu < 1) == ("refused" if name in REFUSED else "passed", True)


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_reach_no_reader(kind, monkeypatch):
    data, words = OTHERS[kind]
    monkeypatch.setattr("PIL.Image.open", lambda *given, **more: pytest.fail("a reader was called"))
    monkeypatch.setattr("subprocess.Popen", lambda *given, **more: pytest.fail("a process was started"))
    with pytest.raises(ImageError, match=words):
        decode(data, name="holiday.jpg")


def test_heif_without_the_extra_says_what_to_install(monkeypatch):
    data = saved_heif()
    monkeypatch.setattr("vitreous.images.decode.is_extra_installed", lambda name: False)
    with pytest.raises(ImageError, match=r"IMG.HEIC is HEIF: install vitreous\[formats\]"):
        decode(data, name="IMG.HEIC")


def saved_heif():
    return b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100)


def test_every_command_reads_images_by_the_same_limits(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(9400, 9400, 8, 6))
    for reads in (
        describe_image,
        lambda path: augment(
            path.read_bytes(), AugmentConfig(), PreprocessConfig(), DecodeConfig(), np.random.default_rng(0), "bomb.png"
        ),
        lambda path: preprocess_image(path.read_bytes(), DecodeConfig(), PreprocessConfig(), "bomb.png"),
    ):
        with pytest.raises(ImageError, match=r"bomb.png claims .*--decode\.max-expansion") as caught:
            reads(path)
        assert caught.value.exit_code == 2
    assert (
        "--decode.max-expansion"
        in look_at(Listing(tmp_path), Row("bomb.png", "a", 1, 1), DecodeConfig(), "header").error
    )


def test_inspect_says_which_values_there_are(tmp_path):
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16
    for name, image, words in (
        (
            "12-bits.png",
            deep,
            "0 to 4080 of 0 to 65535, so the brightest becomes 16 of 255; if white is 4095: --decode.levels 0 4095",
        ),
        (
            "wide.tif",
            deep.astype(np.int32) // 16,
            "the brightest becomes 1 of 255; if white is 255: --decode.levels 0 255",
        ),
        (
            "floats.tif",
            deep.astype(np.float32) / 4080,
            "0 to 1 in floating point, for which black and white have to be given",
        ),
        ("whole.png", deep * 16, "0 to 65280 of 0 to 65535"),
    ):
        (tmp_path / name).write_bytes(saved(Image.fromarray(image), "TIFF" if name.endswith("tif") else "PNG"))
        assert words in str(describe_image(tmp_path / name))


def test_filled_jpegs_are_counted_by_the_scan(tmp_path):
    whole = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    row = Row("a.jpg", "a", 1, 1)
    for verify in ("full", "header"):
        assert "lacks its last bytes" in look_at(Listing(tmp_path), row, DecodeConfig(), verify).error
        filled = look_at(Listing(tmp_path), row, DecodeConfig(truncated="fill"), verify)
        assert (filled.error, filled.format) == ("", "JPEG without its end, filled with grey")


def test_the_limits_can_be_raised():
    data = small_png(b"")
    assert decode(data).shape == (4, 4, 3)
    with pytest.raises(ImageError, match="take 0 MiB to decode, more than the limit of 0 MiB"):
        decode(data, DecodeConfig(max_memory=100))
    large = png(8000, 8000, 8, 0)
    with pytest.raises(ImageError, match="488 MiB") as caught:
        probe(large, DecodeConfig(max_memory=2**20, max_expansion=2000))
    assert "max-memory" in str(caught.value)
    assert probe(large, DecodeConfig(max_expansion=2000)).size == (8000, 8000)
