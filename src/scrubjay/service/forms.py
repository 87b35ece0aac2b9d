"""Values in JSON that are sent as a part of a form or of an address."""

from __future__ import annotations

from typing import TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def parsed(adapter: TypeAdapter[T], text: str, *field: str) -> T:
    """The value of a JSON text.

    Args:
        adapter: the type of the value.
        text: the text.
        field: where it stands in the request, such as "body", "settings".

    Raises:
        RequestValidationError: the text is not JSON, or does not fit the type.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        errors = [{**each, "loc": (*field, *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(errors) from None
