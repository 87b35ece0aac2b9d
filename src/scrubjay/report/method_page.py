"""The page of all methods, made from their docstrings: what each is, its formula, what it needs and keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from scrubjay import plugins
from scrubjay.methods import MethodOptions, method

_SHARED = frozenset(MethodOptions.model_fields)
_VENUES = "BMVC|CVPR|ICCV|ECCV|NeurIPS|AAAI|ICML|ICLR|PNAS"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method costs, as measured.

    Attributes:
        step: time of a training step, as a multiple of fine-tuning's.
        kept: bytes kept between sessions besides the network.
    """

    step: float
    kept: int


def method_page(costs: Mapping[str, Cost], measured: str) -> str:
    """Markdown: a table with a row a method, then a section a method.

    Args:
        costs: by name; a method that is missing gets dashes.
        measured: one sentence on how the costs were measured.
    """
    documents = plugins.documentation("methods")
    lines = [
        "# Methods",
        "",
        "Made by `make docs` from the docstrings. To every objective belongs L_ce + L_triplet on the new classes; any "
        "metric loss can stand in for the triplet (`method.metric`), and weight averaging (`method.average`) and drift "
        "compensation of stored features (`method.drift`) can be switched on for any method.",
        "",
        measured,
        "",
        "| method | paper | formula | needs | a step | keeps, measured |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    lines += [_row(name, document, costs.get(name)) for name, document in documents.items()]
    for name, document in documents.items():
        title, _, rest = document.partition("\n")
        lines += ["", f"## {name}", "", title, "", *_body(rest.strip()), "", *_options(name)]
    return "\n".join(lines) + "\n"


def formula(document: str) -> str:
    """The objective of a docstring: the paragraph that begins with "L = ", on one line."""
    found = re.search(r"^L = .*?(?=\n\s*\n|\Z)", document, re.MULTILINE | re.DOTALL)
    return " ".join(found[0].split()) if found else "–"


def paper(document: str) -> str:
    """The source that a docstring's first line names in brackets, or the first with a venue and a year."""
    if "This project's own method" in document:
        return "this project"
    first = document.partition("\n")[0]
    brackets: list[str] = re.findall(r"\(([^()]*\d{4}[^()]*|[^()]*CoReS[^()]*)\)", first)
    if brackets:
        return brackets[-1]
    found = re.search(
        r"[A-Z][\w&. -]*(?:,[^.;()]*?)?\b(?:BMVC|CVPR|ICCV|ECCV|NeurIPS|AAAI|ICML|PNAS)\s+\d{4}", document
    )
    return " ".join(found[0].split()) if found else "–"


def _row(name: str, document: str, cost: Cost | None) -> str:
    kind = method(name)
    needs = "all images" if kind.needs_old_images else "the previous network" if kind.uses_teacher else "nothing"
    step = f"{cost.step:.2f} ×" if cost else "–"
    kept = f"{cost.kept:,} B" if cost else "–"
    cells = [f"[{name}](#{name})", paper(document), f"`{formula(document)}`", needs, step, kept]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _body(text: str) -> list[str]:
    """Paragraphs as they are; formulas, which line up by columns, as code."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        is_formula = paragraph.startswith(" ") or re.match(r".{0,12} = ", paragraph) is not None
        lines += ["```text", *paragraph.splitlines(), "```", ""] if is_formula else [*paragraph.splitlines(), ""]
    return lines[:-1]


def _options(name: str) -> list[str]:
    own = {key: field for key, field in method(name).Options.model_fields.items() if key not in _SHARED}
    if not own:
        return ["No options but those that all methods share."]
    rows = []
    for key, field in own.items():
        default, what = field.get_default(call_default_factory=True), " ".join((field.description or "").split())
        rows.append(f"| `{key}` | `{default!r}` | {what} |")
    return ["| option | default | what it is |", "| --- | --- | --- |", *rows]
