"""`vitreous predict` of videos: a prediction for each frame, in every format, and frames sorted as images."""

import json

import numpy as np
from PIL import Image
from tests.support.pictures import write
from tests.support.videos import pixels, video

from vitreous.images import video as module


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
    assert done.err == "vitreous: passed over: .mkv 2: not images; name a video itself to classify its frames\n"
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
    assert "3 of them were there already" in vitreous(*options).err
    done = vitreous(*options, "--link", "hard")
    assert done.code == 1 and "no file that could be linked to; leave --link out" in done.err
