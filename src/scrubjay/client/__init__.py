"""Typed clients of the service. They import neither torch nor the web framework, only httpx and pydantic."""

from __future__ import annotations

from scrubjay.client.asynchronous import AsyncClient
from scrubjay.client.synchronous import Client

__all__ = ["AsyncClient", "Client"]
