from __future__ import annotations

import re
from pathlib import Path

from scrubjay import plugins
from scrubjay.report.method_page import Cost, formula, method_page, paper

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_in_the_docs_is_of_today() -> None:
    """All but its measured columns follows from the docstrings: `make docs` makes it again."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.findall(r"^\| \[(\w+)\]\(#\w+\) \|.*\| ([\d.]+) × \| ([\d,]+) B \|$", page, re.MULTILINE)
    costs = {name: Cost(float(step), int(kept.replace(",", ""))) for name, step, kept in found}
    assert sorted(costs) == plugins.names("methods")
    assert method_page(costs, page.split("\n\n")[2]) == page


def test_a_formula_is_read_off_a_docstring() -> None:
    assert formula("Title.\n\nL = a + b,\n    b = 2\n\nMore L = c.") == "L = a + b, b = 2"
    assert formula("Title.\n\nNone here.") == "–"


def test_a_paper_is_read_off_a_docstring() -> None:
    assert paper("Stays (Smith et al., ICML 2017).\n\nL = 0") == "Smith et al., ICML 2017"
    assert (
        paper("Stays (or goes).\n\nL = 0\n\nSmith, Long Words, CVPR 2020, section 2.") == "Smith, Long Words, CVPR 2020"
    )
    assert paper("Stays.\n\nL = 0") == "–"
    assert paper("Stays.\n\nThis project's own method. Related: Smith, CVPR 2020.") == "this project"


def test_methods_that_were_not_measured_have_dashes() -> None:
    page = method_page({}, "Nothing was measured.")
    assert page.count("| – | – |") == len(plugins.names("methods"))
    for name in plugins.names("methods"):
        assert f"\n## {name}\n" in page
