"""Requests to the service as values, one module for each kind of resource."""

from __future__ import annotations

from scrubjay.client.calls import classes, generations, items, jobs, operations, search

__all__ = ["classes", "generations", "items", "jobs", "operations", "search"]
