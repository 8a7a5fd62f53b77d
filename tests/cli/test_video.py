"""`vitreous predict` of videos: a prediction for each frame, in every format, and frames sorted as images."""

import json

import numpy as np
from PIL import Image
from tests.support.pictures import write
from tests.support.videos import pixels, video

import vitreous as package
from vitreous.images import video as module
from vitreous.predictor import Predictor


def test_predictions_of_a_video_in_every_format(vitreous, trained, here, monkeypatch):
    video(here / "clip.mkv", codec="mpeg4")
    cut = video(here / "cut.mkv", codec="mpeg4")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    write(here / "a.png")
    done = vitreous("predict", trained, "cut.mkv", "a.png", "clip.mkv", "--every", "2", "--format", "jsonl")
    names = [json.loads(line)["name"] for line in done.out.splitlines()]
    assert names == ["cut.mkv@0.0s", "cut.mkv", "a.png", *(f"clip.mkv@{at}.0s" for at in (0, 2, 4))]
    assert done.code == 1 and "cut.mkv is not whole: it ends after" in done.err
    rows = vitreous("predict", trained, "clip.mkv", "--format", "csv").worked().splitlines()
    assert [row.split(",")[0] for row in rows] == ["name", *(f"clip.mkv@{at}.0s" for at in range(5))]
    shown = vitreous("predict", trained, "-", "--every", "2.5", stdin="clip.mkv\n").worked()
    assert [line.split()[0] for line in shown.splitlines()] == ["clip.mkv@0.0s", "clip.mkv@2.5s"]
    done = vitreous("predict", trained, ".")
    assert done.out.split()[0] == "a.png"
    assert done.err == "vitreous: ignored: .mkv 2: not images; name a video itself to classify its frames\n"
    vitreous("predict", trained, "clip.mkv", "--every", "0").refused("every is 0 seconds")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    vitreous("predict", trained, "a.png", "clip.mkv").refused("pip install 'vitreous[video]'")


def test_frames_are_sorted_as_images(vitreous, trained, here, monkeypatch):
    video(here / "clip.mkv")
    monkeypatch.setattr(module, "MOST_FRAMES", 3)  # of those that are wanted, not of those that the video has
    options = ("predict", trained, "clip.mkv", "--every", "2", "--sort-into", "out", "--threshold", "1")
    assert "sorted into out: unknown 3" in vitreous(*options, "--unsure-first").err
    for at in (0, 2, 4):
        with Image.open(here / "out" / "unknown" / f"clip.mkv@{at}.0s.png") as image:
            np.testing.assert_array_equal(np.array(image), pixels(10 * at))
    assert "3 of them were already there" in vitreous(*options).err
    done = vitreous(*options, "--link", "hard")
    assert done.code == 1 and "not a file that can be linked to; leave --link out" in done.err


def test_frames_of_one_video_may_fill_several_parts(vitreous, trained, here, monkeypatch):
    """So one engine computes them all, as for many images."""
    fixed = []
    Image.new("RGB", (9, 9)).save(here / "a.png")
    monkeypatch.setattr(Predictor, "fix_engine", lambda self: fixed.append(self))
    video(here / "clip.mkv", codec="mpeg4")
    vitreous("predict", trained, "a.png", "--out", "image.csv").worked()
    assert not fixed
    vitreous("predict", trained, "clip.mkv", "--out", "video.csv").worked()
    assert len(fixed) == 1


def test_a_video_that_is_read_in_part_is_called_so(vitreous, trained, here):
    cut = video(here / "cut.mkv", codec="mpeg4")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (here / "text.mp4").write_text("no video")
    done = vitreous("predict", trained, "cut.mkv", "text.mp4", "--every", "2")
    assert [line.split("  -  ")[1:] for line in done.out.splitlines()] == [[], ["read in part"], ["unreadable"]]


def test_frames_are_embedded_among_images_in_their_order(vitreous, trained, here, monkeypatch):
    from vitreous.evaluation.probes import frame_features

    video(here / "clip.mkv")
    write(here / "a.png")
    shown = [pixels(number) for number in (0, 20, 40)]
    vitreous("embed", trained, "a.png", "clip.mkv", "a.png", "--every", "2", "--out", "v.npz").worked("5 vectors")
    monkeypatch.setattr(frame_features, "HELD", shown[0].nbytes)  # one frame at a time: the same
    found = package.embed(trained, ["a.png", "clip.mkv", "a.png"], every=2)
    with np.load(here / "v.npz") as written:
        assert list(written["name"]) == ["a.png", *(f"clip.mkv@{at}.0s" for at in (0, 2, 4)), "a.png"]
        np.testing.assert_allclose(written["vector"], found.vectors, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(written["vector"][1:4], package.load(trained).features(shown), rtol=1e-4, atol=1e-5)
    cut = here / "cut.mkv"
    cut.write_bytes((here / "clip.mkv").read_bytes()[: (here / "clip.mkv").stat().st_size // 2])
    vitreous("embed", trained, "cut.mkv", "--out", "w.npz").refused("is not whole", "--broken skip")
    assert not (here / "w.npz").exists()
    some = package.embed(trained, "cut.mkv", broken="skip")
    assert len(some) > 1 and some.skipped[0][0] == "cut.mkv" and "frames were read" in some.skipped[0][1]
    vitreous("embed", trained, "clip.mkv", "--every", "0").refused("every is 0 seconds")
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    vitreous("embed", trained, "clip.mkv").refused("pip install 'vitreous[video]'")


def test_frames_are_explained_as_images(vitreous, trained, here):
    video(here / "clip.mkv")
    options = ("--every", "2", "--method", "attention", "--faithful", "0", "--out")
    vitreous("explain", trained, "clip.mkv", *options, "o").worked("3 of attention")
    assert len(list((here / "o" / "maps").iterdir())) == 3
    found = package.explain(trained, "clip.mkv", "attention", every=2)
    assert found.names == tuple(f"clip.mkv@{at}.0s" for at in (0, 2, 4))
    same = package.explain(trained, [pixels(number) for number in (0, 20, 40)], "attention")
    np.testing.assert_allclose(found.maps, same.maps, rtol=1e-4, atol=1e-6)
    (here / "text.mp4").write_text("no video")
    done = vitreous("explain", trained, "clip.mkv", "text.mp4", *options, "p")
    assert done.code == 1 and "1 of 4 images could not be read" in done.err
    vitreous("explain", trained, "clip.mkv", "--every", "-1").refused("every is -1 seconds")
