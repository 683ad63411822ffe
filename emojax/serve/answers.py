"""What a server answers, as JSON, and the schemas of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from emojax import decision as decision_lib
from emojax.decision import Decision
from emojax.serve.batching import Found
from emojax.serve.engine import Picture, evidence_picture
from emojax.types import Predictions


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Evidence(_Schema):
    """Where in the picture the evidence for the most probable class lies (LayerCAM)."""

    label: str = Field(alias="class", description="whose evidence it is")
    box: list[float] = Field(
        min_length=4,
        max_length=4,
        description="left, top, right, bottom of what the model saw, as shares of the picture's width and height",
    )
    png: str = Field(pattern="^data:image/png;base64,", description="colours to lay over that box")


class Prediction(_Schema):
    """Of one picture."""

    label: str | None = Field(alias="class", description="the most probable class; null = too unsure for an answer")
    confidence: float = Field(ge=0, le=1, description="probability of the most probable class")
    probs: dict[str, float] = Field(description="of all classes, in the model's order; calibrated where it is")
    abstained: bool | None = Field(description="too unsure for an answer; null = not calibrated for abstaining")
    set: list[str] | None = Field(description="classes that hold the true one as often as calibrated; null = not")
    attention: Evidence | None = Field(description="null unless `explain` is asked for; of a batch always null")


class Failure(_Schema):
    """Of one picture that cannot be read, in the answer to several."""

    error: str


class Predicted(_Schema):
    """One entry per picture, in the order of the request."""

    results: list[Prediction | Failure]


class Info(_Schema):
    """The model, and what may be sent to it."""

    model: str
    version: str
    classes: list[str]
    image_size: int
    views: str
    abstains: bool
    coverage: float | None
    max_bytes: int
    max_pixels: int
    max_pictures: int


class Health(_Schema):
    """Whether requests are answered."""

    status: Literal["ready", "warming", "draining"]


class Problem(_Schema):
    """Why there is no answer."""

    error: str
    request_id: str


def prediction(found: Found, picture: Picture, class_names: Sequence[str], decision: Decision | None) -> dict[str, Any]:
    """The JSON of a `Prediction`."""
    order = [int(k) for k in found.probs.argsort()[::-1]]
    best = class_names[order[0]]
    answered, members = True, None
    if decision is not None:
        outcome = decision_lib.decided(decision, _one(found.probs))
        answered = bool(outcome.answered[0])
        members = [class_names[k] for k in order if outcome.inside[0, k]]
    return {
        "class": best if answered else None,
        "confidence": _rounded(found.probs[order[0]]),
        "probs": {name: _rounded(p) for name, p in zip(class_names, found.probs, strict=True)},
        "abstained": not answered if decision is not None and decision.threshold > 0 else None,
        "set": members,
        "attention": None
        if found.heat is None
        else {"class": best, "box": [round(x, 6) for x in picture.box], "png": _png_uri(found.heat)},
    }


def _rounded(p: np.floating) -> float:
    return round(min(1.0, max(0.0, float(p))), 6)


def _one(probs: np.ndarray) -> Predictions:
    return Predictions(
        probs=probs[None],
        label=np.full((1, len(probs)), 1 / len(probs), np.float32),
        weight=np.ones(1, np.float32),
        id=np.array(["picture"], object),
    )


def _png_uri(heat: np.ndarray) -> str:
    buffer = io.BytesIO()
    evidence_picture(heat).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
