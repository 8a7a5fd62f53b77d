"""From images to labels, or to features: one image or a stream of them, from bytes, files, arrays or Pillow images.

Doesn't import torch: a model that was exported for another engine runs without it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

from vitreous.engines.base import PRECISIONS
from vitreous.engines.exported_folder import ExportedFolder
from vitreous.engines.measured_engine import MeasuredEngine
from vitreous.engines.selection import choose_engine, settle
from vitreous.errors import ConfigError, UnknownName, check_count
from vitreous.images.formats import is_video
from vitreous.images.inputs import Image, Ready, is_single, prepare, prepare_all
from vitreous.images.video import check_every, frames
from vitreous.prediction import DecisionOptions, Prediction, name_unknown
from vitreous.runtime.data_frames import data_frame
from vitreous.runtime.display import Shown
from vitreous.runtime.pipeline import overlap
from vitreous.shapes import Float32, Int64, Pixels
from vitreous.weights.options import Report

if TYPE_CHECKING:
    import pandas
    import torch

    from vitreous.engines.torch_engine import TorchEngine
    from vitreous.model.swin import Swin
    from vitreous.model.vit import ViT
    from vitreous.shapes import Float
    from vitreous.weights.model_folder import Computing, ModelFolder

Ranked = tuple[tuple[str, float], ...]
"""Classes with their probabilities, the most probable first."""
CLAIMED = 0.5
"""Probability from which a class is predicted by multilabel models."""
NAMED = 8
"""Number of classes that a Predictor lists in its own description, at most."""
HEADLESS = (
    "this model has no head, so it can't classify: use its .features(images), .tokens(images) or .maps(images), "
    "give it a new head (vitreous.load(PATH, classes=...)), or train one (vitreous train DATA --recipe finetune "
    "--weights PATH)"
)
OVERFLOWN = "the model's outputs for this image are not finite numbers; try --precision fp32, or another model"
"""Why an image has no prediction although it could be read."""


class Predictor(Shown):
    """A model ready to classify images or, with or without a head, to compute features.

    Images go through the preprocessing that travels with the weights.

    Args:
        folder: the model and everything that belongs to it, or an exported model.
        device: auto, cpu, cuda or mps.
        batch: most images in one pass through the model.
        precision: fp32; bf16; int8, for a model that was quantised; auto: bf16 on hardware with fast bf16 arithmetic.
        top: classes listed in each prediction, most probable first.
        engine: auto, torch, onnxruntime or openvino (`engines/selection.py`).
        compile: on an NVIDIA GPU, compile the model with torch.compile.

    Raises:
        UserError: the device or the engine is not available, or a setting is invalid.
    """

    def __init__(
        self,
        folder: "ModelFolder | ExportedFolder",
        device: str = "auto",
        batch: int = 32,
        precision: str = "fp32",
        top: int = 5,
        engine: str = "auto",
        *,
        compile: bool = False,
    ) -> None:
        if precision not in PRECISIONS:
            raise UnknownName("precision", precision, PRECISIONS)
        for name, value in (("batch", batch), ("top", top)):
            check_count(name, value)
        if type(compile) is not bool:
            raise ConfigError(f"compile is {compile!r}; it must be True or False")
        self.engine = choose_engine(folder, engine, device, precision, compile=compile)
        """The engine that computes."""
        self.folder, self.batch, self.top = folder, batch, min(top, len(folder.classes))
        self.report: Report | None = None
        """What was changed in the weights when they were loaded, if anything."""
        self.decision = DecisionOptions()
        """The threshold for unknown, and test-time augmentation."""
        self.path = ""
        """Where the model was loaded from, as given; "" for one from memory."""
        self.load_options: dict[str, Any] = {}
        """The options with which its weights were loaded, as given."""

    def __str__(self) -> str:
        folder, size = self.folder, self.folder.preprocess.size
        known = f"{len(folder.classes):,} classes: {', '.join(folder.classes[:NAMED])}" if folder.classes else "no head"
        more = ", ..." if len(folder.classes) > NAMED else ""
        lines = {
            "model": self.path or "from memory",
            "shape": folder.description,
            "images": f"{size[0]}x{size[1]} pixels",
            "labels": f"{known}{more}",
            "device": f"{self.device}{f', merging {folder.merge} pairs in each block' if folder.merge else ''}",
        }
        return "\n".join(f"{name:<8}{said}" for name, said in lines.items())

    def __repr__(self) -> str:
        """Return one line: where the model was loaded from, what it is, and how many classes it knows."""
        classes = len(self.folder.classes)
        return (
            f"<Predictor {self.path or 'from memory'}: {self.folder.description}, {classes:,} classes, {self.device}>"
        )

    @classmethod
    def load(
        cls, path: str | Path, device: str = "auto", batch: int = 32, precision: str = "fp32", top: int = 5
    ) -> "Predictor":
        """Load a model folder, a run folder's exported model, a file or folder of foreign weights, or a name on the Hub.

        Raises:
            CheckpointError: there is nothing that can be loaded; the message says what is wrong.
        """
        from vitreous.weights.loading import open_model

        folder, report = open_model(path)
        predictor = cls(folder, device, batch, precision, top)
        predictor.report, predictor.path = report, str(path)
        return predictor

    from_pretrained = load
    """An alias: the name that transformers and huggingface_hub use."""

    @property
    def model(self) -> "Computing":
        """The torch module itself; raises ConfigError for an exported model."""
        return self._torch.model

    @property
    def device(self) -> Any:
        """Where it computes: a torch.device or, for an exported model, the device's name."""
        return self.engine.device

    @property
    def bf16(self) -> bool:
        """Whether it computes in bfloat16."""
        return self.engine.precision == "bf16"

    @property
    def _torch(self) -> "TorchEngine":
        """The engine that holds the torch model; raises ConfigError if the model was exported."""
        if isinstance(self.folder, ExportedFolder):
            _ = self.folder.model
        return cast("TorchEngine", self.engine)

    @overload
    def __call__(self, images: list[Image] | tuple[Image, ...], every: float = 1.0) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Image, every: float = 1.0) -> Prediction: ...
    def __call__(self, images: Image, every: float = 1.0) -> Prediction | list[Prediction]:
        """Classify one image, or many in their order.

        An image is the bytes of a file, a path, a uint8 array of shape (row, col), (row, col, channel), a Pillow image
        or a frame of `vitreous.frames`. Any other iterable of these counts as many images; a video's path in it stands
        for its frames, one every `every` seconds. An image that can't be read gives a Prediction with `error` set.

        Raises:
            ConfigError: the model has no head.
        """
        self.check_head()
        if is_single(images):
            return next(self._classify([prepare(images, 1, self.folder)]))
        return list(self.predict_many(images, every))

    def predict_many(self, images: Iterable[Image], every: float = 1.0, skip: int = 0) -> Iterator[Prediction]:
        """Classify a stream of images, in order, decoding ahead of the model with bounded memory.

        A video's path stands for its frames, one every `every` seconds, named clip.mp4@12.0s. An unreadable image, or
        the unreadable rest of a video, gives a Prediction with `error` set; the rest continues. The first `skip` images
        and frames are skipped; predictions for the rest are as without `skip` if it is a multiple of the batch size.

        Raises:
            ConfigError: the model has no head, or `every` is out of range.
        """
        self.check_head()
        check_every(every)
        if skip:
            views = 2 if self.decision.tta == "flip" else 1
            settle(self.engine, self.make_black_images(self.batch), -(-skip // self.batch) * views)
        return overlap(
            islice(self._open(images, every), skip, None),
            lambda numbered: prepare(numbered[1], numbered[0], self.folder),
            lambda group: list(self._classify(group)),
            self.batch,
        )

    def table(self, images: Image, every: float = 1.0) -> "pandas.DataFrame":
        """Classify as a call does, and return a pandas DataFrame with one row per image, in order.

        Columns: name, label, score; label2, score2, ... up to `top`; unknown, whether the best class is below the
        threshold; error, why there is no label (else None); for multilabel models labels, a tuple of classes.

        Raises:
            ConfigError: the model has no head, or pandas is not installed.
        """
        found = self([images] if is_single(images) else images, every)
        columns: dict[str, list[Any]] = {"name": [one.name for one in found]}
        if self.folder.multilabel:
            columns["labels"] = [one.labels for one in found]
        columns |= {"label": [one.label for one in found], "score": [one.score for one in found]}
        for place in range(1, self.top):
            for kind, which in (("label", 0), ("score", 1)):
                columns[f"{kind}{place + 1}"] = [one.top[place][which] if one.top else None for one in found]
        columns |= {"unknown": [one.unknown for one in found], "error": [one.error for one in found]}
        return data_frame(columns)

    @property
    def model_facts(self) -> dict[str, Any]:
        """Return where the model was loaded from and with which options, as JSON values."""
        known = {"taken": self.load_options, "merge": self.folder.merge}
        return {"model": self.path, **{name: value for name, value in known.items() if value}}

    def check_head(self) -> None:
        """Raise ConfigError if the model has no head."""
        if not self.folder.classes:
            raise ConfigError(HEADLESS)

    def features(
        self, images: Image
    ) -> "Float[torch.Tensor, '*image features'] | Float32[np.ndarray, '*image features']":
        """Return each image's features, the input of a head, in float32 on the CPU; a single vector for one image.

        The result is a torch tensor or, for a model that was exported for an engine without torch, a NumPy array.

        Args:
            images: one or many, as in a call.

        Raises:
            ImageError: an image can't be read. ConfigError: an export without features.
        """
        if self.engine.precision != "int8" and not isinstance(self.folder, ExportedFolder):
            return self._pass(images, lambda model: model.features)
        single, found = self._apply(images, self.engine.features)
        vectors = found[0][0] if single else np.concatenate(found)
        if isinstance(self.folder, ExportedFolder):
            return vectors
        import torch

        return torch.from_numpy(vectors)

    def tokens(self, images: Image) -> "Float[torch.Tensor, '*image token dim']":
        """Return a ViT's sequence after the last block and, unless it comes after pooling, the final norm.

        Prefix tokens ([class], distillation, registers) come first, then the patches row by row. See `features`.

        Raises:
            ImageError: an image can't be read. ConfigError: a ResNet or EfficientNet, which has no tokens, or an
                exported model.
        """
        return self._pass(images, lambda _: self._transformer("tokens").tokens)

    def maps(self, images: Image, layer: int = -1) -> "Float[torch.Tensor, '*image grid_row grid_col dim']":
        """Return the patches' vectors after a block as maps, through the final norm where it applies to the sequence.

        Args:
            images: one or many, as in a call.
            layer: the block; 0 is the first, -1 the last.

        Raises:
            ImageError: an unreadable image. ConfigError: no such block, a ResNet or EfficientNet, or an exported model.
        """
        model = self._transformer("maps of patches")
        return self._pass(images, lambda _: lambda pixels: model.maps(pixels, [layer])[0])

    def _transformer(self, what: str) -> "ViT | Swin":
        from vitreous.model.kinds import name_kind
        from vitreous.model.swin import Swin
        from vitreous.model.vit import ViT

        if not isinstance(self.model, (ViT, Swin)):
            who = "a model that merges its patches" if self.folder.merge else name_kind(self.folder.model.config.KIND)
            raise ConfigError(f"{who} has no {what}; use its .features(images)")
        return self.model

    def _pass(
        self, images: Image, choose: "Callable[[Computing], Callable[[torch.Tensor], torch.Tensor]]"
    ) -> "torch.Tensor":
        """Pass one image or many through a part of the torch model, a batch at a time; raises ConfigError in int8."""
        import torch

        from vitreous.engines.torch_engine import to_channels_first

        if self.engine.precision == "int8":
            raise ConfigError("tokens and maps can't be computed in int8; load the model with precision fp32 or bf16")
        engine, see = self._torch, choose(self.model)
        single, found = self._apply(images, lambda pixels: engine.pass_through(see, to_channels_first(pixels)).cpu())
        return found[0][0] if single else torch.cat(found)

    def _apply(self, images: Image, see: Callable[[np.ndarray], Any]) -> tuple[bool, list[Any]]:
        """Return whether a single image was given, and the results for the images, a batch at a time."""
        found: list[Any] = []
        source = prepare_all(images, self.folder)
        while group := [pixels for _, pixels in islice(source, self.batch)]:
            found.append(see(np.stack(group)))
        if not found:
            raise ConfigError("there are no images")
        return is_single(images), found

    def seal(self) -> None:
        """Promise that weights, modules, hooks and mode no longer change, which saves a check per pass (4% of a small
        model's time)."""
        if not isinstance(self.folder, ExportedFolder):
            self._torch.seal()

    def fix_engine(self) -> None:
        """Fix the engine for everything that follows: if there are several, measure now which is the fastest."""
        if isinstance(self.engine, MeasuredEngine):
            self.engine.fix(self.make_black_images(self.batch))

    def make_black_images(self, count: int) -> Pixels[np.ndarray, "batch row col channel"]:
        """Return this many black images as the model sees them, before normalisation."""
        preprocess = self.folder.preprocess
        shape = (count, *preprocess.size, preprocess.channels)
        return np.zeros(shape, np.float32 if preprocess.keeps_channels else np.uint8)

    def _open(self, images: Iterable[Image], every: float) -> Iterator[tuple[int, Image | Ready]]:
        """Yield each image with its number, videos as their frames, prepared here since full ones would fill the
        memory."""
        for number, image in enumerate(images, start=1):
            if not (isinstance(image, (str, Path)) and is_video(image)):
                yield number, image
                continue
            for frame in frames(image, every, self.folder.decode.max_pixels):
                yield number, prepare(frame, number, self.folder)

    def logits(self, pixels: "Pixels[torch.Tensor, 'batch channel row col']") -> "Float[torch.Tensor, 'batch label']":
        """Return the model's outputs for preprocessed pixels, in float32 on the model's device."""
        if not isinstance(self.folder, ExportedFolder):
            return self._torch.compute("forward", pixels)
        import torch

        return torch.from_numpy(self.engine.logits(pixels.permute(0, 2, 3, 1).cpu().numpy()))

    def _classify(self, group: list[Ready]) -> Iterator[Prediction]:
        """Pass a batch through the model; images without pixels keep their place."""
        pixels = [ready.pixels for ready in group if ready.pixels is not None]
        rows: Iterator[Ranked] = iter(self.rank(self.probabilities(np.stack(pixels))) if pixels else [])
        for ready in group:
            yield self.decide(ready, () if ready.pixels is None else next(rows))

    def decide(self, ready: Ready, ranked: Ranked) -> Prediction:
        """Build an image's prediction from its classes, ordered by probability; one without pixels says why it has none."""
        if ready.pixels is None:
            return Prediction(ready.name, error=ready.error, partial=ready.partial)
        found = self._decide(ready.name, ranked)
        return replace(found, filled=ready.filled, reduction=ready.reduction)

    def _decide(self, name: str, ranked: Ranked) -> Prediction:
        (label, score), threshold = ranked[0], self.decision.threshold
        if not all(isfinite(value) for _, value in ranked):
            return Prediction(name, error=OVERFLOWN)
        if not self.folder.multilabel:
            unknown = threshold is not None and score < threshold
            said = name_unknown(self.folder.classes) if unknown else label
            return Prediction(name, said, score, ranked, unknown=unknown, certainty=score)
        least = CLAIMED if threshold is None else threshold
        labels = tuple(label for label, score in ranked if score >= least)
        top, certainty = ranked[: max(self.top, len(labels))], min(abs(score - least) for _, score in ranked)
        return Prediction(name, label, score, top, labels=labels, certainty=certainty)

    def rank(self, probabilities: Float32[np.ndarray, "batch label"], top: int | None = None) -> list[Ranked]:
        """Return each image's most probable classes (None: `self.top` of them); for multilabel models, all classes."""
        classes = self.folder.classes
        count = len(classes) if self.folder.multilabel else min(top or self.top, len(classes))
        labels = find_largest(probabilities, count)
        scores = np.take_along_axis(probabilities, labels, axis=1)
        return [
            tuple((classes[label], score) for label, score in zip(*row, strict=True))
            for row in zip(labels.tolist(), scores.tolist(), strict=True)
        ]

    def probabilities(self, pixels: Pixels[np.ndarray, "batch row col channel"]) -> Float32[np.ndarray, "batch label"]:
        """Return each class's probability, averaged over the views of test-time augmentation."""
        mirrored = [np.flip(pixels, 2).copy(order="K")] if self.decision.tta == "flip" else []
        found = [self.engine.probabilities(view) for view in (pixels, *mirrored)]
        return found[0] if len(found) == 1 else np.stack(found).mean(0)


def find_largest(scores: Float32[np.ndarray, "row label"], count: int) -> Int64[np.ndarray, "row count"]:
    """Return the indices of each row's largest values, the largest first; of equal values the first comes first."""
    found = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)
