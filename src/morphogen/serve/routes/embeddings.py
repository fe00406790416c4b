"""`/v1/embeddings` and `/v1/rerank`: vectors of texts, and how near they are to a question."""

from __future__ import annotations

import base64
import math
import struct
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from morphogen.serve.door import Generates
from morphogen.serve.errors import APIError
from morphogen.serve.routes._asked import Asked, usage_of
from morphogen.serve.routes._works import worked
from morphogen.serve.serving import Here

MOST_TEXTS = 2048

router = APIRouter()

Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(Asked):
    """Texts to embed."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


class RerankRequest(Asked):
    """Texts to bring in the order in which they answer a question."""

    query: Text
    documents: Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False


@router.post("/v1/embeddings")
async def embeddings(
    asked: EmbeddingRequest, request: Request, here: Here, access: Generates
) -> Response:
    """A vector for each text."""
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    answer, vectors, usage = await _embedded(asked.model, texts, request, here, access)
    if asked.dimensions is not None and asked.dimensions != len(vectors[0]):
        raise APIError(400, f"the vectors of this model have {len(vectors[0])} dimensions",
                       param="dimensions", code="unsupported_parameter")  # fmt: skip
    told = [
        {"object": "embedding", "index": i, "embedding": _encoded(each, asked.encoding_format)}
        for i, each in enumerate(vectors)
    ]
    body = {"object": "list", "data": told, "model": answer.entry.name, "usage": usage,
            "morphogen": answer.about()}  # fmt: skip
    return JSONResponse(body, headers=answer.headers())


@router.post("/v1/rerank")
async def rerank(asked: RerankRequest, request: Request, here: Here, access: Generates) -> Response:
    """The nearest first, by the cosine of the angle between vectors."""
    texts = [asked.query, *asked.documents]
    answer, (query, *others), usage = await _embedded(asked.model, texts, request, here, access)
    scores = [_cosine(query, other) for other in others]
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: asked.top_n]
    results = [
        {
            "index": i,
            "relevance_score": scores[i],
            **({"document": {"text": asked.documents[i]}} if asked.return_documents else {}),
        }
        for i in order
    ]
    body = {"id": f"rerank-{answer.id}", "model": answer.entry.name, "results": results,
            "usage": usage, "morphogen": answer.about()}  # fmt: skip
    return JSONResponse(body, headers=answer.headers())


async def _embedded(
    model: str, texts: list[str], request: Request, here: Here, access: Any
) -> tuple[Any, list[list[float]], dict[str, Any]]:
    work = {"do": "features", "texts": texts}
    answer, events = await worked(
        here, request, here.entry(model), work, prompt="\n\n".join(texts), access=access
    )
    vectors = [event["vector"] for event in events if "vector" in event]
    return answer, vectors, usage_of(events[-1]["done"])


def _encoded(vector: list[float], form: str) -> list[float] | str:
    """As numbers, or as float32 in little-endian order, which the official client asks for."""
    if form == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _cosine(first: list[float], second: list[float]) -> float:
    product = sum(a * b for a, b in zip(first, second, strict=True))
    size = math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))
    return product / size if size else 0.0
