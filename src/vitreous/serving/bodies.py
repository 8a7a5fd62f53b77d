"""Turn a request's body into the bytes of its images: a single image as it is, or several as form data or base64 in
JSON."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from vitreous.errors import suggest
from vitreous.runtime.display import strip_hidden
from vitreous.serving.problems import Problem

TAKEN = (
    "an image as it is (image/jpeg, image/png, ..., application/octet-stream), multipart/form-data, or application/json"
)
LONGEST_NAME = 100
LONGEST_PATH = 4096
"""Number of characters of a name that are examined, the last ones: a body may hold tens of millions."""
MARKS_AN_IMAGE = 200
"""Number of JSON brackets and commas per image, at most, including those in its name and data URI."""
DATA_URI = re.compile(r"data:[\w.+/-]*(;[\w.+-]+=[\w.+-]+)*;base64,")


@dataclass(frozen=True)
class Upload:
    """One image as it was sent."""

    name: str
    """Its file name without folders; "image 2" if none was given."""
    data: bytes


def read_uploads(body: bytes, content_type: str, most: int) -> list[Upload]:
    """Return a body's images, in their order.

    Args:
        body: all of it.
        content_type: the request's header.
        most: most images.

    Raises:
        Problem: the body is malformed, of another type, without an image, or with too many.
    """
    kind, options = parse_options_header(content_type)
    media = kind.decode("latin-1").lower()
    if media == "multipart/form-data":
        found = read_form(body, options.get(b"boundary", b""), most)
    elif media == "application/json":
        found = read_json(body, most)
    elif media.startswith("image/") or media == "application/octet-stream":
        found = [Upload("image 1", body)] if body else []
    else:
        came = f"the body is {strip_hidden(media)[:LONGEST_NAME]!r}" if media else "there is no Content-Type"
        raise Problem("unsupported-media-type", f"{came}; send {TAKEN}")
    if not found:
        raise Problem("malformed", f"there is no image in the request; send {TAKEN}")
    return found


def shorten_name(name: str, number: int) -> str:
    """Return a file's name without folders and control characters; "image 2" if nothing is left."""
    last = re.split(r"[/\\]", strip_hidden(name[-LONGEST_PATH:]))[-1].strip()
    return last[:LONGEST_NAME] if last not in ("", ".", "..") else f"image {number}"


def refuse_more(count: int, most: int) -> None:
    """Raise a Problem if there are more images than one request may have."""
    if count > most:
        raise Problem("too-large", f"there are more than {most} images in the request; send at most {most} at a time")


def read_form(body: bytes, boundary: bytes, most: int) -> list[Upload]:
    """Return the files of form data; raises Problem."""
    if not boundary:
        raise Problem(
            "malformed", "the form data has no boundary in its Content-Type; let the client library set that header"
        )
    form = _Form(most)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Problem("malformed", f"the form data can't be read: {error}; send it whole") from error
    if not form.ended:
        raise Problem("malformed", "the form data ends before its last boundary; send it whole")
    return form.uploads


class _Form:
    """Gathers the files of form data."""

    def __init__(self, most: int) -> None:
        self.most, self.uploads, self.ended = most, [], False
        self.headers: dict[bytes, bytes] = {}
        self.field, self.value, self.data = b"", b"", bytearray()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return the functions that the parser calls."""
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end", "end")
        return {f"on_{name}": getattr(self, name) for name in names}

    def part_begin(self) -> None:
        refuse_more(len(self.uploads) + 1, self.most)
        self.headers, self.data = {}, bytearray()
        self.field = self.value = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def header_end(self) -> None:
        self.headers[self.field.lower()] = self.value
        self.field = self.value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.data += data[start:end]

    def part_end(self) -> None:
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        if b"filename" not in options:
            field = strip_hidden(options.get(b"name", b"").decode("utf-8", "replace"))[:LONGEST_NAME]
            raise Problem(
                "malformed",
                f"the form's field {field!r} is not a file; send images as files and options in the address (?top=3)",
            )
        name = shorten_name(options[b"filename"].decode("utf-8", "replace"), len(self.uploads) + 1)
        self.uploads.append(Upload(name, bytes(self.data)))

    def end(self) -> None:
        self.ended = True


def read_json(body: bytes, most: int) -> list[Upload]:
    """Return the images of {"images": [base64, ...]}, each text or {"name": ..., "data": base64}; raises Problem."""
    marks = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if marks > MARKS_AN_IMAGE * (most + 1):  # parsing would build millions of values while no one else is answered
        raise Problem(
            "too-large",
            f'the JSON has {marks:,} commas and brackets, too many for {most} images; send {{"images": [base64, ...]}} alone',
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed", f"the body is not JSON: {error or 'nested too deep'}") from error
    images = _member(document, "the body", ("images",), "images", list)
    refuse_more(len(images), most)
    return [_decode_entry(one, number) for number, one in enumerate(images, start=1)]


def _decode_entry(entry: Any, number: int) -> Upload:
    where = f"image {number}"
    if isinstance(entry, str):
        return Upload(where, decode_base64(entry, where))
    data = _member(entry, where, ("name", "data"), "data", str)
    name = entry.get("name", where)
    if not isinstance(name, str):
        raise Problem("malformed", f"the name of {where} is {_kind(name)}; expected text")
    return Upload(shorten_name(name, number), decode_base64(data, where))


def _member(document: Any, where: str, known: Iterable[str], name: str, kind: type) -> Any:
    """Return a member of an object that may only have the known ones; raises Problem."""
    if not isinstance(document, dict):
        raise Problem("malformed", f'{where} is {_kind(document)}; expected an object such as {{"{name}": ...}}')
    for other in document:
        if other not in known:
            came = other[:LONGEST_NAME]
            raise Problem("malformed", f"{where} has {strip_hidden(came)!r}; {suggest(came, known)}")
    if not isinstance(document.get(name), kind):
        expected = {list: "a list", str: "text, base64"}[kind]
        came = _kind(document[name]) if name in document else "missing"
        raise Problem("malformed", f"{name} of {where} is {came}; expected {expected}")
    return document[name]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def decode_base64(text: str, where: str) -> bytes:
    """Return the bytes of base64 or of a data URI; addresses aren't fetched. Raises Problem."""
    if text[:8].lower().startswith(("http:", "https:", "ftp:", "file:")):
        raise Problem("malformed", f"{where} is an address; nothing is fetched: send the image's bytes as base64")
    found = DATA_URI.match(text[:200])
    try:
        return base64.b64decode(text[found.end() :] if found else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(
            "malformed", f"{where} is not base64 ({error}); encode the file's bytes, without line breaks"
        ) from error
