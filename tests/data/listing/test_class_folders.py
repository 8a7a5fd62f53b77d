"""Class folders: what counts as a class, as a split, as an image; links that can't loop."""

import os
from collections import Counter

import pytest
from tests.support.pictures import tree, write

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.listing.class_folders import list_classes
from vitreous.data.listing.discovery import list_data, list_labelled
from vitreous.errors import DataError


def listed(root):
    train, validation = list_data(root)
    pairs = [tuple(zip(part.names, part.labels, strict=True)) for part in (train, validation) if part is not None]
    return pairs[0] if len(pairs) == 1 else pairs


def test_each_folder_is_a_class_sorted_by_bytes(tmp_path):
    tree(tmp_path, b=1, a=2, Z=1)
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "é.png")
    assert listed(tmp_path) == (("Z/0.png", "Z"), ("a/1.png", "a"), ("a/é.png", "a"), ("b/0.png", "b"))


def test_nested_folders_belong_to_the_class_at_the_top(tmp_path):
    tree(tmp_path, cat__black=1, cat__white__kitten=1, cat=1, dog__all=2)
    assert listed(tmp_path) == (
        ("cat/0.png", "cat"),
        ("cat/black/0.png", "cat"),
        ("cat/white/kitten/0.png", "cat"),
        ("dog/all/0.png", "dog"),
        ("dog/all/1.png", "dog"),
    )
    assert "taken as one class each: dog" in list_data(tmp_path)[0].notes[0]


def test_hidden_files_and_others_are_counted(tmp_path):
    tree(tmp_path, cat=1, dog=1, **{".cache": 1})
    for name in ("cat/.0.png", "cat/notes.txt", "README.md", ".DS_Store", "dog/.thumbs/1.png", "loose.png"):
        write(tmp_path / name)
    listing, _ = list_data(tmp_path)
    assert listing.names == ("cat/0.png", "dog/0.png")
    assert listing.ignored == {"system": 4, ".txt": 1, ".md": 1}
    assert "1 images beside the class folders" in listing.notes[0]


def test_a_class_folder_without_images_is_noted(tmp_path):
    tree(tmp_path, cat=1, dog=1)
    (tmp_path / "bird").mkdir()
    assert list_data(tmp_path)[0].notes == ("class folders without images, left out: bird",)


def test_train_and_val_are_a_split(tmp_path):
    tree(tmp_path, train__cat=1, train__dog=1, val__cat=1, val__dog=1)
    train, validation = listed(tmp_path)
    assert train == validation == (("cat/0.png", "cat"), ("dog/0.png", "dog"))


@pytest.mark.parametrize("name", ["valid", "validation", "test", "VAL", "Test"])
def test_other_names_of_the_validation(tmp_path, name):
    tree(tmp_path, Train__cat=1, Train__dog=1, **{f"{name}__cat": 1})
    train, validation = list_data(tmp_path)
    assert (train.root.name, validation.root.name) == ("Train", name)
    assert any(f"{name}/ is the validation" in note for note in train.notes) == (name != "VAL")


def test_val_is_preferred_and_the_test_part_left_out_aloud(tmp_path):
    tree(tmp_path, train__a=1, train__b=1, val__a=1, test__a=5, extra__c=1)
    train, validation = list_data(tmp_path)
    assert validation.root.name == "val"
    assert "left out, as they are neither train/ nor the validation nor the test: extra/" in train.notes
    assert "5 test images were left out" in train.notes


def test_train_without_val_is_split_later(tmp_path):
    tree(tmp_path, train__a=1, train__b=1)
    train, validation = list_data(tmp_path)
    assert (train.root.name, validation) == ("train", None)


def test_classes_that_are_called_train_and_val(tmp_path):
    tree(tmp_path, train=2, plane=2)
    assert {label for _, label in listed(tmp_path)} == {"train", "plane"}


def test_what_could_be_a_split_or_a_class_is_refused(tmp_path):
    tree(tmp_path, train__steam=2, plane=2)
    with pytest.raises(DataError, match="isn't clear whether train is a split or a class"):
        list_data(tmp_path)


def test_only_validation_is_said(tmp_path):
    tree(tmp_path, val__a=1, val__b=1)
    with pytest.raises(DataError, match=r"has val/ but no train/"):
        list_data(tmp_path)


def test_evaluation_takes_the_validation_part(tmp_path):
    tree(tmp_path / "split", train__a=1, val__a=2)
    tree(tmp_path / "whole", a=3)
    assert (len(list_labelled(tmp_path / "split")), len(list_labelled(tmp_path / "whole"))) == (2, 3)
    assert len(list_labelled(tmp_path / "split" / "train")) == 1


def test_a_link_to_images_elsewhere_is_followed_once(tmp_path):
    tree(tmp_path / "elsewhere", cat=2)
    tree(tmp_path / "data", dog=1)
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (tmp_path / "data" / "feline").symlink_to(tmp_path / "elsewhere" / "cat")
    listing, _ = list_data(tmp_path / "data")
    assert listing.names == ("cat/0.png", "cat/1.png", "dog/0.png")
    assert any("not followed: feline" in note for note in listing.notes)


def test_links_into_hidden_folders_and_above_followed_ones_lose_no_image(tmp_path):
    tree(tmp_path / "store", cat=2, dog=1, emu=3)
    tree(tmp_path / "data" / ".versions", fox=2)
    root = tmp_path / "data"
    (root / "a").symlink_to(tmp_path / "store" / "cat")
    (root / "b").symlink_to(tmp_path / "store")
    (root / "c").symlink_to(root / ".versions" / "fox")
    (root / "d").symlink_to(root / ".versions" / "fox")
    (root / "e").symlink_to(tmp_path)
    listing = list_classes(root)
    assert Counter(listing.labels) == {"a": 2, "b": 4, "c": 2}
    assert len({os.path.realpath(root / name) for name in listing.names}) == len(listing) == 8
    assert "links to folders that are already listed, not followed: b/cat, d" in listing.notes
    assert "links to folders that hold the data itself, left out: e" in listing.notes


def test_links_that_loop_end(tmp_path):
    tree(tmp_path, cat=1, dog=1)
    (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "cat" / "other").symlink_to(tmp_path / "dog")
    (tmp_path / "dog" / "nowhere").symlink_to(tmp_path / "gone")
    for place in (tmp_path / "ring", tmp_path / "dog" / "ring"):
        place.symlink_to(place)
    assert [name for name, _ in listed(tmp_path)] == ["cat/0.png", "dog/0.png"]


def test_a_link_to_a_file_is_an_image_and_a_dead_one_is_broken_later(tmp_path):
    tree(tmp_path, cat=1, dog=1)
    (tmp_path / "cat" / "again.png").symlink_to(tmp_path / "cat" / "0.png")
    (tmp_path / "cat" / "dead.png").symlink_to(tmp_path / "gone.png")
    rows = {row.name: row for row in list_data(tmp_path)[0].rows}
    assert rows["cat/again.png"].bytes > 0
    assert rows["cat/dead.png"].changed == -1


def test_names_are_compared_composed(tmp_path):
    for name in ("caf\u00e9", "cafe\u0301", "tea"):
        write(tmp_path / name / "0.png")
    assert {label for _, label in listed(tmp_path)} == {"caf\u00e9", "tea"}


JUNK = ("__MACOSX", "@eaDir", "#recycle", ".ipynb_checkpoints", ".thumbnails", ".git", "$RECYCLE.BIN", "lost+found")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\u2028b", "tab\tname"])
def test_a_class_with_control_characters_is_refused(tmp_path, name):
    tree(tmp_path, cat=1, dog=1)
    (tmp_path / name).mkdir()
    assert len(listed(tmp_path)) == 2, "an empty one is no class"
    (tmp_path / "dog" / "0.png").rename(tmp_path / name / "0.png")
    with pytest.raises(DataError, match="has a line break or another control character in its name; rename it") as told:
        listed(tmp_path)
    assert str(told.value).isprintable()
    assert len(list_classes(tmp_path, optional=True).rows) == 2, "folders of images without labels may be called so"


def test_classes_of_any_script_and_bytes_that_are_not_text(tmp_path):
    tree(tmp_path, cat=1)
    for name in (b"caf\xe9", "猫".encode(), "👩‍🔬".encode(), "no\u00a0break".encode()):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)  # noqa: PTH102 (a name in bytes)
        write(tmp_path / os.fsdecode(name) / "0.png")
    assert len({label for _, label in listed(tmp_path)}) == 5


def test_what_systems_leave_behind_is_neither_class_nor_image(tmp_path):
    tree(tmp_path, cat=2, dog=2)
    for folder in JUNK:
        write(tmp_path / folder / "1.png")
    for folder in ("cat", "dog", "."):
        for name in ("._0.png", "Thumbs.db", "desktop.ini", ".DS_Store", "@eaDir/2.png"):
            write(tmp_path / folder / name)
    listing, _ = list_data(tmp_path)
    assert listing.names == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    assert listing.ignored == {"system": len(JUNK) - 1 + 3 * 5}
    assert listing.notes == ()


def test_what_is_ignored_is_named_by_ending_with_what_to_do(tmp_path, monkeypatch):
    tree(tmp_path, cat=2, dog=2)
    for number in range(6):
        write(tmp_path / "cat" / f"{number}{['.HEIC', '.HEIC', '.heic', '.txt', '', '.psd'][number]}")
    monkeypatch.setattr("vitreous.data.listing.class_folders.SUFFIXES", frozenset([".png"]))
    monkeypatch.setattr(
        "vitreous.data.listing.ignored_files.suggest_remedy",
        {".heic": "install it", ".psd": "save as PNG", ".png": ""}.get,
    )
    dataset = open_dataset(DataConfig(str(tmp_path)))
    assert "ignored     .HEIC 3: install it; .psd 1: save as PNG; .txt 1, without extension 1: not images" in str(
        dataset.report
    )
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"no images in class folders \(there are \.HEIC 3: install it; .psd 1: save"):
        open_dataset(DataConfig(str(tmp_path)))


@pytest.mark.parametrize("around", ["photos", "a__b"])
def test_a_folder_around_the_class_folders_is_looked_through(tmp_path, around):
    tree(tmp_path, **{f"{around}__cat": 1, f"{around}__dog": 2, "@eaDir__photos": 1})
    write(tmp_path / "README.md")
    (tmp_path / "annotations").mkdir()
    train, validation = list_data(tmp_path)
    assert (sorted(set(train.labels)), train.names[0], validation) == (["cat", "dog"], "cat/0.png", None)
    assert train.notes[0].startswith(f"looked through {around.replace('__', '/')}/, the only folder with images")
    assert len(list_labelled(tmp_path)) == 3
    assert len(list_labelled(tmp_path / around.replace("__", "/"))) == 3


def test_what_holds_no_images_beside_train_is_no_class(tmp_path):
    tree(tmp_path, train__cat=1, train__dog=1)
    write(tmp_path / "annotations" / "cat.xml")
    train, validation = list_data(tmp_path)
    assert (len(train), validation) == (2, None)
    assert train.notes == ("left out, as they are neither train/ nor the validation: annotations/",)


def test_a_folder_around_a_split_is_looked_through(tmp_path):
    tree(tmp_path, set__Train__cat=1, set__Train__dog=1, set__Val__cat=2)
    for optional in (False, True):
        train, validation = list_data(tmp_path, optional)
        assert (len(train), len(validation)) == (2, 2)
        assert train.notes[0] == "looked through set/, the only folder with images"
    assert len(list_labelled(tmp_path)) == 2


def test_a_class_is_not_looked_through(tmp_path):
    tree(tmp_path / "one", cat__black=1, cat__white=1)
    assert set(list_labelled(tmp_path / "one", ("cat", "dog")).labels) == {"cat"}
    assert set(list_data(tmp_path / "one", optional=True)[0].labels) == {"cat"}
    assert set(list_data(tmp_path / "one")[0].labels) == {"black", "white"}
    tree(tmp_path / "two", cat__black=1, cat__white=1, dog=1)
    assert set(list_data(tmp_path / "two")[0].labels) == {"cat", "dog"}
    tree(tmp_path / "images", images=2)
    assert set(list_data(tmp_path / "images")[0].labels) == {"images"}


def test_a_link_back_into_the_folder_ends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").symlink_to(tmp_path)
    with pytest.raises(DataError, match="holds no images"):
        list_data(tmp_path)


@pytest.mark.parametrize(
    ("train", "held"),
    [
        ("training_set", "test_set"),
        ("Training", "Testing"),
        ("train", "dev"),
        ("train-images", "val-images"),
        ("trn", "eval"),
    ],
)
def test_what_else_parts_are_called(tmp_path, train, held):
    tree(tmp_path, **{f"{train}__a": 1, f"{train}__b": 1, f"{held}__a": 1})
    parts = list_data(tmp_path)
    assert [part.root.name for part in parts] == [train, held]
    assert parts[0].notes == (f"{held}/ is the validation: there is no val/",)


def test_two_folders_that_may_be_the_same_part_are_refused(tmp_path):
    tree(tmp_path, train__a=1, TRAIN__a=1, val__a=1)
    with pytest.raises(DataError, match="has TRAIN/ and train/, which may be the same split"):
        list_data(tmp_path)


def test_how_class_folders_were_read_is_said(tmp_path):
    tree(tmp_path / "mixed", cat=1, cat__black=1, dog=1, Dog=1)
    notes = list_data(tmp_path / "mixed")[0].notes
    assert notes == (
        "folders inside these class folders belong to the class: cat",
        "classes that differ only in capitals or spaces, taken as different: 'Dog' and 'dog'",
    )
    tree(tmp_path / "within", cat__train=1, cat__test=1, dog__train=1, dog__test=1)
    assert "test, train inside the class folders are not splits" in list_data(tmp_path / "within")[0].notes[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "is empty; it should hold one folder of images for each class"),
        (lambda root: (root / "cat").mkdir(), "holds no images in class folders"),
        (lambda root: write(root / "notes.txt"), "holds no images in class folders"),
        (lambda root: write(root / "a.png"), "holds 1 images but no class folders"),
    ],
)
def test_nothing_to_train_on(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(DataError, match=words):
        list_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photo", "did you mean .*photos"),
        ("nothing/like/it", "the folder .*nothing/like does not exist either"),
        ("x" * 5000, "no such file or folder"),
        ("photos/cat/0.png", "is a file, but not a manifest"),
        ("photos.zip", "is a file, but not a manifest .*; unpack it, and name the folder"),
        ("photos.xlsx", "save the table as CSV"),
    ],
)
def test_what_is_not_there(tmp_path, name, words):
    tree(tmp_path / "photos", cat=1)
    write(tmp_path / "photos.zip")
    write(tmp_path / "photos.xlsx")
    with pytest.raises(DataError, match=words) as caught:
        list_data(tmp_path / name)
    assert "\n" not in str(caught.value)
