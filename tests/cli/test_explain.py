"""`vitreous explain`: what it writes, and every mistake in one line."""

import pytest
from tests.support.pictures import encoded, picture, write


@pytest.fixture
def images(here):
    for number, (name, size) in enumerate({"a.png": (8, 8), "b.png": (9, 30), "deep/c.png": (50, 7)}.items()):
        write(here / "images" / name, encoded(picture(number, *size, 1)))
    return here / "images"


def test_writes_overlays_and_a_page(vitreous, trained, images, here):
    shown = vitreous("explain", trained, "images", "--out", "out", "--faithful", "1").worked(
        "3 of relevance, in out/maps", "out/index.html"
    )
    assert "Traceback" not in shown
    assert sorted(path.name for path in (here / "out" / "maps").iterdir()) == [
        "0001-a-relevance.png",
        "0002-b-relevance.png",
        "0003-c-relevance.png",
    ]
    assert "deep/c.png" in (here / "out" / "index.html").read_text()
    vitreous(
        "explain", trained, "images/a.png", "--method", "attention", "--layer=0", "--head=1", "--faithful=0"
    ).worked("explanations/run-1/index.html")
    vitreous("explain", trained, "-", "--target=3", "--faithful=0", stdin="images/a.png\n").worked("run-2")


def test_a_broken_image_among_good_ones(vitreous, trained, images, here):
    write(images / "b.png", b"no image")
    done = vitreous("explain", trained, "images", "--out=out", "--faithful=0")
    assert done.code == 1
    assert "b.png" in done.err and "1 of 3 images could not be read" in done.err
    assert len(list((here / "out" / "maps").iterdir())) == 2
    assert "1 could not be read" in (here / "out" / "index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["images", "--method=relevanse"], ["did you mean 'relevance'"]),
        (["images", "--method=grad-cam"], ["doesn't fit this Vision Transformer", "these do: relevance"]),
        (["images", "--method=attention", "--layer=9"], ["layer 9 is outside the model's"]),
        (["images", "--method=attention", "--head=-9"], ["head -9 is outside"]),
        (["images", "--head=0"], ["relevance takes no head; it is for attention"]),
        (["images", "--layer=x"], ["--layer"]),
        (["images", "--target=zero"], ["unknown class 'zero'", "Known: 0, 1"]),
        (["images", "--page=0"], ["page is 0; it must be a whole number, at least 1"]),
        (["images", "--faithful=-1"], ["faithful is -1; it must be a whole number, at least 0"]),
        (["images", "--out=images"], ["images is not empty"]),
        (["images", "--out=images/a.png"], ["is a file"]),
        (["nowhere"], ["nowhere does not exist"]),
        (["empty"], ["no images in empty"]),
        ([], ["name the images"]),
        (["images", "--methd=rollout"], ["did you mean '--method'"]),
    ],
)
def test_mistakes(vitreous, trained, images, here, arguments, words):
    (here / "empty").mkdir()
    vitreous("explain", trained, *arguments).refused(*words)
    assert sorted(path.name for path in here.iterdir()) == ["empty", "images"]


def test_nothing_that_can_be_read(vitreous, trained, images, here):
    for path in images.rglob("*.png"):
        path.write_bytes(b"")
    vitreous("explain", trained, "images", "--out=out").refused("none of the 3 images can be read")
    assert not (here / "out").exists()


def test_no_model(vitreous, images):
    vitreous("explain", "nowhere", "images").refused("nowhere")
