"""Frames of videos: the right ones by their right names, upright, a few at a time; and what breaks a video stops nothing else."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import encoded, picture
from tests.support.videos import pixels, turn, video

import vitreous
from vitreous.errors import ConfigError
from vitreous.images import video as module
from vitreous.images.video import find_frame_file, frames


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (1, {"0.0": 0, "1.0": 10, "2.0": 20, "3.0": 30, "4.0": 40}),
        (1.5, {"0.0": 0, "1.5": 15, "3.0": 30, "4.5": 45}),
        (0.25, {f"{number / 4:.2f}": -(-number * 10 // 4) for number in range(20)}),
        (0.01, {f"{number / 10:.2f}": number for number in range(50)}),
        (60, {"0.0": 0}),
    ],
)
def test_the_frames_that_are_due(every, expected, tmp_path):
    path = video(tmp_path / "clip.mkv")
    found = list(frames(path, every))
    assert [frame.name for frame in found] == [f"{path}@{name}s" for name in expected]
    for frame, number in zip(found, expected.values(), strict=True):
        np.testing.assert_array_equal(frame.pixels, pixels(number))


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "mpg", "mts", "wmv"])
@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_containers(ending, codec, tmp_path):
    path = video(tmp_path / f"clip.{ending.upper()}", codec=codec) if ending != "mts" else tmp_path / "clip.mts"
    if ending == "mts":
        video(tmp_path / "clip.ts", codec=codec).rename(path)
    found = list(frames(path, 2))
    assert [frame.name.rpartition("@")[2] for frame in found] == ["0.0s", "2.0s", "4.0s"], found[-1].error
    for frame, number in zip(found, (0, 20, 40), strict=True):
        np.testing.assert_allclose(frame.pixels[-8:].mean(), 5 * number, atol=6)


TURNS = {  # the display matrix, and what it makes of a picture, by the definition x' = ax + cy, y' = bx + dy
    "right": ((0, 1, -1, 0), lambda shown: np.rot90(shown, -1)),
    "left": ((0, -1, 1, 0), lambda shown: np.rot90(shown, 1)),
    "over": ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2)),
}


@pytest.mark.parametrize("kind", TURNS)
def test_frames_stand_upright_as_a_phone_says(kind, tmp_path):
    matrix, expected = TURNS[kind]
    path = video(tmp_path / "clip.mp4", codec="libx264")
    turn(path, matrix)
    (frame, *_) = frames(path)
    wanted = expected(pixels(0))
    assert frame.pixels.shape == wanted.shape
    np.testing.assert_allclose(frame.pixels.astype(int), wanted.astype(int), atol=60)


def test_a_video_is_never_whole_in_memory(tmp_path, monkeypatch):
    """Only frames that are due become pixels, and each only when it is taken."""
    path = video(tmp_path / "clip.mkv", frames=300)
    made = []
    monkeypatch.setattr(
        module._Walk, "_pixels", lambda self, frame: made.append(frame.time) or np.zeros((4, 4, 3), np.uint8)
    )
    walk = frames(path, 5)
    next(walk)
    assert made == [0]
    next(walk)
    assert made == [0, 5]
    walk.close()


def damaged(path):
    """Overwrite packets in the middle."""
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(200, len(data) - 1500, 60):
        data[place] ^= 0xFF
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "cut.mkv": (cut, "is not whole: it ends after 1.8 of 5.0 seconds", True),
    "cut.mp4": (cut, "can't be read as a video: Invalid data", False),
    "damaged.mp4": (damaged, "pieces are damaged, the first after ", True),
    "text.mp4": (lambda path: path.write_text("no video"), "can't be read as a video", False),
    "empty.mp4": (lambda path: path.write_bytes(b""), "can't be read as a video", False),
    "picture.mp4": (lambda path: path.write_bytes(encoded(picture(0))), "can't be read as a video", False),
    "gone.mp4": (lambda path: path.unlink(), "no such file", False),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_can_be_read_of_a_broken_video_is(name, tmp_path):
    break_it, words, some = BROKEN[name]
    path = video(tmp_path / name, codec="mpeg4")
    break_it(path)
    *whole, last = frames(path)
    assert bool(whole) == some and all(frame.error is None for frame in whole)
    assert last.pixels is None and last.name == str(path) and words in last.error and "\n" not in last.error
    if some:
        assert f"{len(whole)} frames were read" in last.error
        np.testing.assert_allclose(whole[0].pixels[-8:].mean(), 0, atol=6)


def test_other_files_are_never_opened_through_a_video(tmp_path):
    secret = video(tmp_path / "secret.ts", codec="mpeg4")
    for name, text in {
        "concat.mp4": f"ffconcat version 1.0\nfile {secret}\n",
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:5,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "net.mkv": "#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    }.items():
        (tmp_path / name).write_text(text)
        (only,) = frames(tmp_path / name)
        assert "can't be read as a video" in only.error
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "not a regular file" in next(frames(tmp_path / "pipe.mp4")).error


def test_limits_hold_before_the_work(tmp_path, monkeypatch):
    path = video(tmp_path / "clip.mkv", codec="mpeg4")
    (only,) = frames(path, max_pixels=3071)
    assert "has frames of 64 x 48 pixels, more than the limit of 3,071" in only.error
    assert len(list(frames(path, max_pixels=3072))) == 5
    monkeypatch.setattr(module, "MOST_FRAMES", 4)
    (only,) = frames(path)
    assert "lasts 5 seconds, of which more than 4 frames would be taken; take fewer by a larger --every" in only.error
    monkeypatch.setattr(module, "MOST_SECONDS", 3)
    (only,) = frames(path)
    assert "lasts 5 seconds, more than the limit of 3" in only.error
    for every in (0, -1, float("nan"), float("inf"), 1e-9):
        with pytest.raises(ConfigError, match="every is"):
            frames(path, every)


def test_a_length_that_lies_does_not_lift_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_length", lambda stream: None)
    monkeypatch.setattr(module, "MOST_FRAMES", 3)
    *whole, last = frames(video(tmp_path / "clip.mkv"))
    assert len(whole) == 3 and "has more than 3 frames to take" in last.error


def test_names():
    assert find_frame_file("a b/clip.MP4@12.50s") == (Path("a b/clip.MP4"), 12.5)
    assert find_frame_file("clip.mp4") is find_frame_file("photo.jpg@1.0s") is find_frame_file("@1.0s") is None


def test_from_python(trained_model, tmp_path, monkeypatch):
    path, model = video(tmp_path / "clip.mkv"), trained_model
    shown = [pixels(number) for number in (0, 20, 40)]
    expected = [one.score for one in model(shown)]
    found = model([path, shown[1]], every=2)
    assert [one.name for one in found] == [f"{path}@{name}s" for name in ("0.0", "2.0", "4.0")] + ["image 2"]
    np.testing.assert_allclose([one.score for one in found], [*expected, expected[1]], rtol=1e-5)
    assert list(model.table([path], every=2)["name"]) == [one.name for one in found[:3]]
    np.testing.assert_allclose(
        model.features(vitreous.frames(path, every=2)), model.features(shown), rtol=1e-4, atol=1e-5
    )
    assert model(next(vitreous.frames(path))).name == f"{path}@0.0s"
    assert "is a video, but an image is needed" in model(path).error
    still = tmp_path / "still.mp4"
    Image.fromarray(shown[1]).save(still, "PNG")
    assert model(still).score == model(shown[1]).score
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    (only,) = model([path])
    assert only.error == f"{path} is a video, and reading videos needs PyAV: pip install 'vitreous[video]'"


@pytest.fixture(scope="module")
def trained_model():
    from vitreous.images.config import DecodeConfig, PreprocessConfig
    from vitreous.predictor import Predictor
    from vitreous.weights.model_folder import ModelFolder

    model = vitreous.create("mu/8", image=(16, 16), classes=3)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    return Predictor(ModelFolder(model, PreprocessConfig((16, 16)), DecodeConfig(), ("a", "b", "c")), "cpu", top=2)


def compressed(path: Path, seconds: int, **options: str) -> Path:
    """Write H.264 of 10 frames a second, of which frame n is noise drawn by n."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"sc_threshold": "0", **options})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(10 * seconds):
            noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(noise.repeat(8, 0).repeat(8, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def without_seeking(path, every, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module._Walk, "_is_far", lambda walk, due: False)
        return list(frames(path, every))


def decoded_frames(path, every, monkeypatch):
    """Return the frames, and how many were decoded for them."""
    count, original = 0, module._Walk._note_key

    def note(walk, *given):
        nonlocal count
        count += 1
        return original(walk, *given)

    with monkeypatch.context() as patch:
        patch.setattr(module._Walk, "_note_key", note)
        return list(frames(path, every)), count


CODINGS = {
    "closed": {"g": "10", "bf": "3"},
    "open": {"g": "12", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"},
    "intra refresh": {"g": "15", "bf": "0", "x264-params": "intra-refresh=1"},
}


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("coding", CODINGS)
def test_frames_far_apart_are_sought_and_are_the_same(coding, ending, tmp_path, monkeypatch):
    path = compressed(tmp_path / f"clip.{ending}", 40, **CODINGS[coding])
    path = path.rename(path.with_suffix(".mts")) if ending == "ts" else path
    for every in (0.5, 7.0, 13.3):
        expected = without_seeking(path, every, monkeypatch)
        found, decoded = decoded_frames(path, every, monkeypatch)
        assert [(one.name, one.seconds, one.error) for one in found] == [
            (one.name, one.seconds, one.error) for one in expected
        ]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)
        if coding != "intra refresh" and ending != "ts" and every > 1:
            assert decoded < 300  # of 400


def test_a_jump_past_the_frame_is_made_good(tmp_path, monkeypatch):
    path = compressed(tmp_path / "clip.mkv", 40, **CODINGS["closed"])
    expected = without_seeking(path, 13.3, monkeypatch)
    original = module._Walk.seek
    monkeypatch.setattr(module._Walk, "seek", lambda walk, container, seconds: original(walk, container, seconds + 9))
    found = list(frames(path, 13.3))
    assert [one.seconds for one in found] == [one.seconds for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("every", [0.0666, 1 / 15, 0.0334])
def test_a_frame_is_found_again_by_its_name(every, tmp_path):
    for frame in list(frames(video(tmp_path / "clip.mkv", 20, rate=30), every))[:4]:
        written = module.write_frame(frame.name, tmp_path)
        np.testing.assert_array_equal(np.asarray(Image.open(written)), frame.pixels)
