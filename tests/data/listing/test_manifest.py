"""CSV and JSONL manifests: every wrong line is named, none is passed over."""

import json
import os
import socket
from pathlib import Path

import pytest
from tests.support.pictures import tree, write

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.listing.manifest import read_manifest
from vitreous.errors import DataError

ROWS = (("a/0.png", "cat"), ("a/1.png", "cat"), ("b/0.png", "dog"), ("b/1.png", "dog"))


def manifest(folder, text, name="list.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pairs(path):
    return [tuple(zip(part.names, part.labels, strict=True)) for part in read_manifest(path)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label\n" + "".join(f"{name},{label}\n" for name, label in ROWS)),
        ("list.csv", "label;file\r\n" + "".join(f"{label};{name}\r\n" for name, label in ROWS)),
        ("list.tsv", "\ufefffilename\tClass\n" + "\n\n".join(f"{name}\t{label}" for name, label in ROWS)),
        ("LIST.CSV", "Path, LABEL ,note\n" + "".join(f'"{name}", {label} ,"a, b"\n' for name, label in ROWS)),
        ("list.csv", "sep=;\nCLASS NAME;file-name\n" + "".join(f"{label};{name}\n" for name, label in ROWS)),
        ("list.csv", "\n \npath,label\n,\n" + "\r".join(f'"{name}", "{label}"' for name, label in ROWS)),
        ("list.csv", "path,label\n".encode("utf-16") + "\n".join(f"{n},{c}" for n, c in ROWS).encode("utf-16-le")),
        ("list.tsv", "path\tlabel\n".encode("utf-16-be") + "\n".join(f"{n}\t{c}" for n, c in ROWS).encode("utf-16-be")),
        ("list.csv", "path,label\n" + "".join(f"{name.replace('/', chr(92))},{label}\n" for name, label in ROWS)),
        ("list.jsonl", "\n".join(json.dumps({"path": name, "label": label}) for name, label in ROWS)),
        ("list.ndjson", "".join(json.dumps({"target": label, "image": f"./{name}"}) + "\n \n" for name, label in ROWS)),
    ],
)
def test_every_way_of_writing_gives_the_same(tmp_path, name, text):
    assert pairs(manifest(tmp_path, text, name)) == [ROWS, ()]


def test_labels_may_be_whole_numbers(tmp_path):
    path = manifest(tmp_path, '{"path": "0.png", "label": 7}\n{"path": "1.png", "label": "7"}', "list.jsonl")
    assert read_manifest(path)[0].labels == ("7", "7")


def test_quotes_may_follow_a_space_and_hold_separators_and_line_breaks(tmp_path):
    path = manifest(tmp_path, 'path,label\n"a, b.png", "cat, ""big"""\n"c\nd.png",  dog\n')
    assert pairs(path)[0] == (("a, b.png", 'cat, "big"'), ("c\nd.png", "dog"))
    assert [row.number for row in read_manifest(path)[0].rows] == [2, 4]


def test_a_backslash_parts_folders_unless_a_file_has_it_in_its_name(tmp_path):
    write(tmp_path / "b\\0.png")
    path = manifest(tmp_path, "path,label\na\\0.png,cat\n.\\a\\1.png,cat\nb\\0.png,dog\n")
    train, _ = read_manifest(path)
    assert train.names == ("a/0.png", "a/1.png", "b\\0.png")
    assert train.notes == ("backslashes separate folders in 2 paths",)


def test_which_columns_were_taken_is_said(tmp_path):
    path = manifest(tmp_path, "Id,Image Path,category,subset\n7,0.png,a,train\n8,1.png,a,val\n")
    train, validation = read_manifest(path)
    assert (train.names, validation.names) == (("0.png",), ("1.png",))
    assert train.notes == (
        "columns: 'image_path' is the path, 'category' is the label, 'subset' is the split",
        "columns that are not read: id",
    )
    path = manifest(tmp_path, "path,label,image,set\n0.png,a,x,7\n")
    assert read_manifest(path)[0].notes == ("columns that are not read: image, set",)


def test_a_name_that_is_no_text_is_read_and_half_a_character_is_not(tmp_path):
    path = manifest(tmp_path, '{"path": "\\udcff.png", "label": "a"}', "list.jsonl")
    assert read_manifest(path)[0].names == (os.fsdecode(b"\xff.png"),)


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    """Opening a pipe would wait for a writer for ever."""
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.jsonl").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.tsv"))
        for name, kind in (("pipe.csv", "a named pipe"), ("device.jsonl", "a device"), ("socket.tsv", "a socket")):
            with pytest.raises(DataError, match=f"{name} is {kind}, not a file of rows"):
                open_dataset(DataConfig(str(tmp_path / name)))


def test_a_split_column(tmp_path):
    path = manifest(tmp_path, "path,label,split\n0.png,a,train\n1.png,a,Val\n2.png,a,test\n3.png,a,training\n")
    assert pairs(path) == [(("0.png", "a"), ("3.png", "a")), (("1.png", "a"),)]
    assert read_manifest(path)[0].notes == ("1 rows marked test were left out",)


def test_test_rows_stand_in_for_val(tmp_path):
    path = manifest(tmp_path, "path,label,split\n0.png,a,train\n1.png,a,test\n")
    train, validation = read_manifest(path)
    assert (len(train), len(validation)) == (1, 1)
    assert train.notes == ("the test rows are the validation: none are marked val",)


WRONG = {
    "empty": ("list.csv", "", "is empty; its first line must name the columns: path,label"),
    "only a header": ("list.csv", "path,label\n", "lists no images"),
    "no header": ("list.csv", "a/0.png,cat\n", "line 1: no column 'path' among"),
    "a column misspelt": ("list.csv", "path,lable\na.png,cat\n", "line 1: no column 'label'.*is 'lable' meant"),
    "a column twice": ("list.csv", "path,label,label\n", "a column is named twice"),
    "too few fields": ("list.csv", "path,label\na.png,cat\nb.png\n", "line 3: 1 fields, but the first line names 2"),
    "too many fields": ("list.csv", "path,label\na,b.png,cat\n", "line 2: 3 fields.*put quotes"),
    "an open quote": ("list.csv", 'path,label\n"a.png,cat\n', "line 2: unexpected end of data"),
    "an empty label": ("list.csv", "path,label\na.png,cat\nb.png, \n", "line 3: label is empty"),
    "an empty path": ("list.jsonl", '{"path": null, "label": "a"}', "line 1: path is empty"),
    "listed twice": ("list.csv", "path,label\na.png,cat\n./a.png,dog\n", "line 3: a.png is already listed in line 2"),
    "unknown split": ("list.csv", "path,label,split\na.png,cat,extra\n", "line 2: split is 'extra'; it must be one of"),
    "no JSON": ("list.jsonl", '{"path": "a.png", "label": "cat"}\n{path: b}\n', "line 2: not JSON"),
    "no object": ("list.jsonl", '["a.png", "cat"]\n', "line 1: expected an object such as"),
    "a key missing": ("list.jsonl", '\n{"path": "a.png"}\n', "line 2: no column 'label' among 'path'"),
    "a label that is a list": ("list.jsonl", '{"path": "a", "label": ["a"]}', "line 1: label is .*it must be a text"),
    "a label that is a fraction": ("list.jsonl", '{"path": "a", "label": 0.5}', "line 1: label is 0.5; it must be"),
    "a label that is true": ("list.jsonl", '{"path": "a", "label": true}', "line 1: label is true; it must be"),
    "no UTF-8": (
        "list.csv",
        b"path,label\n\xff.png,cat\n",
        "can't be read as UTF-8 text: byte 0xff in line 2; save it",
    ),
    "half of UTF-16": ("list.csv", b"\xff\xfep\x00a", "can't be read as UTF-16-LE text: truncated data"),
    "deep JSON": ("list.jsonl", "[" * 100_000, "line 1: not JSON"),
    "a deep value": ("list.jsonl", '{"path": ' + "[" * 100_000, "line 1: not JSON"),
    "10^400": ("list.jsonl", '{"path": "a", "label": 1e400}', "line 1: label is Infinity; it must be a text"),
    "10^400 in digits": (
        "list.jsonl",
        '{"path": "a", "label": 1%s}' % ("0" * 1400),
        "label has 1,401 characters; at most 1,000",
    ),
    "10^5000 in digits": ("list.jsonl", '{"path": "a", "label": 1%s}' % ("0" * 5000), "line 1: not JSON"),
    "NaN": ("list.jsonl", '{"path": "a", "label": NaN}', "line 1: label is NaN; it must be"),
    "a key twice": ("list.jsonl", '{"path": "a", "label": "b", "path": "c"}', "line 1: 'path' is given twice"),
    "a key twice, in other case": ("list.jsonl", '{"path": "a", "label": "b", "PATH ": "c"}', "'path' is given twice"),
    "a NUL in JSON": ("list.jsonl", '{"path": "a\\u0000.png", "label": "b"}', "line 1: path has a NUL character"),
    "a line break in a label": (
        "list.jsonl",
        '{"path": "a.png", "label": "b\\nc"}',
        r"line 1: label is 'b\\nc'; it must be without",
    ),
    "half a character": ("list.jsonl", '{"path": "\\ud800.png", "label": "b"}', r"line 1: path has \\ud800, half of a"),
    "half a label": ("list.jsonl", '{"path": "a.png", "label": "\\ud800"}', r"line 1: label has \\ud800, half of a"),
    "a NUL": ("list.csv", "path,label\na.png,b\0\n", "line 2: has a NUL character"),
    "a header with an open quote": ("list.csv", '"path,label\n', "line 1: unexpected end of data: a quote is opened"),
    "a header with a quote inside": ("list.csv", '"path"x,label\n', "line 1: .* a quote ends a field"),
    "an endless field": ("list.csv", f"path,label\n{'a' * 200_000},b\n", "line 2: field larger than field limit"),
    "an endless line": ("list.jsonl", " " * (2**20 + 1), "line 1: longer than 1,048,576 characters"),
    "an endless header": ("list.csv", "p" * (2**20 + 1), "line 1: longer than 1,048,576 characters"),
    "a long path": ("list.csv", f"path,label\n{'a' * 5000},b\n", "line 2: path has 5,000 characters; at most 4,096"),
    "a forgotten header": ("list.csv", "a/0.png,cat\na/1.png,cat\n", "line 1: .*the header is missing"),
    "two columns for the path": ("list.csv", "image,file,label\n", "line 1: the path may be in .*'file', 'image'"),
    "two columns for the label": ("list.csv", "path,class,target\n", "the label may be .*call the right one 'label'"),
    "a URL": ("list.csv", "path,label\nhttps://a.org/b.png,c\n", "line 2: https://a.org/b.png is a URL, but a file"),
    "a drive": ("list.csv", "path,label\nC:\\cats\\1.png,c\n", "line 2: .* is on a Windows drive"),
    "another drive": ("list.csv", "path,label\nD:/cats/1.png,c\n", "line 2: .* is on a Windows drive"),
    "a server": ("list.csv", "path,label\n\\\\nas\\cats\\1.png,c\n", "line 2: .* is on a Windows drive"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_line(tmp_path, case):
    name, text, words = WRONG[case]
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(manifest(tmp_path, text, name))
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named_with_its_line(tmp_path):
    tree(tmp_path, a=3, b=3)
    lines = [f"{folder}/{number}.png,{folder}" for folder in "ab" for number in range(3)]
    path = manifest(tmp_path, "\n".join(["path,label", *lines, "a/9.png,a"]))
    with pytest.raises(DataError, match=r"1 of 7 images can't be read: .*list.csv, line 8: a/9.png: no such file"):
        open_dataset(DataConfig(str(path)))
    found = open_dataset(DataConfig(str(path), broken="skip"))
    assert (found.facts.train, found.facts.validation) == (4, 2)
    assert found.report.broken == (("a/9.png", "a/9.png: no such file"),)


def test_paths_are_relative_to_the_manifest_or_absolute(tmp_path):
    tree(tmp_path / "images", a=2, b=2)
    (tmp_path / "lists").mkdir()
    absolute = tmp_path / "images" / "a" / "1.png"
    lines = ["../images/a/0.png,a", f"{absolute},a", "../images/b/0.png,b", "../images/b/1.png,b"]
    path = manifest(tmp_path / "lists", "\n".join(["path,label", *lines]))
    found = open_dataset(DataConfig(str(path), holdout=0.5))
    assert sorted(found.train.names + found.validation.names) == sorted(line.split(",")[0] for line in lines)


def test_a_manifest_of_validation_rows_only(tmp_path):
    tree(tmp_path, a=1)
    path = manifest(tmp_path, "path,label,split\na/0.png,a,val\n")
    with pytest.raises(DataError, match="lists no images for training"):
        open_dataset(DataConfig(str(path)))


def test_all_spellings_of_the_validation_are_one(tmp_path):
    rows = [f"{number}.png,a,{split}\n" for number, split in enumerate(["train", "val", "Validation", "valid"])]
    train, validation = read_manifest(manifest(tmp_path, "path,label,split\n" + "".join(rows)))
    assert (train.names, validation.names, train.notes) == (("0.png",), ("1.png", "2.png", "3.png"), ())


def test_an_absolute_path_is_the_same_image_as_a_relative_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for first, second in (("a/0.png", tmp_path / "a" / "0.png"), (tmp_path.parent / "0.png", "../0.png")):
        manifest(tmp_path, f"path,label\n{first},a\n{second},b\n")
        with pytest.raises(DataError, match=r"line 3: .*0\.png is already listed in line 2"):
            read_manifest(Path("list.csv"))
