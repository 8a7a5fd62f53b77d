"""Frames of a video, one after the other, through PyAV: never more than the few that the decoder holds are in memory.

The file is opened by this program and read as one of a few containers, so that a playlist that calls itself .mp4 opens no other
file and no network.
"""

import math
import re
import stat
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vitreous.errors import ConfigError, ImageError
from vitreous.images.formats import is_video
from vitreous.runtime.display import Shown, escape_text, format_text
from vitreous.shapes import UInt8

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
"""ffmpeg's names for the formats that are read; none of them names other files."""
MOST_PIXELS = 8192 * 4320
"""Largest frame: 8K film, the largest that cameras write."""
MOST_SECONDS = 24 * 3600
MOST_FRAMES = 100_000
"""Most frames read from a video."""
LEAST_EVERY = 0.001
"""Shortest interval in seconds: no camera's frames are closer together."""
SEEKABLE = frozenset(("mov", "mp4", "matroska", "webm"))
"""Containers whose index leads to the key frames, by ffmpeg's names."""
MARGIN = 16
"""Frames to seek before a time: a key frame may be shown that much later than it is decoded (H.264's largest
delay)."""
THREADS = 4
PREVIEW = 480
"""Pixels of the longer side of a frame that a notebook shows."""
NAME = re.compile(r"(?P<path>.+)@(?P<seconds>\d+\.\d+)s", re.DOTALL)
"""The name of a frame."""
REMEDY = "reading videos needs PyAV: pip install 'vitreous[video]'"


@dataclass(frozen=True, eq=False, repr=False)
class Frame(Shown):
    """A frame of a video, or after the last one the reason why the video can't be read to its end."""

    name: str
    """The path and the time, clip.mp4@12.0s; the path alone if there are no pixels."""
    pixels: UInt8[np.ndarray, "row col 3"] | None
    """RGB, upright."""
    seconds: float = 0.0
    """Time since the video's beginning."""
    error: str | None = None
    """Why there are no pixels, in one line."""
    partial: bool = False
    """Whether earlier frames were read: the video is incomplete or damaged."""

    def __str__(self) -> str:
        return self.error or f"{self.name}: {self.pixels.shape[1]} x {self.pixels.shape[0]} pixels"

    def _repr_html_(self) -> str:
        """Return the picture, made smaller, with its name, for a notebook."""
        if self.pixels is None:
            return format_text(self)
        from PIL import Image

        picture, file = Image.fromarray(self.pixels), BytesIO()
        picture.thumbnail((PREVIEW, PREVIEW))
        picture.save(file, "PNG")
        address = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
        return f'<figure style="margin: 0"><img src="{address}" alt=""><figcaption>{escape_text(self)}</figcaption></figure>'


def is_installed() -> bool:
    """Return whether PyAV is installed."""
    return find_spec("av") is not None


def check_every(every: float) -> None:
    """Raise ConfigError for an interval between frames that is out of range."""
    if not LEAST_EVERY <= every <= MOST_SECONDS:
        raise ConfigError(f"every is {every:g} seconds; it must be {LEAST_EVERY:g} to {MOST_SECONDS:,}")


def frames(path: str | Path, every: float = 1.0, max_pixels: int = MOST_PIXELS) -> Iterator[Frame]:
    """Yield a video's frames at a fixed interval: for each time the first frame at or after it.

    What can't be read is passed over, and told by a last Frame without pixels; so is a video that can't be read at all.

    >>> for frame in vitreous.frames("clip.mp4", every=2):                                # doctest: +SKIP
    ...     print(frame.name, frame.pixels.shape)
    clip.mp4@0.0s (1080, 1920, 3)

    Args:
        path: the file.
        every: seconds from one frame to the next, 0.001 to a day; a value below the video's own step gives every frame.
        max_pixels: largest rows x cols of a frame; 8192 x 4320 at most, whatever is asked for.

    Raises:
        ConfigError: every is out of range.
    """
    check_every(every)
    return _report(Path(path), every, min(max_pixels, MOST_PIXELS))


def expand_videos(images: Iterable[Any], every: float, max_pixels: int = MOST_PIXELS) -> Iterator[Any]:
    """Yield images as they are, and in place of a video's path its frames; see `frames`."""
    for image in images:
        if isinstance(image, (str, Path)) and is_video(image):
            yield from frames(image, every, max_pixels)
        else:
            yield image


def check_installed(paths: Iterable[str | Path]) -> None:
    """Raise ConfigError if a video is among the paths and PyAV isn't installed."""
    if any(map(is_video, paths)) and not is_installed():
        raise ConfigError(REMEDY)


def find_frame_file(name: str) -> tuple[Path, float] | None:
    """Return the video and the time that a frame's name states; None for any other name."""
    match = NAME.fullmatch(name)
    return (Path(match["path"]), float(match["seconds"])) if match and is_video(match["path"]) else None


def write_frame(name: str, folder: Path) -> Path:
    """Read a frame again by its name, and write it into a folder as a PNG of that name.

    Raises:
        ImageError: it can't be read any more. OSError: it can't be written.
    """
    found = find_frame_file(name)
    if found is None:
        raise ImageError(f"{name} is not the name of a video's frame")
    from PIL import Image

    for first in (found[1], None):  # from the beginning if seeking goes past the frame
        frame = next(_read(found[0], MOST_SECONDS, MOST_PIXELS, found[1], first), None)
        if frame is not None and frame.pixels is not None and (first is None or abs(frame.seconds - first) < 1):
            target = folder / f"{Path(name).name}.png"
            Image.fromarray(frame.pixels).save(target)
            return target
    raise ImageError(f"{name} can't be found any more")


def _report(path: Path, every: float, max_pixels: int) -> Iterator[Frame]:
    """Yield frames, and last a Frame that says what went wrong, if anything did."""
    found = 0
    try:
        for frame in _read(path, every, max_pixels):
            found += 1
            yield frame
    except ImageError as error:
        read = f"; {found:,} frames were read" if found else ""
        yield Frame(str(path), None, error=f"{error}{read}", partial=found > 0)


def _read(path: Path, every: float, max_pixels: int, due: float = 0.0, seek: float | None = None) -> Iterator[Frame]:
    """Yield the readable frames from a time on, decoding from a place near it or from the beginning; raises ImageError.

    Between frames that are far apart it seeks too. After a seek that went past its target, every frame is decoded.
    """
    try:
        for frame in _read_once(path, every, max_pixels, due, seek, jumps=seek is None):
            due = (math.floor(frame.seconds / every + 1e-6) + 1) * every
            yield frame
    except _MissedError:
        yield from _read_once(path, every, max_pixels, due, None, jumps=False)


class _MissedError(Exception):
    """A seek went past its target."""


def _read_once(
    path: Path, every: float, max_pixels: int, due: float, seek: float | None, *, jumps: bool
) -> Iterator[Frame]:
    """Yield frames as `_read`, in one pass; raises ImageError, _MissedError."""
    if not is_installed():
        raise ImageError(f"{path} is a video, and {REMEDY}")
    import av
    from av.error import FFmpegError

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(f"{path} is not a regular file, so it can't be read as a video")
        with path.open("rb") as file, av.open(file, options={"format_whitelist": CONTAINERS}) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise ImageError(f"{path} has no video stream")
            walk = _Walk(path, stream, every, max_pixels)
            walk.jumps = jumps and bool(SEEKABLE & set(container.format.name.split(",")))
            if seek is not None:
                walk.seek(container, seek)
            yield from walk.frames(container, due)
    except (ImageError, _MissedError):
        raise
    except FileNotFoundError:
        raise ImageError(f"can't read {path}: no such file") from None
    except (FFmpegError, OSError, ValueError, OverflowError, MemoryError, NotImplementedError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{path} can't be read as a video: {' '.join(said.split())[:160]}") from error


class _Walk:
    """One pass over a video's packets.

    Raises:
        ImageError: its frames are too large, it lasts too long, or too many frames were asked for.
    """

    def __init__(self, path: Path, stream: Any, every: float, max_pixels: int) -> None:
        self.path, self.stream, self.every, self.max_pixels = path, stream, every, max_pixels
        self.decimals = next((places for places in range(1, 6) if abs(round(every, places) - every) < 1e-9), 6)
        self.step = 1 / float(stream.average_rate or 25)
        self.start = float((stream.start_time or 0) * (stream.time_base or Fraction(1)))
        self.last, self.frame_count = 0.0, 0
        self.packets: Any = None
        self.broken: list[str] = []
        """Places that can't be read, each with the time of the frame before it."""
        self.jumps = False
        """Whether to seek when the next wanted frame is far away."""
        self.key: float | None = None
        """Time of the last key frame."""
        self.key_distance = math.inf
        """The longest time from one key frame to the next so far."""
        self.sought: float | None = None
        """Target of a seek, until a frame before it is decoded."""
        self.jumped = -1.0
        """Target of the last seek."""
        self._check_size(stream.codec_context.width or 0, stream.codec_context.height or 0)
        self.length = _length(stream)
        if self.length is not None and self.length > MOST_SECONDS:
            raise ImageError(
                f"{path} lasts {self.length:,.0f} seconds, more than the limit of {MOST_SECONDS:,}; cut it"
            )
        if self.length is not None and self.length / max(every, self.step) > MOST_FRAMES:
            raise ImageError(
                f"{path} lasts {self.length:,.0f} seconds, of which more than {MOST_FRAMES:,} frames would be taken; "
                "take fewer by a larger --every"
            )

    def frames(self, container: Any, due: float) -> Iterator[Frame]:
        """Yield the frames that are due; raises ImageError at the end for what couldn't be read."""
        self.stream.codec_context.options = {"max_pixels": str(2 * self.max_pixels + 2**16)}  # it counts margins too
        self.stream.thread_type, self.stream.codec_context.thread_count = "AUTO", THREADS
        for decoded in self._decode(container):
            seconds = self.last
            if seconds < due - 1e-6:
                if self._is_far(due):
                    self.sought = self.jumped = due
                    self.seek(container, max(0.0, due - MARGIN * self.step))
                continue
            count = math.floor(seconds / self.every + 1e-6)
            due = (count + 1) * self.every
            if self.frame_count == MOST_FRAMES:
                raise ImageError(
                    f"{self.path} has more than {MOST_FRAMES:,} frames to take; take fewer by a larger --every"
                )
            self.frame_count += 1
            at = count * self.every
            yield Frame(f"{self.path}@{at:.{self.decimals}f}s", self._pixels(decoded), seconds)
        cut = self.length is not None and self.last + self.step + 1 < self.length
        if self.broken or cut:
            ends = [f"it ends after {self.last:.1f} of {self.length:.1f} seconds"] if cut else []
            first = [f"{len(self.broken):,} pieces are damaged, the first {self.broken[0]}"] if self.broken else []
            raise ImageError(f"{self.path} is not whole: {'; '.join([*first, *ends])}")
        if not self.frame_count:
            raise ImageError(f"{self.path} has no frames")

    def seek(self, container: Any, seconds: float) -> None:
        """Continue decoding at the key frame before a time."""
        container.seek(int((seconds + self.start) / self.stream.time_base), stream=self.stream)
        self.packets, self.key = container.demux(self.stream), None

    def _is_far(self, due: float) -> bool:
        """Return whether seeking a time is cheaper than decoding all frames up to it."""
        if not self.jumps or self.length is None or due + self.step >= self.length or due == self.jumped:
            return False
        return due - self.last > 2 * self.key_distance + MARGIN * self.step

    def _note_key(self, frame: Any, seconds: float) -> None:
        """Record the distance between key frames."""
        if frame.key_frame and self.key is not None and seconds > self.key:
            known = 0.0 if math.isinf(self.key_distance) else self.key_distance
            self.key_distance = max(known, seconds - self.key)
        self.key = seconds if frame.key_frame else self.key

    def _decode(self, container: Any) -> Iterator[Any]:
        """Yield every intact frame and record its time; note what is damaged."""
        from av.error import FFmpegError

        self.packets = self.packets or container.demux(self.stream)
        while True:
            packets = self.packets
            try:
                packet = next(packets, None)
                found = [] if packet is None else packet.decode()
            except FFmpegError as error:
                self.broken.append(f"after {self.last:.1f} seconds ({error.strerror})")
                if isinstance(error, OSError):  # the file itself
                    return
                continue
            if packet is None:
                return
            for frame in found:
                if self._accept(frame):
                    yield frame
                if packets is not self.packets:
                    break

    def _accept(self, frame: Any) -> bool:
        """Record a frame's time; return whether the frame is intact. Raises _MissedError after a seek past its
        target."""
        seconds = self.last + self.step if frame.time is None else frame.time - self.start
        if not seconds <= MOST_SECONDS or frame.is_corrupt:
            if self.sought is None:  # else it is shown before the key frame, and refers to frames before that
                self.broken.append(f"after {self.last:.1f} seconds")
            return False
        if self.sought is not None and (frame.time is None or seconds > self.sought + 1e-6):
            raise _MissedError
        self.sought = None
        self._note_key(frame, seconds)
        self.last = max(seconds, 0.0)
        return True

    def _pixels(self, frame: Any) -> UInt8[np.ndarray, "row col 3"]:
        self._check_size(frame.width, frame.height)
        pixels = frame.to_ndarray(format="rgb24")
        return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))

    def _check_size(self, cols: int, rows: int) -> None:
        if rows * cols > self.max_pixels:
            raise ImageError(
                f"{self.path} has frames of {cols} x {rows} pixels, more than the limit of {self.max_pixels:,}"
            )


def _length(stream: Any) -> float | None:
    """Return a stream's own duration in seconds; None if only the file states one, which covers sound too."""
    if stream.duration is not None and stream.time_base:
        return float(stream.duration * stream.time_base)
    hours, _, rest = str(stream.metadata.get("DURATION", "")).partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        whole = stream.container.duration
        return whole / 1_000_000 if whole and len(stream.container.streams) == 1 else None
