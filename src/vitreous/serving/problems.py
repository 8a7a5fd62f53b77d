"""Errors as problem documents (RFC 9457): what was received, what was expected, what to do."""

import json
from collections.abc import Mapping
from typing import Any

from vitreous.errors import FailedError, ImageError, UserError, VitreousError

MEDIA_TYPE = "application/problem+json"
KINDS = {
    "malformed": (400, "The request can't be read"),
    "unauthorized": (401, "An API key is needed"),
    "foreign-page": (403, "A page of another origin may not send requests"),
    "not-found": (404, "There is nothing at this address"),
    "unknown-model": (404, "No model of this name is served"),
    "method-not-allowed": (405, "This address takes another method"),
    "slow-request": (408, "The request didn't arrive in time"),
    "too-large": (413, "The request exceeds a limit"),
    "unsupported-media-type": (415, "The body is of an unsupported type"),
    "unreadable-image": (422, "An image can't be read"),
    "invalid-parameter": (422, "A parameter is invalid"),
    "unsuited-model": (422, "The model can't do this"),
    "queue-full": (429, "The queue is full"),
    "failed": (500, "The service failed"),
    "not-ready": (503, "The model is still loading"),
    "timed-out": (503, "The answer took too long"),
    "stopping": (503, "The service is stopping"),
}
"""Every kind of problem: its status and its title. The last part of a document's `type`."""


class Problem(Exception):
    """A request that isn't answered, and why.

    Args:
        kind: one of KINDS.
        detail: one line: what came, what was expected, what to do.
        headers: of the response, such as Retry-After.
        members: more of the document, as JSON values.
    """

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        self.kind, self.detail, self.members = kind, " ".join(detail.split()), members
        self.status, self.title = KINDS[kind]
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    def to_dict(self, instance: str) -> dict[str, Any]:
        """Return the document; `instance` is the request's id."""
        found = {"type": f"/problems/{self.kind}", "title": self.title, "status": self.status, "detail": self.detail}
        return {**found, "instance": f"urn:request:{instance}", **self.members}

    def encode(self, instance: str) -> bytes:
        """Return the document's bytes."""
        return json.dumps(self.to_dict(instance)).encode()


def queue_full(detail: str, seconds: float = 1.0) -> Problem:
    """Return the problem of too many requests; trying again makes sense after `seconds`."""
    return Problem("queue-full", detail, {"Retry-After": str(max(1, round(seconds)))})


def explain_failure(error: VitreousError) -> Problem:
    """Return the problem that an error of the lower layers means for the client."""
    if isinstance(error, ImageError):
        return Problem("unreadable-image", str(error))
    if isinstance(error, UserError):
        return Problem("invalid-parameter", str(error))
    if isinstance(error, FailedError):
        return Problem("failed", str(error))
    return Problem("failed", "the service failed on this request; its log has the details under this id")
