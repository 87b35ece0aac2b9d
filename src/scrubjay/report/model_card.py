"""The model card of a generation: what it is for, what it has learned, and what was measured."""

from __future__ import annotations

import json
from typing import Any, Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined

from scrubjay.generations.generation import SessionRecord
from scrubjay.models.embedder import NetworkOptions

SHOWN = 200
"""Number of classes that are named."""


class Described(Protocol):
    """A generation as the card tells of it; see `scrubjay.sharing.portable.PortableGeneration`."""

    @property
    def name(self) -> str:
        """Its name in the catalogue that it comes from."""

    @property
    def line(self) -> tuple[str, ...]:
        """Names of its ancestors, youngest first."""

    @property
    def created(self) -> str:
        """Time of its creation."""

    @property
    def network(self) -> NetworkOptions:
        """Options of its network."""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the packages that it was made with."""

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of its files."""

    @property
    def record(self) -> SessionRecord:
        """What its learner reported."""


def model_card(generation: Described, repository: str, intended_use: str | None = None) -> str:
    """The text of the card, in Markdown with the metadata that the Hub reads.

    Args:
        generation: the generation.
        repository: `owner/name` of its repository.
        intended_use: what the model is for; None: a general sentence.
    """
    record = generation.record
    classes = list(dict.fromkeys(record.classes))
    templates = Environment(loader=PackageLoader("scrubjay", "report"), undefined=StrictUndefined, trim_blocks=True)
    templates.filters["cell"] = _cell
    return templates.get_template("model_card.md.j2").render(
        generation=generation,
        record=record,
        repository=repository,
        intended_use=intended_use,
        classes=classes,
        shown=classes[:SHOWN],
        measured=[(title, record.measured.get(key)) for title, key in _MEASURED if record.measured.get(key)],
        method={key: json.dumps(value) for key, value in record.method.items() if key != "name"},
    )


_MEASURED = (("new classes, this generation", "new"), ("new classes, its parent", "new_before"))


def _cell(value: Any) -> str:
    """A value in a line of Markdown: nothing in it is markup."""
    text = " ".join(str(value).split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#|!~" else letter for letter in text)
