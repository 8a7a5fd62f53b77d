"""The stream of training examples for augmentation on the device: whole images at one size, and what is drawn for each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from vitreous.data.stream.interleaving import choose_example, draw_partner
from vitreous.data.stream.loader import MIXING, OWN, PARTNER, Batch, Example, TrainStream, count_bytes, read_label
from vitreous.data.stream.order import find_position, restart_generator, seed_generator
from vitreous.images.canvas import MIXING as MIXED
from vitreous.images.canvas import choose_canvas, draw_mixing, draw_view
from vitreous.images.config import AugmentConfig, PreprocessConfig
from vitreous.images.rendering import render
from vitreous.shapes import Size


@dataclass(frozen=True)
class CanvasStream(TrainStream):
    """The same examples with the same draws as `TrainStream`'s, not yet carried out."""

    @property
    def example_bytes(self) -> int:
        """Bytes of an example's canvas, and of its partner's, as they travel."""
        canvas, shown = (
            choose_canvas(self.augment, self.preprocess),
            2 if self.augment.mixup or self.augment.cutmix else 1,
        )
        return shown * count_bytes(replace(self.preprocess, size=tuple(canvas)))

    def examples(self, samples: Iterable[int]) -> Iterator[Example]:
        """Yield the examples of these samples; raises ImageError."""
        own, mixing, size = seed_generator(0), seed_generator(0), Size(*self.preprocess.size)
        for sample in samples:
            epoch, index = find_position(sample, len(self))
            chosen = choose_example(self.source, self.seed, sample, self.augment.views)
            label = read_label(self.source, chosen)
            pixels, draws = self._draw(chosen, restart_generator(own, self.seed, epoch, index, OWN))
            partner, weight = label, 1.0
            if self.augment.mixup or self.augment.cutmix:
                rng = restart_generator(mixing, self.seed, epoch, index, MIXING)
                other = draw_partner(self.source, rng)
                second, drawn, mixed = pixels, draws, [0.0] * MIXED
                if rng.random() < self.augment.mix_probability:
                    partner = read_label(self.source, other)
                    second, drawn = self._draw(other, restart_generator(own, self.seed, epoch, index, PARTNER))
                    mixed, weight = draw_mixing(size, self.augment, rng)
                pixels, draws = np.concatenate([pixels, second], axis=2), [*draws, *drawn, *mixed]
            yield Example(pixels, label, partner, weight, chosen, np.array(draws, dtype=np.float32))

    def _draw(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
        data, name = self.source.read(index), self.source.names[index]
        return draw_view(data, self.augment, self.preprocess, self.decode, rng, name)


def render_batches(
    batches: Iterable[Batch], config: AugmentConfig, preprocess: PreprocessConfig, device: torch.device
) -> Iterator[Batch]:
    """Yield batches of canvases as the model sees them, on a device."""
    for batch in batches:
        there = batch.to(device)
        assert there.draws is not None and there.pixels.shape[2:] == choose_canvas(config, preprocess)
        yield replace(there, pixels=render(there.pixels, there.draws, config, preprocess), draws=None)
