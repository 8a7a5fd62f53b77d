"""Recommended pre-trained models by short names: location, size, licence and accuracy. No torch.

Facts are timm's (`pretrained_cfg` of timm 1.0.31) or the authors'; each accuracy names its source. Unpublished facts
are None or empty. `find_repository` handles other spellings of a name (timm's own, the Hub's).
"""

import difflib
import re
from dataclasses import dataclass

TIMM_RESULTS = "timm, results/results-imagenet.csv"


@dataclass(frozen=True)
class Accuracy:
    """A published top-1 accuracy on ImageNet's 50,000 validation images."""

    top1: float
    """Percent."""
    how: str
    """fine-tuned, linear (a linear layer on frozen features), zero-shot, or linear, ReaL labels."""
    image: int
    """Pixels per side at which it was measured."""
    source: str


@dataclass(frozen=True)
class Recommended:
    """A pre-trained model on the Hub that vitreous supports."""

    name: str
    """The short name: a family and a size, Ti to L."""
    repository: str
    """owner/name on the Hugging Face Hub."""
    layout: str
    """Who writes files of this layout: timm or huggingface (transformers)."""
    parameters: int
    """Parameters of the whole file, including other towers and the head."""
    licence: str
    """By its SPDX name; dinov3-license is Meta's own."""
    resolution: int
    """Pixels per side that the file is for; another size resizes its positions."""
    image: int
    """Pixels per side that suffice for features of photographs, by the authors' own evaluation."""
    good_for: str
    accuracy: Accuracy | None = None
    gated: bool = False
    """Whether the licence must be accepted on the repository's page, and the token of that account given."""

    @property
    def bytes(self) -> int:
        """Size of the download, whose tensors are float32, without its header of a few kilobytes."""
        return 4 * self.parameters

    @property
    def timm(self) -> str:
        """timm's name of it; empty if the file isn't timm's."""
        return self.repository.removeprefix("timm/") if self.layout == "timm" else ""


def _timm(
    name: str, timm: str, parameters: int, image: tuple[int, int], good_for: str, accuracy: Accuracy
) -> Recommended:
    return Recommended(name, f"timm/{timm}", "timm", parameters, "apache-2.0", *image, good_for, accuracy)


def _dinov2(top1: float) -> Accuracy:
    return Accuracy(top1, "linear", 224, "facebookresearch/dinov2, README (with registers)")


def _dinov3(name: str, size: str, parameters: int, top1: float) -> Recommended:
    return Recommended(
        name=name,
        repository=f"facebook/dinov3-vit{size}16-pretrain-lvd1689m",
        layout="huggingface",
        parameters=parameters,
        licence="dinov3-license",
        resolution=224,
        image=256,
        good_for="features as they are, dense ones above all; its licence has to be accepted",
        accuracy=Accuracy(top1, "linear, ReaL labels", 512, "2508.10104, table 14"),
        gated=True,
    )


DINOV2 = "features as they are: few images, any kind of picture"
AUGREG = "fine-tuning; knows ImageNet's 1,000 classes"
DEIT3 = "fine-tuning on photographs; knows ImageNet's 1,000 classes"
RECOMMENDED = (
    _timm(
        "dinov2-s",
        "vit_small_patch14_reg4_dinov2.lvd142m",
        22_057_344,
        (518, 224),
        f"{DINOV2}; what auto takes",
        _dinov2(80.9),
    ),
    _timm("dinov2-b", "vit_base_patch14_reg4_dinov2.lvd142m", 86_582_016, (518, 224), DINOV2, _dinov2(84.6)),
    _timm(
        "dinov2-l",
        "vit_large_patch14_reg4_dinov2.lvd142m",
        304_370_688,
        (518, 224),
        f"{DINOV2}; wants a GPU",
        _dinov2(86.7),
    ),
    _timm(
        "augreg-ti",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        5_717_416,
        (224, 224),
        "the smallest and fastest; fine-tuning",
        Accuracy(75.454, "fine-tuned", 224, TIMM_RESULTS),
    ),
    _timm(
        "augreg-s",
        "vit_small_patch16_224.augreg_in21k_ft_in1k",
        22_050_664,
        (224, 224),
        AUGREG,
        Accuracy(81.384, "fine-tuned", 224, TIMM_RESULTS),
    ),
    _timm(
        "augreg-b",
        "vit_base_patch16_224.augreg_in21k_ft_in1k",
        86_567_656,
        (224, 224),
        AUGREG,
        Accuracy(84.532, "fine-tuned", 224, TIMM_RESULTS),
    ),
    _timm(
        "deit3-s",
        "deit3_small_patch16_224.fb_in22k_ft_in1k",
        22_059_496,
        (224, 224),
        DEIT3,
        Accuracy(83.074, "fine-tuned", 224, TIMM_RESULTS),
    ),
    _timm(
        "deit3-b",
        "deit3_base_patch16_224.fb_in22k_ft_in1k",
        86_585_320,
        (224, 224),
        DEIT3,
        Accuracy(85.700, "fine-tuned", 224, TIMM_RESULTS),
    ),
    _timm(
        "siglip2-b",
        "vit_base_patch16_siglip_224.v2_webli",
        92_884_224,
        (224, 224),
        "features that follow words: what a picture is about",
        Accuracy(78.2, "zero-shot", 224, "2502.14786, table 1"),
    ),
    Recommended(
        name="clip-b",
        repository="openai/clip-vit-base-patch16",
        layout="huggingface",
        parameters=149_620_737,
        licence="mit",
        resolution=224,
        image=224,
        good_for="features that follow words; its text tower is downloaded too, and left out",
        accuracy=Accuracy(80.2, "linear", 224, "2103.00020, table 10"),
    ),
    Recommended(
        name="mae-b",
        repository="timm/vit_base_patch16_224.mae",
        layout="timm",
        parameters=85_798_656,
        licence="cc-by-nc-4.0",
        resolution=224,
        image=224,
        good_for="fine-tuning on many images; weak as frozen features; not for commercial use",
        accuracy=Accuracy(83.6, "fine-tuned", 224, "2111.06377, table 3"),
    ),
    _timm(
        "bit-r50",
        "resnetv2_50x1_bit.goog_in21k",
        68_256_659,
        (224, 224),
        "a ResNet: fine-tuning, small objects; knows ImageNet-21k's classes",
        Accuracy(80.68, "fine-tuned", 480, "google-research/big_transfer, README (ImageNet results)"),
    ),
    _dinov3("dinov3-s", "s", 21_595_008, 87.0),
    _dinov3("dinov3-b", "b", 85_657_344, 89.3),
)
AUTO = RECOMMENDED[0]
"""The meaning of the word auto, if available."""
BY_NAME = {one.name: one for one in RECOMMENDED}
OF_FILES = "safetensors|npz|pth|pt|bin|ckpt|pyth|tar|pkl|json|jsonl|csv"
OF_TIMM = re.compile(rf"(aimv2|beit|beitv2|deit|deit3|eva|eva02|flexivit|resnetv2|vit)_\w+\.(?!(?:{OF_FILES})$)\w+")
"""timm's names of weights of the supported architectures: architecture.tag. A file's extension is no tag."""


def find_repository(name: str) -> str | None:
    """Return the repository for a short name or a name of timm's; None for any other text.

    >>> find_repository("dinov2-s")
    'timm/vit_small_patch14_reg4_dinov2.lvd142m'
    >>> find_repository("vit_base_patch16_clip_224.laion2b")
    'timm/vit_base_patch16_clip_224.laion2b'
    >>> find_repository("vit_base.pth") is None
    True
    """
    if name in BY_NAME:
        return BY_NAME[name].repository
    return f"timm/{name}" if OF_TIMM.fullmatch(name) else None


def find_recommended(name: str) -> Recommended | None:
    """Return the facts about a model by any of its names, at any revision: short, timm's, the Hub's; None if it
    isn't listed."""
    repository = name.partition("@")[0].removeprefix("hf-hub:").removeprefix("hf:")
    repository = find_repository(repository) or repository
    return next((one for one in RECOMMENDED if one.repository == repository), None)


def suggest_recommended(name: str) -> str:
    """Return the rest of a sentence that suggests the short name that was probably meant, or nothing."""
    near = difflib.get_close_matches(name.lower(), BY_NAME, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}? (vitreous models --pretrained lists them)" if near else ""
