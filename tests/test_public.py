from __future__ import annotations

import importlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

import scrubjay
from scrubjay import _compat as compat
from scrubjay import progress
from scrubjay.types import Batch, Losses, Sample, Session

PUBLIC = {
    "AsyncClient": "scrubjay.client.asynchronous",
    "Catalogue": "scrubjay.catalogue",
    "CatalogueOptions": "scrubjay.workspace.options",
    "Client": "scrubjay.client.synchronous",
    "ClosedFormEmbedding": "scrubjay.estimator",
    "Dataset": "scrubjay.types",
    "ExperimentOptions": "scrubjay.experiments.options",
    "Hit": "scrubjay.types",
    "Method": "scrubjay.methods",
    "Sample": "scrubjay.types",
    "ScrubjayError": "scrubjay.errors",
    "ServiceError": "scrubjay.errors",
    "ServiceProblem": "scrubjay.errors",
    "Session": "scrubjay.types",
    "UserError": "scrubjay.errors",
    "evaluate_query_gallery": "scrubjay.evaluation.retrieval",
    "evaluate_self": "scrubjay.evaluation.retrieval",
    "results_frame": "scrubjay.report.frame",
    "run": "scrubjay.experiments.run",
}


def test_the_public_names_are_these() -> None:
    assert scrubjay.__all__ == sorted([*PUBLIC, "__version__"])
    assert set(scrubjay.__all__) <= set(dir(scrubjay))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_what_its_module_holds(name: str) -> None:
    found = getattr(scrubjay, name)
    assert found is getattr(importlib.import_module(PUBLIC[name]), name)
    assert found.__module__ == PUBLIC[name]
    assert found.__doc__


def test_all_names_can_be_imported_at_once() -> None:
    script = "from scrubjay import *; print(sorted(name for name in dir() if name != 'annotations'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(repr(name) in done.stdout for name in scrubjay.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'scrubjay' has no attribute 'Catalog'"):
        scrubjay.Catalog  # noqa: B018


def test_losses_add_up_and_differentiate() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    losses = Losses(ce=weight**2, triplet=3 * weight)
    assert losses.total.detach() == 10
    losses.total.backward()
    assert weight.grad == 7
    assert Losses(ce=weight).total is weight


def test_the_labels_of_a_session_follow_those_before() -> None:
    assert list(Session(1, ("wren", "jay"), 5, ()).labels) == [5, 6]
    assert list(Session(1, (), 5, ()).labels) == []


def test_values_are_frozen() -> None:
    sample = Sample(Path("a.png"), 0)
    with pytest.raises(AttributeError):
        sample.label = 1  # type: ignore[misc]


def test_a_batch_moves_with_everything() -> None:
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    batch = Batch(images, labels, torch.tensor([5, 6]), (("a.png", "broken"),))
    moved = batch.to("meta")
    assert moved.images.is_meta
    assert moved.labels.is_meta
    assert moved.indices.tolist() == [5, 6]
    assert moved.failures == batch.failures


def test_tracking_is_silent_without_a_display(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track("abc", "letters", 3)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_tracking_shows_what_it_works_through() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    with progress.live(console):
        found = []
        for item in progress.track("abcd", "letters", 9, done=5):
            found.append(item)
            if item == "c":
                current = progress._display.get()
                assert current is not None
                assert [(task.description, task.completed, task.total) for task in current.tasks] == [("letters", 7, 9)]
        assert current is not None
        assert current.tasks == []
    assert found == list("abcd")
    assert "letters" in shown.getvalue()
    assert progress._display.get() is None


def test_a_display_goes_away_with_an_error() -> None:
    def fail() -> None:
        with progress.live(Console(file=io.StringIO())):
            for _ in progress.track("abc", "letters", 3):
                raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert progress._display.get() is None


def test_torchvision_and_timm_load() -> None:
    assert compat.load("torchvision.transforms.v2").__name__ == "torchvision.transforms.v2"
    assert compat.load("timm").is_model("tf_efficientnet_lite0")
    with pytest.raises(ModuleNotFoundError):
        compat.load("torchvision.no_such_module")
