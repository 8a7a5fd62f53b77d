"""A model's prediction for an image, and when the image counts as unknown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

from vitreous.errors import ConfigError, UnknownName, is_number
from vitreous.runtime.display import Shown, escape_text, format_text

AUGMENTATIONS = ("none", "flip")
UNKNOWN = "unknown"
"""The label of an image whose most probable class is below the threshold; for a model with a class of this name, see
`name_unknown`."""


@dataclass(frozen=True, repr=False)
class Prediction(Shown):
    """The model's answer for one image, or the reason why there is none."""

    name: str
    """The path, or "image 3" for an image without one, counted from 1."""
    label: str | None = None
    """The most probable class, or the label for unknown if its probability is below the threshold."""
    score: float | None = None
    """Probability of that class, 0 to 1: softmax, or for multilabel models the class's own sigmoid."""
    top: tuple[tuple[str, float], ...] = ()
    """The most probable classes with their probabilities, best first; includes all of `labels`."""
    error: str | None = None
    """Why there is no label, in one line."""
    partial: bool = False
    """Whether this is a video whose earlier frames were read, but whose rest could not be."""
    filled: bool = False
    """Whether the image is a JPEG that lacks its last bytes, filled with grey (decode.truncated)."""
    reduction: int = 1
    """By what the image's size was divided in decoding: more than 1 only for a large JPEG at reduced scale."""
    labels: tuple[str, ...] | None = None
    """For multilabel models: the classes whose probability is at least the threshold (one half by default), most
    probable first."""
    unknown: bool = False
    """Whether its most probable class, the first of `top`, is below the threshold."""
    certainty: float | None = None
    """How certain the model is, for sorting: the score; for multilabel models, how far the least certain class's
    probability is from the threshold."""

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.name}: {self.error}"
        said = self.label if self.labels is None else ", ".join(self.labels) or "none"
        return f"{self.name}: {said}   ({'   '.join(f'{label} {score:.1%}' for label, score in self.top)})"

    def __repr__(self) -> str:
        """Return one line: the image's name and its prediction."""
        if self.error is not None:
            return f"Prediction(name={self.name!r}, error={self.error!r})"
        said = f"label={self.label!r}" if self.labels is None else f"labels={self.labels!r}"
        return f"Prediction(name={self.name!r}, {said}, score={self.score:.4g})"

    def _repr_html_(self) -> str:
        """Return the classes with their probabilities as bars, for a notebook."""
        if self.error is not None:
            return format_text(self)
        said = self.label if self.labels is None else ", ".join(self.labels) or "none"
        rows = "".join(
            f'<tr><td style="text-align: left">{escape_text(label)}</td><td>{score:.1%}</td>'
            f'<td style="text-align: left"><div style="width: {120 * score:.0f}px; height: 8px; background: #2a78d6"></div></td></tr>'
            for label, score in self.top
        )
        return f"<div>{escape_text(self.name)}: <b>{escape_text(said)}</b><table>{rows}</table></div>"

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON values, with labels for multilabel models."""
        top = [{"label": label, "score": score} for label, score in self.top]
        found = {"name": self.name, "label": self.label, "score": self.score, "top": top, "error": self.error}
        found |= {"partial": True} if self.partial else {}
        found |= {"filled": True} if self.filled else {}
        found |= {"reduction": self.reduction} if self.reduction > 1 else {}
        found |= {"unknown": True} if self.unknown else {}
        return found if self.labels is None else {**found, "labels": list(self.labels)}


@dataclass(frozen=True)
class DecisionOptions:
    """How probabilities are computed and decisions made from them."""

    threshold: float | None = None
    """Probability below which an image is unknown or, for multilabel models, a class is absent (one half by default);
    above 0, at most 1."""
    tta: Literal["none", "flip"] = "none"
    """Test-time augmentation. flip: average the probabilities of the image and of its mirror image."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not (is_number(self.threshold) and 0 < self.threshold <= 1):
            raise ConfigError(f"threshold is {self.threshold!r}; it must be above 0 and at most 1")
        if self.tta not in AUGMENTATIONS:
            raise UnknownName("test-time augmentation", self.tta, AUGMENTATIONS)


def name_unknown(classes: Sequence[str]) -> str:
    """Return the label for an image below the threshold: UNKNOWN, or a variant of it that isn't a class of the
    model."""
    used = {name.casefold() for name in classes}
    words = (f"{UNKNOWN}-{number}" if number > 1 else UNKNOWN for number in count(1))
    return next(word for word in words if word not in used)
