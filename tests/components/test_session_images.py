from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.closed_form import saved_crops
from scrubjay.closed_form.crops import Crops
from scrubjay.closed_form.saved_crops import SavedCrops
from scrubjay.closed_form.statistics import Accumulator, Statistics
from scrubjay.components.session_images import SessionImages
from scrubjay.errors import UserError
from scrubjay.models import embedding
from scrubjay.types import Sample
from scrubjay.workers import Workers
from waiting import until

pytestmark = pytest.mark.usefixtures("one_thread")
VIEWS = 2


@pytest.fixture
def images(tmp_path: Path) -> SessionImages:
    """A pass over nine images, two in each batch; what was computed is saved after every batch."""
    return over(tmp_path, 9, SavedCrops(tmp_path / "saved", "spring"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "CPU_PIXELS", 2 * (1 + VIEWS) * tiny.IMAGES.size**2)
    monkeypatch.setattr(saved_crops, "SECONDS", 0.0)


def over(root: Path, number: int, saved: SavedCrops | None = None) -> SessionImages:
    samples = [Sample(tiny.paint(root / f"{seed}.png", seed % 3, seed), seed % 3) for seed in range(number)]
    learner = tiny.learner("slda", tiny.NETWORK.model_copy(update={"features": "stages"})).eval()
    return dataclasses.replace(tiny.session_images(learner, samples), saved=saved)


def unsaved(images: SessionImages) -> list[Crops]:
    return list(dataclasses.replace(images, saved=None).features(VIEWS))


def same(found: list[Crops], expected: list[Crops]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(mine, theirs)
        for pair in zip(found, expected, strict=True)
        for mine, theirs in zip(*pair, strict=True)
    )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions from which features are computed from now on."""
    starts: list[int] = []
    compute = SessionImages._computed

    def computed(self: SessionImages, views: int, first: int, size: int) -> Iterator[Crops]:
        starts.append(first)
        return compute(self, views, first, size)

    monkeypatch.setattr(SessionImages, "_computed", computed)
    return starts


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("batches", [1, 3])
def test_an_interrupted_pass_goes_on_to_the_bit(
    images: SessionImages, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = unsaved(images)
    assert [len(each.labels) for each in expected] == [6, 6, 6, 6, 3]
    begun = images.features(VIEWS)
    assert same([next(begun) for _ in range(batches)], expected[:batches])
    begun.close()  # as an interruption does
    starts = counted(monkeypatch)
    assert same(list(images.features(VIEWS)), expected)
    assert starts == [2 * batches]
    assert same(list(images.features(VIEWS)), expected)
    assert starts == [2 * batches], "a second pass reads what the first one has saved"


def test_a_short_pass_writes_nothing(images: SessionImages) -> None:
    assert same(list(images.features(VIEWS)), unsaved(images))
    assert images.saved is not None
    assert not images.saved.folder.exists()


@pytest.mark.usefixtures("small")
def test_other_work_is_refused_and_another_trunk_computed_again(images: SessionImages) -> None:
    list(images.features(VIEWS))
    assert images.saved is not None
    other = dataclasses.replace(images, saved=dataclasses.replace(images.saved, key="summer"))
    with pytest.raises(UserError, match=r"2-000000000.safetensors: holds interrupted work on other data"):
        next(other.features(VIEWS))
    with torch.no_grad():
        next(images.network.embedder.backbone.parameters()).mul_(1.5)
    assert same(list(images.features(VIEWS)), unsaved(images))
    fewer = dataclasses.replace(images, loader=images.loader.of(images.loader.samples[1:], train=False))
    assert same(list(fewer.features(VIEWS)), unsaved(fewer))


@pytest.mark.usefixtures("small")
def test_damaged_features_are_computed_again(images: SessionImages) -> None:
    expected = list(images.features(VIEWS))
    assert images.saved is not None
    files = sorted(images.saved.folder.iterdir())
    files[1].write_bytes(files[1].read_bytes()[:-1])
    files[2].write_bytes(b"")
    assert same(list(images.features(VIEWS)), expected)


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tiny
from scrubjay.closed_form import saved_crops
from scrubjay.models import embedding
from scrubjay.closed_form.saved_crops import SavedCrops
from test_session_images import VIEWS, over
import torch

torch.set_num_threads(1)
embedding.CPU_PIXELS, saved_crops.SECONDS = 2 * (1 + VIEWS) * tiny.IMAGES.size**2, 0.0
root = Path(sys.argv[1])
for number, _ in enumerate(over(root, 9, SavedCrops(root / "saved", "spring")).features(VIEWS)):
    print(number, flush=True)
    if number == 3:
        sys.stdin.read()
"""


@pytest.mark.usefixtures("small")
def test_a_killed_pass_goes_on_to_the_bit(
    images: SessionImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, tests = tmp_path / "pass.py", Path(tiny.__file__).parent
    script.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + KILLED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(tests)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "saved" / f"{VIEWS}-000000004.safetensors").exists, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    starts = counted(monkeypatch)
    assert same(list(images.features(VIEWS)), unsaved(images))
    assert starts[0] >= 6


def test_processes_give_the_same_bits_though_one_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = over(tmp_path, 240)
    together = dataclasses.replace(alone, workers=Workers(2))
    expected, killed = list(alone.features(4)), []
    found = []
    for batch in together.features(4):
        found.append(batch)
        if not killed:
            killed.append(active_children()[0])
            killed[0].kill()
    assert len(found) > 3
    assert same(found, expected)
    assert killed[0].exitcode == -signal.SIGKILL
    one, two = (statistics(each) for each in (expected, found))
    torch.testing.assert_close(one.scatter, two.scatter, rtol=1e-12, atol=0)


def statistics(batches: list[Crops]) -> Statistics:
    collected = Accumulator("era", batches[0].features.shape[1])
    for batch in batches:
        collected.add(batch.features, batch.labels)
    return collected.statistics()
