"""Image retrieval that keeps learning: new classes in, none forgotten, the index still valid."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scrubjay.catalogue import Catalogue
    from scrubjay.client.asynchronous import AsyncClient
    from scrubjay.client.synchronous import Client
    from scrubjay.errors import ScrubjayError, ServiceError, ServiceProblem, UserError
    from scrubjay.estimator import ClosedFormEmbedding
    from scrubjay.evaluation.retrieval import evaluate_query_gallery, evaluate_self
    from scrubjay.experiments.options import ExperimentOptions
    from scrubjay.experiments.run import run
    from scrubjay.methods import Method
    from scrubjay.report.frame import results_frame
    from scrubjay.types import Dataset, Hit, Sample, Session
    from scrubjay.workspace.options import CatalogueOptions

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Catalogue",
    "CatalogueOptions",
    "Client",
    "ClosedFormEmbedding",
    "Dataset",
    "ExperimentOptions",
    "Hit",
    "Method",
    "Sample",
    "ScrubjayError",
    "ServiceError",
    "ServiceProblem",
    "Session",
    "UserError",
    "__version__",
    "evaluate_query_gallery",
    "evaluate_self",
    "results_frame",
    "run",
]

_HOMES = {
    "AsyncClient": "client.asynchronous",
    "Catalogue": "catalogue",
    "CatalogueOptions": "workspace.options",
    "Client": "client.synchronous",
    "ClosedFormEmbedding": "estimator",
    "Dataset": "types",
    "ExperimentOptions": "experiments.options",
    "Hit": "types",
    "Method": "methods",
    "Sample": "types",
    "ScrubjayError": "errors",
    "ServiceError": "errors",
    "ServiceProblem": "errors",
    "Session": "types",
    "UserError": "errors",
    "evaluate_query_gallery": "evaluation.retrieval",
    "evaluate_self": "evaluation.retrieval",
    "results_frame": "report.frame",
    "run": "experiments.run",
}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for, so that `import scrubjay` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'scrubjay' has no attribute {name!r}")
    found = getattr(import_module(f"scrubjay.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
