"""What is typed becomes image paths: every kind of argument, in order, nothing passed over in silence."""

import io
from pathlib import Path

import pytest

from vitreous.errors import DataError
from vitreous.image_paths import expand_paths


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "b.PNG",
        "a.jpg",
        "notes.txt",
        ".hidden.jpg",
        "deep/c.webp",
        "deep/er/d.gif",
        ".git/e.jpg",
        "text/x.md",
        "no[1].png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments, stdin=None):
    return [str(path) for path in expand_paths(list(arguments), stdin)]


def test_a_folder_gives_its_images_sorted(tree):
    assert names(".") == ["a.jpg", "b.PNG", "no[1].png", "deep/c.webp", "deep/er/d.gif"]
    assert names("deep", "a.jpg") == ["deep/c.webp", "deep/er/d.gif", "a.jpg"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tree):
    assert names("notes.txt", "a.jpg", "a.jpg") == ["notes.txt", "a.jpg", "a.jpg"]


def test_globs(tree):
    assert names("*.jpg", "**/*.gif") == ["a.jpg", "deep/er/d.gif"]
    assert names("deep*") == ["deep/c.webp", "deep/er/d.gif"]
    assert names(f"{tree}/*.PNG") == [f"{tree}/b.PNG"]
    assert names("no[1].png") == ["no[1].png"]


def test_standard_input_is_read_as_it_arrives(tree):
    def lines():
        yield "a.jpg\n"
        yield "\n"
        yield "with space.png\r\n"
        raise AssertionError("read too far")

    paths = expand_paths(["-"], lines())
    assert [next(paths), next(paths)] == [Path("a.jpg"), Path("with space.png")]
    assert names("deep", "-", "b.PNG", stdin=io.StringIO("x.png\ny.png")) == [
        "deep/c.webp",
        "deep/er/d.gif",
        "x.png",
        "y.png",
        "b.PNG",
    ]


def test_names_between_nuls(tree):
    """As find -print0 writes them: line breaks and spaces belong to names."""
    assert names("-", stdin=io.StringIO("a b.png\0c\nd.png\0\udcff.png\0")) == ["a b.png", "c\nd.png", "\udcff.png"]
    assert names("-", stdin=io.StringIO("a.png\0b.png")) == ["a.png", "b.png"]
    odd = "a\nb.png\0c.png\0"
    assert [str(path) for path in expand_paths(["-"], io.StringIO(odd), null=True)] == ["a\nb.png", "c.png"]


def test_what_systems_leave_behind_is_passed_over(tree):
    for name in ("deep/@eaDir/c.webp/THUMB.jpg", "deep/__MACOSX/x.jpg", "deep/._c.webp"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    assert names("deep") == ["deep/c.webp", "deep/er/d.gif"]


def test_what_is_missing_keeps_its_place(tree):
    assert names("gone.jpg", "a.jpg", "*.tiff", "text") == ["gone.jpg", "a.jpg", "*.tiff", "text"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.jpg"], "no images found: gone.jpg does not exist"),
        (["gone.jpg", "*.tiff"], r"gone.jpg does not exist \(nor the 1 others\)"),
        (["text"], "no images in text"),
        ([], "no images were given"),
        (["-"], "standard input is empty"),
    ],
)
def test_nothing_at_all_is_an_error(tree, arguments, words):
    with pytest.raises(DataError, match=words):
        names(*arguments, stdin=io.StringIO(""))


def test_links_to_folders_are_followed_once(tree):
    (tree / "deep" / "loop").symlink_to(tree / "deep")
    (tree / "linked").symlink_to(tree / "deep" / "er")
    assert names("deep") == ["deep/c.webp", "deep/er/d.gif"]
    assert names("linked") == ["linked/d.gif"]
