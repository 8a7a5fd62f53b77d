"""How images become the model's input: settings only, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from vitreous.errors import ConfigError, UnknownName
from vitreous.images.formats import list_suffixes

Mode = Literal["RGB", "L"] | int
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Rounding = Literal["nearest", "timm", "torchvision", "transformers", "tensorflow"]

SUFFIXES = list_suffixes()
"""Extensions of the files in a folder that count as images; the format is then recognised by content alone."""
HALF = (0.5, 0.5, 0.5)
MOST_CHANNELS = 1024
"""Most channels of an image; imaging spectrometers have a few hundred."""
SCALES = ("exact", "reduced")
MARGIN = 2
"""A JPEG decoded at a reduced scale keeps at least this many times the model's input on each side, so that resizing has
pixels to average."""
NO_KERNEL = "preprocess.interpolation lanczos needs preprocess.antialias; set it, or choose another interpolation"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DecodeConfig:
    """Limits and conventions for reading image files."""

    max_pixels: int = 89_478_485
    """Most pixels (rows x cols) of an image that is decoded; the header is checked before any pixel is (the default is
    Pillow's)."""
    max_bytes: int = 256 * 2**20
    """Largest file that is read, in bytes."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour over which transparent pixels are composited, 0 to 255."""
    max_memory: int = 0
    """Most bytes of memory for decoding an image; 0: an eighth of the machine's memory, at most 1 GiB. If max_pixels is
    raised, that rises in proportion."""
    max_expansion: int = 500
    """Most bytes of pixels per byte of the file, for images whose pixels take more than 64 MiB."""
    levels: tuple[float, float] | None = None
    """Values that become black and white in images with more than 8 bits per channel or with floats: 0 4095 for 12 bits
    stored in 16. None: 0 and 65535; floats, which then have no known range, are refused."""
    truncated: Literal["refuse", "fill"] = "refuse"
    """What to do with a JPEG whose last bytes are missing: refuse it as damaged, or fill the missing part with grey."""
    at_least: tuple[int, int] | None = None
    """Least rows and columns that a large JPEG keeps if it is decoded at 1/2, 1/4 or 1/8 of its size, which takes a
    fraction of the time; None: every JPEG is decoded at full size."""

    def __post_init__(self) -> None:
        if self.at_least is not None and min(self.at_least) < 1:
            raise ConfigError(f"decode.at_least is {self.at_least}; expected rows and columns of at least 1")
        if self.levels is not None and self.levels[0] == self.levels[1]:
            black, white = self.levels
            raise ConfigError(f"decode.levels are {black:g} and {white:g}; black and white must differ")


@dataclass(frozen=True)
class PreprocessConfig:
    """The only evaluation transform: resize, crop, normalise. It travels with the weights."""

    size: tuple[int, int] = (224, 224)
    """Rows and columns of the model's input, in pixels."""
    mode: Mode = "RGB"
    """The model's input: RGB (3 channels) or L (1 channel) in 8 bits; or a number of channels, which are kept as they
    are in the files, at full depth."""
    resize: Literal["short", "squash", "border"] = "short"
    """short: scale the shorter side to size / crop, keeping the aspect. squash: scale both sides to size / crop.
    border: scale the longer side, keeping the aspect, and fill the rest."""
    crop: float = 0.875
    """Central fraction kept after resizing, above 0, at most 1."""
    interpolation: Interpolation = "bicubic"
    """Kernel of the resize."""
    mean: tuple[float, ...] = HALF
    """Subtracted from each channel after scaling to 0..1; one value, or one per channel."""
    std: tuple[float, ...] = HALF
    """Divides each channel after the mean is subtracted; one value, or one per channel."""
    rounding: Rounding = "nearest"
    """How sizes are rounded to whole pixels: to the nearest, or as the code that the weights come from does it. timm:
    size / crop and the longer side are rounded down. torchvision, transformers: the longer side is rounded down.
    tensorflow: sizes are computed in float32. timm, torchvision: the crop's offset is rounded to even."""
    antialias: bool = True
    """Widen the kernel when shrinking images, as Pillow does. False: don't, as TensorFlow's resize by default."""
    fill: Literal["mean", "black"] = "mean"
    """What fills a border."""
    colours: tuple[int, int, int] = (0, 1, 2)
    """Channels that are shown as red, green and blue in pictures of images with more than 3 channels; 0 is the
    first."""

    def __post_init__(self) -> None:
        if isinstance(self.mode, int) and not 1 <= self.mode <= MOST_CHANNELS:
            raise ConfigError(f"preprocess.mode is {self.mode}; it must be RGB, L, or 1 to {MOST_CHANNELS} channels")
        if self.channels > 3 and not 0 <= min(self.colours) <= max(self.colours) < self.channels:
            raise ConfigError(
                f"preprocess.colours are {' '.join(map(str, self.colours))}; they must be 0 to {self.channels - 1}"
            )

    @property
    def channels(self) -> int:
        """Channels of the model's input."""
        return self.mode if isinstance(self.mode, int) else {"RGB": 3, "L": 1}[self.mode]

    @property
    def keeps_channels(self) -> bool:
        """Whether images keep their channels and depth, as float32; otherwise they become grey or RGB in uint8."""
        return isinstance(self.mode, int)

    @property
    def value_bytes(self) -> int:
        """Bytes of a pixel's value in one channel: uint8, or float32 if channels are kept as they are."""
        return 4 if self.keeps_channels else 1

    def compute_scale(self, channels: int) -> tuple[list[float], list[float]]:
        """Return, for each channel, the factor that normalises its pixels and the offset that is then subtracted;
        raises ConfigError if the mean and standard deviation have another number of channels."""
        mean, std = expand_per_channel(self.mean, channels), expand_per_channel(self.std, channels)
        return [1 / (255 * value) for value in std], [m / s for m, s in zip(mean, std, strict=True)]


def choose_decoding(config: DecodeConfig, scale: str | None, size: tuple[int, int]) -> DecodeConfig:
    """Return the settings for decoding at a `scale`. exact: at full size. reduced: large JPEGs at a fraction of their
    size that keeps MARGIN times the model's input (`size`: rows, columns) on each side. None: as `config` says. Raises
    UnknownName."""
    if scale not in (None, *SCALES):
        raise UnknownName("decoding", scale, SCALES)
    if scale is None:
        return config
    return replace(config, at_least=(MARGIN * size[0], MARGIN * size[1]) if scale == "reduced" else None)


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training images. Every draw is a function of (seed, epoch, example)."""

    crop: Literal["inception", "pad", "window", "eval"] = "inception"
    """inception: a crop of random area and aspect, resized. pad: padding by crop_pad, then a random window. window:
    resizing to more than the input size, then a random window (crop_window). eval: the evaluation crop."""
    crop_area: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest share of the image's area in an inception crop."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest aspect (cols / rows) of an inception crop."""
    crop_pad: int = 4
    """Pixels added to each side by a pad crop."""
    crop_fill: Literal["reflect", "black"] = "reflect"
    """What a pad crop adds: the image mirrored, or black."""
    crop_window: float = 0.875
    """Share of the resized rows and columns that a window crop shows, above 0, at most 1."""
    flip: bool = True
    """Mirror left and right with probability one half."""
    randaugment: tuple[int, float] = (0, 10.0)
    """RandAugment's layers, which are the operations per image (0: off), and their magnitude, where 10 is the papers'
    full strength: 2 15 is (2, 15)."""
    three_augment: bool = False
    """DeiT-III's 3-Augment: make each image grey, solarise it, or blur it, with equal probability."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation are multiplied by factors from 1 minus this to 1 plus this; 0: off."""
    erase: float = 0.0
    """Probability of random erasing, 0 to 1."""
    mixup: float = 0.0
    """Alpha of mixup's Beta distribution; 0 turns it off."""
    cutmix: float = 0.0
    """Alpha of cutmix's Beta distribution; 0 turns it off. With mixup on too, each example uses one of them, with
    equal probability."""
    mix_probability: float = 1.0
    """Share of the examples to which mixup or cutmix is applied, 0 to 1."""
    views: int = 1
    """Number of consecutive views of each image in training (repeated augmentation, 1902.05509). With 3, a batch holds
    three views of the same image, and an epoch a third of the images."""
    on: Literal["cpu", "device"] = "cpu"
    """Where images are augmented. device: workers only decode images and draw random numbers; crops, flips,
    RandAugment, erasing and mixing are computed for a whole batch on the model's device. The draws are the same; pixels
    differ as docs/data.md says."""
    canvas: float = 1.5
    """device: rows and columns of the images that are sent to the device, as a multiple of the model's; for inception
    crops only."""

    FORMER: ClassVar[dict[str, Any]] = {"randaugment_layers": 0, "randaugment_magnitude": 10}
    """Settings of earlier versions, with their defaults: a magnitude of 30 was full strength."""

    @staticmethod
    def renew(randaugment_layers: int, randaugment_magnitude: int) -> dict[str, Any]:
        """Return the current equivalent of settings of earlier versions."""
        return {"randaugment": [randaugment_layers, randaugment_magnitude / 3]}


def expand_per_channel(values: Sequence[float], channels: int) -> Sequence[float]:
    """Repeat a single value for every channel; for grey, reduce per-colour values to their mean."""
    if len(values) == channels:
        return values
    if channels == 1:
        return [sum(values) / len(values)]
    if len(values) == 1:
        return [values[0]] * channels
    raise ConfigError(f"mean and std have {len(values)} values, but the images have {channels} channels")
