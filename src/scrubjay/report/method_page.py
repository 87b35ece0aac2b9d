"""The documentation page of all methods and metric losses, generated from their docstrings."""

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
    """Measured cost of a method.

    Attributes:
        step: time of a training step, as a multiple of that of fine-tuning.
        kept: bytes kept between sessions, besides the network.
    """

    step: float
    kept: int


def method_page(costs: Mapping[str, Cost], measured: str) -> str:
    """Markdown page: a table with one row per method, one section per method, and a table of the metric losses.

    Args:
        costs: cost by name; a method without one gets dashes.
        measured: one sentence on how the costs were measured.
    """
    documents = plugins.documentation("methods")
    lines = [
        "# Methods",
        "",
        "Generated from the docstrings by `make docs`. Every objective contains L_ce + L_triplet on the new classes; "
        "any [metric loss](#metric-losses) can replace the triplet loss (`method.metric`), and weight averaging "
        "(`method.average`) and drift compensation of stored features (`method.drift`) can be combined with any "
        "method. Methods in closed form (`z = …`) have no objective: they solve for the projection from statistics of "
        "trunk features, and these options change nothing in them.",
        "",
        measured,
        "",
        "| method | paper | formula | needs | time per step | keeps, measured |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    lines += [_row(name, document, costs.get(name)) for name, document in documents.items()]
    for name, document in documents.items():
        title, _, rest = document.partition("\n")
        lines += ["", f"## {name}", "", title, "", *_body(rest.strip()), "", *_options(name)]
    lines += ["", "## Metric losses", "", "Values of `method.metric`, besides `none` and `pml:NAME`.", ""]
    lines += ["| name | loss |", "| --- | --- |"]
    lines += [f"| `{name.replace('_', '-')}` | {text} |" for name, text in plugins.summaries("losses.metric").items()]
    return "\n".join(lines) + "\n"


def read_page(page: str) -> tuple[dict[str, Cost], str]:
    """The costs by name in a page made by `method_page`, and its sentence on how they were measured."""
    rows = re.findall(r"^\| \[(\w+)\]\(#\w+\) \|.*\| ([\d.]+) × \| ([\d,]+) B \|$", page, re.MULTILINE)
    costs = {name: Cost(float(step), int(kept.replace(",", ""))) for name, step, kept in rows}
    return costs, page.split("\n\n")[2]


def formula(document: str) -> str:
    """The objective or the embedding of a docstring: the paragraph that begins with "L = " or "z = ", on one line."""
    paragraph = re.search(r"^ *[Lz] = .*?(?=\n\s*\n|\Z)", document, re.MULTILINE | re.DOTALL)
    return " ".join(paragraph[0].split()) if paragraph else "–"


def paper(document: str) -> str:
    """The source in brackets in a docstring's first line; else the first text with a venue and a year."""
    if "This project's own method" in document:
        return "this project"
    first = document.partition("\n")[0]
    brackets: list[str] = re.findall(r"\(([^()]*\d{4}[^()]*|[^()]*CoReS[^()]*)\)", first)
    if brackets:
        return brackets[-1]
    citation = re.search(
        r"[A-Z][\w&. -]*(?:,[^.;()]*?)?\b(?:BMVC|CVPR|ICCV|ECCV|NeurIPS|AAAI|ICML|PNAS)\s+\d{4}", document
    )
    return " ".join(citation[0].split()) if citation else "–"


def _row(name: str, document: str, cost: Cost | None) -> str:
    kind = method(name)
    needs = "all images" if kind.needs_old_images else "the previous network" if kind.uses_teacher else "nothing"
    step = f"{cost.step:.2f} ×" if cost else "–"
    kept = f"{cost.kept:,} B" if cost else "–"
    cells = [f"[{name}](#{name})", paper(document), f"`{formula(document)}`", needs, step, kept]
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _body(text: str) -> list[str]:
    """The paragraphs of a docstring; formulas, which are aligned in columns, as code blocks."""
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        is_formula = paragraph.startswith(" ") or re.match(r".{0,12} = ", paragraph) is not None
        lines += ["```text", *paragraph.splitlines(), "```", ""] if is_formula else [*paragraph.splitlines(), ""]
    return lines[:-1]


def _options(name: str) -> list[str]:
    own = {key: field for key, field in method(name).Options.model_fields.items() if key not in _SHARED}
    if not own:
        return ["No options besides those of all methods."]
    rows = []
    for key, field in own.items():
        default = field.get_default(call_default_factory=True)
        description = " ".join((field.description or "").split())
        rows.append(f"| `{key}` | `{default!r}` | {description} |")
    return ["| option | default | meaning |", "| --- | --- | --- |", *rows]
