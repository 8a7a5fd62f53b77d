"""Features of a part of a job's images as a parquet file: what can't be read has its error in place of a vector."""

from itertools import islice
from typing import BinaryIO

import numpy as np

from vitreous.evaluation.probes.features import check_layer_output, pixel_vectors
from vitreous.images.inputs import Image, prepare
from vitreous.predictor import Predictor
from vitreous.storage.parquet import replace_bytes


def write_vectors(predictor: Predictor, layer: str, precision: str, images: list[Image], file: BinaryIO) -> None:
    """Write name, vector (float32) and error of each image, in their order.

    Raises:
        ConfigError: no such layer or precision. DataError: a vector that is not finite.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = (prepare(image, number, predictor.folder, "torch") for number, image in enumerate(images, start=1))
    names, errors, found = list[str](), list[str | None](), list[np.ndarray | None]()
    while group := list(islice(source, predictor.batch)):
        pixels = [one.pixels for one in group if one.pixels is not None]
        vectors = (
            pixel_vectors(predictor, np.stack(pixels), layer, precision) if pixels else np.empty((0, 0), np.float32)
        )
        check_layer_output(vectors, layer, [one.name for one in group if one.pixels is not None])
        rows = iter(vectors)
        names += [replace_bytes(one.name) for one in group]
        errors += [None if one.error is None else replace_bytes(one.error) for one in group]
        found += [None if one.pixels is None else next(rows) for one in group]
    seen = next((one for one in found if one is not None), None)
    if seen is None:
        seen = pixel_vectors(predictor, predictor.make_black_images(1), layer, precision)[0]
    schema = pa.schema(
        [("name", pa.string()), ("vector", pa.list_(pa.float32(), len(seen))), ("error", pa.string())],
        metadata={"model": predictor.path, "layer": layer, "precision": precision},
    )
    pq.write_table(pa.table({"name": names, "vector": found, "error": errors}, schema=schema), file)
