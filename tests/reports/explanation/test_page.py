"""The folder that is written: overlays, and a page that holds what it shows and nothing from elsewhere."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tests.support.explanations import KINDS, folder, pictures

from vitreous.errors import DataError
from vitreous.insight.attention import compute_attention_maps
from vitreous.insight.attention_distance import measure_attention_distance
from vitreous.insight.explanation import open_inside
from vitreous.insight.methods import MapOptions, settle_options
from vitreous.model.names import build_vit_config
from vitreous.model.vit import ViT
from vitreous.reports.explanation.attention_rows import Kept, choose_rows, compute_attention_rows, describe_omissions
from vitreous.reports.explanation.contents import PageOptions, gather, shorten_names
from vitreous.reports.explanation.page import name_file, write_explanation


def written(place, kind, images, **options):
    ready = open_inside(folder(kind))
    options = PageOptions(settle_options(MapOptions(), ready.folder), **options)
    return write_explanation(place, ready, images, options, "a <model>", lambda _doing, _done: None)


class Read(HTMLParser):
    """Collects what a browser would fetch or run, and ids."""

    def __init__(self):
        super().__init__()
        self.fetched, self.kinds, self.ids, self.labelled = [], [], [], []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.fetched += [value for key, value in attrs if key in ("src", "srcset", "data") and value[:5] != "data:"]
        self.fetched += [tag] if tag in ("link", "iframe", "object", "base") else []
        self.kinds += [named.get("type", "javascript")] if tag == "script" else []
        self.ids += [named["id"]] if "id" in named else []
        if tag in ("img", "svg", "input", "select", "button"):
            self.labelled.append((tag, named))


@pytest.mark.parametrize("kind", [*KINDS, "resnet", "headless resnet"])
def test_every_kind_of_model_gets_a_page(kind, tmp_path):
    found = written(tmp_path / "out", kind, pictures(), faithful=1)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    read = Read()
    read.feed(page)
    assert read.fetched == []
    assert len(set(read.ids)) == len(read.ids)
    assert "http:" not in page and "https:" not in page
    assert "What a &lt;model&gt; looks at" in page
    assert all("alt" in one for tag, one in read.labelled if tag == "img")
    labels = set(re.findall(r'for="([\w-]+)"', page))
    assert all(one["id"] in labels for tag, one in read.labelled if tag in ("input", "select"))
    scripts = read.kinds.count("javascript")
    assert scripts == (0 if "resnet" in kind else 1)
    if scripts:
        script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in page
    for method in found.maps:
        assert (
            len(re.findall(rf"<figcaption>\s*(?:<bdi class=\"name\">)?{method}(?:</bdi>)?\s*</figcaption>", page)) == 3
        )
    overlays = sorted(path.name for path in (tmp_path / "out" / "maps").iterdir())
    assert overlays == [f"000{n}-image-{n}-{found.map_options.method}.png" for n in (1, 2, 3)]
    assert np.asarray(Image.open(tmp_path / "out" / "maps" / overlays[0])).shape[2] == 3


def unpacked(text, maps, tokens, patches):
    data = base64.b64decode(text)
    count = maps * tokens
    tops = np.frombuffer(data[: 4 * count], "<f4").reshape(maps, tokens)
    shares = np.frombuffer(data[4 * count : 5 * count], np.uint8).reshape(maps, tokens) / 255
    weights = np.frombuffer(data[5 * count :], np.uint8).reshape(maps, tokens, patches) / 255
    return weights * tops[..., None], shares


@pytest.mark.parametrize("kind", ["plain", "registers", "pooling"])
def test_the_page_holds_the_attention_to_8_bits(kind):
    made = folder(kind)
    ready, prefix = open_inside(made), made.model.config.prefix
    images = ready.images(np.stack([image[:16, :24] for image in pictures(2)]))
    rows, maps = compute_attention_rows(made.model, images), compute_attention_maps(made.model, images)
    assert rows.kept == Kept(2, (0, 1, 2), (0, 1))
    for image, layers in enumerate(rows.texts):
        for layer, text in enumerate(layers):
            weights, shares = unpacked(text, 3, 24 + prefix, 24)
            true = maps[layer][image].numpy()
            true = np.concatenate([true.mean(0, keepdims=True), true])
            step = true[..., prefix:].max(-1, keepdims=True) / 255
            assert (np.abs(weights - true[..., prefix:]) <= 0.51 * step).all()
            np.testing.assert_allclose(shares, true[..., :prefix].sum(-1), atol=0.51 / 255)


def test_a_large_model_is_thinned_and_says_so():
    import torch

    with torch.device("meta"):
        model = ViT(build_vit_config("L/16", registers=4))
    one = 201 * 201 * 4 / 3
    for budget, images in ((12 * 2**20, 8), (2**20, 8), (10, 2), (10**9, 1)):
        kept = choose_rows(model, images, budget)
        size = kept.images * len(kept.layers) * (1 + len(kept.heads)) * one
        assert size <= max(budget, 2 * one)
        complete = (kept.images, len(kept.layers), len(kept.heads)) == (images, 24, 16)
        assert (describe_omissions(kept, model, images) == "") == complete
        assert {kept.layers[0], kept.layers[-1]} == {0, 23}
    assert describe_omissions(Kept(3, (0, 23), ()), model, 8) == (
        "To keep the page small it leaves out layers other than 0, 23; heads, of which the mean is shown; "
        "images after the first 3."
    )


@pytest.mark.parametrize(
    ("map_options", "start"), [(MapOptions("attention", 1, 0), [1, 1]), (MapOptions("rollout"), [2, 0])]
)
def test_the_page_begins_where_it_was_asked_to(map_options, start, tmp_path):
    ready = open_inside(folder("plain"))
    options = PageOptions(settle_options(map_options, ready.folder), faithful=0)
    write_explanation(tmp_path / "out", ready, pictures(1), options, "model", lambda _doing, _done: None)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert json.loads(re.search(r'id="explore-data">(.*?)</script>', page, re.DOTALL)[1])["start"] == start


def test_names_that_are_markup_or_no_text_do_no_harm(tmp_path):
    place = tmp_path / "<script>alert(1)<"
    place.mkdir()
    for name in ("a'\">.png", "b\udc80.png", "c.png"):
        Image.fromarray(pictures(1)[0]).save(open(place / name, "wb"), "PNG")  # noqa: SIM115, PTH123
    written(tmp_path / "out", "plain", sorted(place.iterdir()), faithful=0)
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "alert(1)" not in page
    assert "a&#39;&#34;&gt;.png" in page
    document = json.loads(re.search(r'id="explore-data">(.*?)</script>', page, re.DOTALL)[1])
    assert document["images"][0]["name"] == "a'\">.png"
    assert len(list((tmp_path / "out" / "maps").iterdir())) == 3


def test_names_are_as_short_as_they_stay_different():
    assert shorten_names(["/x/a/1.png", "/x/b/1.png"]) == ["a/1.png", "b/1.png"]
    assert shorten_names(["image 1", "image 2"]) == ["image 1", "image 2"]
    assert shorten_names(["/x/a.png", "b.png"]) == ["/x/a.png", "b.png"]
    assert name_file(11, "deep/ü b/../c?.JPG", "rollout") == "0012-c-rollout.png"
    assert name_file(0, "???.png", "rollout") == "0001-image-rollout.png"
    assert (
        len(name_file(0, "\U0001d400" * 60 + ".png", "attention").encode()) < 200
    )  # which had failed at the end of the work


def test_all_images_count_and_the_first_are_shown():
    ready, many = open_inside(folder("plain")), pictures(20)
    kept = []
    found = gather(
        ready, [*many[:5], b"broken", *many[5:]], PageOptions(MapOptions("rollout"), page=4, faithful=2),
        lambda number, one: kept.append((number, one.name)), lambda _doing, _done: None,
    )  # fmt: skip
    assert (found.count, len(found.shown), found.compared_images, len(found.broken)) == (20, 4, 2, 1)
    assert [number for number, _ in kept] == list(range(20))
    assert kept[5][1] == "image 7"
    pixels = np.stack([ready_pixels(ready, image) for image in many])
    whole = measure_attention_distance(ready.model, ready.images(pixels))
    np.testing.assert_allclose(found.distances[0].distance.numpy(), whole.distance.numpy(), atol=1e-5)
    assert set(found.compared) == {*found.maps, "random"}
    for compared in found.compared.values():
        mean = np.mean([one.probabilities[one.target] for one in found.shown[:2]])
        assert float(compared.deletion.probabilities[0]) == pytest.approx(mean, abs=1e-6)
        assert float(compared.insertion.probabilities[-1]) == pytest.approx(mean, abs=1e-6)


def ready_pixels(ready, image):
    from vitreous.images.preprocess import preprocess_image

    return preprocess_image(image, ready.folder.decode, ready.folder.preprocess)


def test_none_can_be_read(tmp_path):
    with pytest.raises(DataError, match="none of the 2 images can be read"):
        written(tmp_path / "out", "plain", [b"", b"x"])
    assert list(tmp_path.iterdir()) == []
