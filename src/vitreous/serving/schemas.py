"""The contents of answers, as OpenAPI shows them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vitreous.serving import examples
from vitreous.serving.problems import KINDS, MEDIA_TYPE


class Answer(BaseModel):
    """Common to all answers: nothing is left out of what is described."""

    model_config = ConfigDict(extra="forbid")


class Score(Answer):
    """A class and its probability."""

    label: str
    score: float = Field(ge=0, le=1)


class Prediction(Answer):
    """The model's prediction for one image, or why there is none."""

    name: str = Field(description='The file\'s name, or "image 2".')
    label: str | None = Field(description="The most probable class, or the label for unknown.")
    score: float | None = Field(description="Its probability.")
    top: list[Score] = Field(description="The most probable classes, best first.")
    error: str | None = Field(description="Why there is no label, in one line.")
    labels: list[str] | None = Field(None, description="For multilabel models: the predicted classes.")
    unknown: bool = Field(False, description="The most probable class is below the threshold.")
    filled: bool = Field(False, description="A JPEG without its last bytes, filled with grey.")
    reduction: int = Field(1, description="By what its size was divided in decoding.")
    probabilities: list[float] | None = Field(
        None, description="Every class's probability, in the order of the model's labels, if requested."
    )


class Timings(Answer):
    """Where the time went, in milliseconds; queue and compute of the request's slowest image."""

    read_ms: float = Field(description="Until the body had arrived.")
    decode_ms: float
    queue_ms: float
    compute_ms: float
    total_ms: float
    batch: int = Field(description="Images in the largest pass that included one of them; 0: none was computed.")


class PredictAnswer(Answer):
    """Predictions, in the images' order."""

    model: str
    version: int = Field(description="How often the model's files have been loaded.")
    predictions: list[Prediction]
    timings: Timings


class Vector(Answer):
    """The vector that represents one image, or why there is none."""

    name: str
    vector: list[float] | None
    error: str | None


class EmbedAnswer(Answer):
    """Vectors, in the images' order."""

    model: str
    version: int
    dimensions: int
    embeddings: list[Vector]
    timings: Timings


class Explained(Answer):
    """Where the model looks in one image, or why there is no map."""

    name: str
    error: str | None
    target: str | None = Field(None, description="The class that the map explains; null for a model without a head.")
    score: float | None = Field(None, description="Its probability.")
    map: list[Any] | None = Field(
        None, description="Rows of columns; with query=all such a map for each patch. Larger means more."
    )
    heads: list[Any] | None = Field(None, description="The same for each head, if the method has heads.")


class ExplainAnswer(Answer):
    """Maps, in the images' order."""

    model: str
    version: int
    method: str
    layer: int | None = Field(description="Counted from 0; null: the last one or all, depending on the method.")
    head: int | None = Field(description="Counted from 0; null: the mean over all.")
    explanations: list[Explained]
    timings: Timings


class Served(Answer):
    """A model that is served."""

    name: str
    version: int
    ready: bool
    failure: str | None = Field(description="Why the newest state of the files isn't the version that answers.")
    description: str
    labels: list[str]
    multilabel: bool
    preprocess: dict[str, Any]
    origin: dict[str, Any]
    engine: str
    precision: str
    device: str
    grid: list[int] | None = Field(description="Rows and columns of patches, for a Vision Transformer.")
    layers: int | None
    heads: int | None
    methods: list[str] = Field(
        description="Methods for /v1/explain, the most informative one first; none for an exported model."
    )
    classifies: bool
    embeds: bool


class ModelsAnswer(Answer):
    """All models; the first one answers requests that name none."""

    models: list[Served]


class Health(Answer):
    """Whether the service is alive, or ready."""

    status: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"example": examples.show_problem("queue-full")})
    type: str = Field(description="/problems/ and the kind.")
    title: str
    status: int
    detail: str = Field(description="One line: what was received, what was expected, what to do.")
    instance: str = Field(description="The request's id, as in X-Request-ID and the log.")


def describe_problems(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems that an address may answer with."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status, title = KINDS[kind]
        before = found.get(status)
        said = f"{before['description']}; or {title[0].lower()}{title[1:]}" if before else title
        shown = before["content"][MEDIA_TYPE]["examples"] if before else {}
        content = {
            "schema": {"$ref": "#/components/schemas/ProblemDocument"},
            "examples": {**shown, kind: {"summary": title, "value": examples.show_problem(kind)}},
        }
        found[status] = {"description": said, "content": {MEDIA_TYPE: content}}
    return found


def describe_text(example: str) -> dict[str, Any]:
    """Return the OpenAPI description of an answer in plain text."""
    return {"content": {"text/plain": {"schema": {"type": "string"}, "example": example}}}


IMAGE = {"schema": {"type": "string", "format": "binary"}}
BASE64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel."""
IMAGES_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One image as it is, or one or more as the files of form data or as base64 in JSON.",
        "content": {
            "image/*": IMAGE,
            "application/octet-stream": IMAGE,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": {"type": "array", "minItems": 1, "items": IMAGE["schema"]}},
                },
                "example": {"images": ["(the bytes of photo.jpg)", "(the bytes of another.png)"]},
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "anyOf": [
                                    {"type": "string", "format": "byte"},
                                    {
                                        "type": "object",
                                        "required": ["data"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "name": {"type": "string"},
                                            "data": {"type": "string", "format": "byte"},
                                        },
                                    },
                                ]
                            },
                        }
                    },
                },
                "example": {"images": [{"name": "dot.png", "data": BASE64}]},
            },
        },
    }
}
"""The OpenAPI description of bodies with images, which `bodies.py` reads."""
