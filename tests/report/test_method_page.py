from __future__ import annotations

from pathlib import Path

from scrubjay import plugins
from scrubjay.report.method_page import Cost, formula, method_page, paper, read_page

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_the_page_in_the_docs_is_of_today() -> None:
    """All but its measured columns follows from the docstrings; `methods.py --text-only` updates it."""
    page = PAGE.read_text(encoding="utf-8")
    costs, measured = read_page(page)
    assert sorted(costs) == plugins.names("methods")
    assert method_page(costs, measured) == page


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


def test_costs_are_read_off_a_page() -> None:
    costs = {name: Cost(1.25, 1_234_567) for name in plugins.names("methods")}
    assert read_page(method_page(costs, "Measured here.")) == (costs, "Measured here.")


def test_the_page_lists_the_metric_losses() -> None:
    page = method_page({}, "Nothing was measured.")
    for name, text in plugins.summaries("losses.metric").items():
        assert f"| `{name.replace('_', '-')}` | {text} |" in page
