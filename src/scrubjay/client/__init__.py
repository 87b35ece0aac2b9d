"""Typed clients of the service: `scrubjay.Client` and `scrubjay.AsyncClient`.

They import neither torch nor the web framework, only httpx and pydantic. Importing one does not import the other.
"""
