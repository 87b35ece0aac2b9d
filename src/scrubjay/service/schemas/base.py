"""Bases of the bodies of requests and answers, and types that several of them share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["read", "write", "admin"]
"""What a key may do: read searches and looks; write adds, changes and removes items and teaches; admin promotes, rolls
back, forgets, learns and cancels jobs. Each holds those before it."""

MetadataValue = str | int | Annotated[float, Field(allow_inf_nan=False)] | bool | None
Metadata = dict[str, MetadataValue]
Box = tuple[
    Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]
"""Crop in pixels of the upright image: left, top, right, bottom."""


class Body(BaseModel):
    """Base of all requests: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Record(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True, defer_build=True)
