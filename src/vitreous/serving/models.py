"""The served models, each with its own queue; a model is replaced by a new version when its files change."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from importlib import import_module

import numpy as np

from vitreous.errors import CheckpointError, ConfigError, VitreousError
from vitreous.images.inputs import Ready, prepare
from vitreous.predictor import HEADLESS, Predictor
from vitreous.runtime.threads import count_threads
from vitreous.serving.batcher import Answer, Batcher
from vitreous.serving.bodies import Upload
from vitreous.serving.fingerprint import Fingerprint, read_fingerprint
from vitreous.serving.measurements import Measurements
from vitreous.serving.options import ModelSource, ServiceOptions
from vitreous.serving.problems import Problem, queue_full

LOG = logging.getLogger("vitreous.serving")
MOST_DECODERS = 4
USUAL = 0.02
"""Assumed seconds per image before any image was computed."""


class Loaded:
    """One version of a model, ready to answer; `observe` and `accepted` as in `Batcher`."""

    def __init__(
        self, predictor: Predictor, version: int, options: ServiceOptions,
        observe: Callable[[int, float], None], accepted: Callable[[], int],
    ) -> None:  # fmt: skip
        decode = predictor.folder.decode
        decode = replace(
            decode,
            max_pixels=min(decode.max_pixels, options.max_pixels),
            max_bytes=min(decode.max_bytes, options.max_body),
        )
        predictor.folder = replace(predictor.folder, decode=decode)
        self.predictor, self.version, self.since = predictor, version, time.time()
        self.classifies, self.embeds = bool(predictor.folder.classes), True
        computes = {"probabilities": predictor.probabilities, "features": predictor.engine.features}
        self.batcher = Batcher(computes, options.batch, options.wait_ms / 1000, observe, accepted)
        self.busy = 0

    def warm_up(self) -> None:
        """Compute once, so that the first request isn't slowed down; raises CheckpointError for outputs that aren't
        finite numbers."""
        pixels, found = self.predictor.make_black_images(1), []
        for _ in range(
            2 if getattr(self.predictor.engine, "compiles", False) else 1
        ):  # sizes that occur twice are compiled
            if self.classifies:
                found.append(self.predictor.probabilities(pixels))
            try:
                found.append(self.predictor.engine.features(pixels))
            except ConfigError:  # an export with only logits
                self.embeds = False
        if self.predictor.engine.name == "torch":
            import_module("vitreous.serving.maps")  # the first request would wait for it
        if not all(np.isfinite(one).all() for one in found):
            raise CheckpointError(f"{self.predictor.path} gives outputs that are not finite numbers; it can't be used")


class ServedModel:
    """A model under its name: the version that answers, and its queue's limit."""

    def __init__(
        self, source: ModelSource, options: ServiceOptions, measurements: Measurements, decoders: ThreadPoolExecutor
    ) -> None:
        self.source, self.options, self.measurements, self.decoders = source, options, measurements, decoders
        self.loaded: Loaded | None = None
        self.failure: str | None = None
        """Why the newest state of the files isn't the version that answers."""
        self.pending, self.pace, self.version = 0, USUAL, 0
        self.fingerprint: Fingerprint = {}

    def load(self, again: bool = False) -> Loaded:
        """Load what the files hold, and compute once; takes long. `again`: since they have changed. Raises VitreousError."""
        self.fingerprint = read_fingerprint(self.source.path)
        predictor = self.source.open(again)
        self.version += 1
        loaded = Loaded(predictor, self.version, self.options, self.observe, lambda: self.pending)
        loaded.warm_up()
        return loaded

    def observe(self, images: int, seconds: float) -> None:
        """Record a pass through the model."""
        self.pace += 0.2 * (seconds / images - self.pace)
        self.measurements.batches.labels(self.source.name).observe(images)
        self.measurements.compute.labels(self.source.name).observe(seconds)

    def swap(self, loaded: Loaded) -> None:
        """Let a version answer from now on; the previous one ends once it has answered everything that it accepted."""
        before, self.loaded = self.loaded, loaded
        loaded.batcher.start()
        if before is not None:
            self._retirement = asyncio.create_task(self._retire(before))

    async def _retire(self, before: Loaded) -> None:
        while before.busy:
            await asyncio.sleep(0.05)
        await before.batcher.close()

    @asynccontextmanager
    async def answer(self, images: int) -> AsyncIterator[Loaded]:
        """Hold places in the queue for as long as a request may take; raises Problem as `admit` does, and when time is up."""
        seconds = self.options.timeout
        try:
            async with asyncio.timeout(seconds):
                with self.admit(images) as loaded:
                    yield loaded
        except TimeoutError as error:
            wait = {"Retry-After": str(max(1, round(self.pending * self.pace)))}
            raise Problem(
                "timed-out", f"there was no answer within {seconds:g} s; try again later, or with fewer images", wait
            ) from error

    @contextmanager
    def admit(self, images: int) -> Iterator[Loaded]:
        """Hold places in the queue for a request's images; raises Problem if there are too few, or no model yet."""
        loaded = self.loaded
        if loaded is None:
            raise Problem("not-ready", f"{self.source.name} is loading; try again soon", {"Retry-After": "1"})
        self.refuse_overload(images)
        self.pending += images
        loaded.busy += 1
        self._note_queue(images)
        try:
            yield loaded
        finally:
            self.pending -= images
            loaded.busy -= 1
            self._note_queue(-images)

    def _note_queue(self, images: int) -> None:
        with suppress(OSError):
            self.measurements.queue.labels(self.source.name).inc(images)

    def refuse_overload(self, images: int) -> None:
        """Raise Problem if the queue can't take this many more images."""
        if self.pending + images > self.options.queue:
            raise queue_full(
                f"{self.pending} images are waiting for {self.source.name}, whose queue holds {self.options.queue}; try again later",
                self.pending * self.pace,
            )

    async def decode(self, loaded: Loaded, uploads: list[Upload]) -> list[Ready]:
        """Return the images' pixels, or why there are none, from a bounded pool of threads."""
        loop, folder = asyncio.get_running_loop(), loaded.predictor.folder
        work = (
            loop.run_in_executor(self.decoders, prepare, one.data, number, folder)
            for number, one in enumerate(uploads, 1)
        )
        found = await asyncio.gather(*work)
        return [
            replace(ready, name=one.name, error=ready.error and ready.error.replace(ready.name, one.name, 1))
            for one, ready in zip(uploads, found, strict=True)
        ]

    async def compute(self, loaded: Loaded, kind: str, images: list[Ready]) -> list[Answer | None]:
        """Return the model's result for each image; None for one without pixels."""
        readable = [one.pixels for one in images if one.pixels is not None]
        answers = iter(await asyncio.gather(*(loaded.batcher.ask(kind, pixels) for pixels in readable)))
        return [None if one.pixels is None else next(answers) for one in images]


class Models:
    """All models of a service, and the pool that decodes for them."""

    def __init__(self, sources: list[ModelSource], options: ServiceOptions, measurements: Measurements) -> None:
        self.decoders = ThreadPoolExecutor(min(MOST_DECODERS, count_threads()), thread_name_prefix="decode")
        self.options = options
        self.by_name = {one.name: ServedModel(one, options, measurements, self.decoders) for one in sources}
        self.measurements = measurements
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def warm(self) -> bool:
        """Whether every model can answer."""
        return all(model.loaded for model in self.by_name.values())

    def find(self, name: str | None) -> ServedModel:
        """Return a model by its name, None: the first; raises Problem."""
        if name is None:
            return next(iter(self.by_name.values()))
        if name not in self.by_name:
            known = ", ".join(self.by_name)
            raise Problem(
                "unknown-model",
                f"there is no model {name[:100]!r} here; this service has {known}",
                known=list(self.by_name),
            )
        return self.by_name[name]

    async def open(self) -> None:
        """Load all models, one after the other, then watch their files; raises VitreousError."""
        for model in self.by_name.values():
            model.swap(await asyncio.to_thread(model.load))
            LOG.info("loaded", extra={"facts": {"model": model.source.name, "version": model.version}})
        if self.options.reload_every:
            watched = (model for model in self.by_name.values() if model.source.watched)
            self._tasks = [asyncio.create_task(self._watch(model)) for model in watched]

    async def close(self) -> None:
        """Stop watching and computing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self.by_name.values():
            if model.loaded is not None:
                await model.loaded.batcher.close()
        self.decoders.shutdown(wait=False, cancel_futures=True)

    async def _watch(self, model: ServedModel) -> None:
        """Replace a model once its files have changed and then stayed the same between two checks."""
        seen = model.fingerprint
        while True:
            await asyncio.sleep(self.options.reload_every)
            before, seen = seen, await asyncio.to_thread(read_fingerprint, model.source.path)
            if seen and seen == before and seen != model.fingerprint:
                await self._reload(model)

    async def _reload(self, model: ServedModel) -> None:
        count = self.measurements.reloads.labels
        try:
            model.swap(await asyncio.to_thread(model.load, again=True))
        except Exception as error:
            said = " ".join(str(error).split()) if isinstance(error, VitreousError) else type(error).__name__
            model.failure = f"the changed files can't be served: {said}"
            count(model.source.name, "failed").inc()
            facts = {"model": model.source.name, "version": model.version, "why": model.failure}
            LOG.warning("reload failed; the previous model stays in use", extra={"facts": facts}, exc_info=None)
            return
        model.failure = None
        count(model.source.name, "done").inc()
        LOG.info("reloaded", extra={"facts": {"model": model.source.name, "version": model.version}})


def require_head(loaded: Loaded, name: str) -> None:
    """Raise Problem if a model has no head."""
    if not loaded.classifies:
        remedy = "ask /v1/embed for its vectors" if loaded.embeds else HEADLESS
        raise Problem("unsuited-model", f"{name} has no head, so it can't classify; {remedy}")


def require_features(loaded: Loaded, name: str) -> None:
    """Raise Problem if a model can't return vectors."""
    if not loaded.embeds:
        raise Problem("unsuited-model", f"{name} is an export without features; export it again with --outputs both")


def require_layers(loaded: Loaded, name: str) -> None:
    """Raise Problem if a model's layers can't be inspected."""
    try:
        _ = loaded.predictor.model
    except ConfigError as error:  # its message names files of this machine
        remedy = "serve the model that it was exported from"
        raise Problem("unsuited-model", f"{name} is an export, whose layers can't be looked into; {remedy}") from error
