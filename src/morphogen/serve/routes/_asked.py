"""What requests for texts have in common: how tokens are drawn, and when they end."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from morphogen.serve.errors import APIError
from morphogen.systems.schemas import closed

MOST_CHOICES = 128  # as OpenAI has it
MOST_STOPS = 16
LIMITS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty",
    "presence_penalty",
)  # fmt: skip


class Asked(BaseModel):
    """Fields that no server knows are let pass, as OpenAI's own clients send new ones."""

    model_config = ConfigDict(extra="allow")

    model: str


class StreamOptions(BaseModel):
    """What a stream tells beside its pieces."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = False


class Drawn(Asked):
    """How texts are drawn. Beside OpenAI's fields, those of `morphogen task complete`."""

    n: int | None = Field(1, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=1)
    min_p: float | None = Field(None, gt=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] | None = None  # by tokens
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    def drawn(self) -> dict[str, Any]:
        """As the process of a model is asked."""
        given = {name: getattr(self, name) for name in LIMITS}
        stops = [self.stop] if isinstance(self.stop, str) else list(self.stop or ())
        if "" in stops:
            raise APIError(400, "a stop text says something", param="stop", code="empty_stop")
        return {
            "num": self.n or 1,
            "seed": secrets.randbelow(2**31) if self.seed is None else self.seed,
            "limits": {name: value for name, value in given.items() if value is not None},
            "stop": stops,
            **({"bias": self.logit_bias} if self.logit_bias else {}),
        }

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return bool(self.stream_options and self.stream_options.include_usage)


class JSONSchema(BaseModel):
    """A schema with its name."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str = "answer"
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(BaseModel):
    """What form an answer has."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None

    def constraint(self) -> tuple[str, str] | None:
        """As the process of a model is asked."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return "schema", json.dumps({"type": "object"})
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise APIError(
                400, "response_format of type json_schema has a schema",
                param="response_format.json_schema.schema", code="missing_schema",
            )  # fmt: skip
        return "schema", json.dumps(closed(self.json_schema.schema_))


def usage_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """What it took."""
    return {**told, "total_tokens": sum(told.values())}
