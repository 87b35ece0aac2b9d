from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny
from scrubjay.data.images import ImageOptions
from scrubjay.data.loading import ImageLoader, batches, in_order, readable
from scrubjay.errors import ImageError, StorageError
from scrubjay.models.activations import Activations
from scrubjay.models.embedder import Embedder
from scrubjay.types import Sample
from waiting import GUARD

IMAGES = tiny.IMAGES.model_copy(update={"views": 2})
FROZEN = tiny.NETWORK.model_copy(update={"frozen": "layer1"})


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    embedder = tiny.learner(network=FROZEN).network.embedder.eval()
    embedder.make_batch_invariant()
    return embedder


def samples(root: Path, number: int = 6) -> list[Sample]:
    return [Sample(tiny.paint(root / f"{index}.png", index % 3, index), index % 3) for index in range(number)]


def train(of: list[Sample], images: ImageOptions = IMAGES) -> ImageLoader:
    return ImageLoader(of, images, train=True)


def test_a_batch_is_what_the_frozen_part_makes_of_the_images(embedder: Embedder, tmp_path: Path) -> None:
    of = samples(tmp_path)
    keys = [(0, 5), (3, 8), (0, 6), (0, 7), (5, 1)]
    kept = Activations(tmp_path / "kept", embedder, IMAGES)
    plain = train(of).__getitems__(keys)
    with torch.no_grad():
        expected = embedder.prepare(plain.images)
    for _ in range(2):
        found = kept.of(train(of)).__getitems__(keys)
        assert torch.equal(found.images, expected)
        assert torch.equal(found.labels, plain.labels)
        assert torch.equal(found.indices, plain.indices)
        assert not found.images.requires_grad
    assert torch.equal(found.images[0], found.images[3]), "seeds 5 and 7 are the same of two views"
    assert not torch.equal(found.images[0], found.images[2])


def test_centre_crops_are_kept_beside_the_others(embedder: Embedder, tmp_path: Path) -> None:
    of = samples(tmp_path)
    kept = Activations(tmp_path / "kept", embedder, IMAGES)
    seen = list(in_order(kept.of(ImageLoader(of, IMAGES, train=False)), 4))
    assert [len(batch.labels) for batch in seen] == [4, 2]
    with torch.no_grad():
        expected = embedder.prepare(ImageLoader(of, IMAGES, train=False).__getitems__(range(6)).images)
    assert torch.equal(torch.cat([batch.images for batch in seen]), expected)


def rows(kept: Activations) -> int:
    return int(sqlite3.connect(kept.file).execute("SELECT count(*) FROM activations").fetchone()[0])


def test_each_image_and_view_is_computed_once_for_all_runs(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = samples(tmp_path)
    for images in (IMAGES, IMAGES.model_copy(update={"cache_mb": 0})):
        kept = Activations(tmp_path / "kept", embedder, images)
        for seed in range(6):
            kept.of(train(of, images)).__getitems__([(index, seed) for index in range(6)])
        assert rows(kept) == 12

    def never(*_: object) -> None:
        raise AssertionError("a kept activation was computed again")

    monkeypatch.setattr(embedder, "prepare", never)
    again = Activations(tmp_path / "kept", embedder, IMAGES)
    again.of(train(of)).__getitems__([(index, 1) for index in range(6)])


def test_crops_that_never_come_again_are_not_kept(embedder: Embedder, tmp_path: Path) -> None:
    of, images = samples(tmp_path), tiny.IMAGES
    kept = Activations(tmp_path / "kept", embedder, images)
    found = kept.of(train(of, images)).__getitems__([(0, 11), (1, 12)])
    with torch.no_grad():
        expected = embedder.prepare(train(of, images).__getitems__([(0, 11), (1, 12)]).images)
    assert torch.equal(found.images, expected)
    assert rows(kept) == 0


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_changed_image_is_not_served_stale(change: str, embedder: Embedder, tmp_path: Path) -> None:
    of = [Sample(tiny.paint(tmp_path / "0.bmp", 0, 0), 0)]  # without compression: the size is that of the image
    before = Activations(tmp_path / "kept", embedder, IMAGES).of(train(of)).__getitems__([(0, 0)])
    status = of[0].path.stat()
    tiny.paint(of[0].path, 2, 99, side=44 if change == "size" else 40)
    assert (of[0].path.stat().st_size == status.st_size) == (change == "time")
    os.utime(of[0].path, ns=(status.st_atime_ns, status.st_mtime_ns + (change == "time")))
    after = Activations(tmp_path / "kept", embedder, IMAGES).of(train(of)).__getitems__([(0, 0)])
    with torch.no_grad():
        expected = embedder.prepare(train(of).__getitems__([(0, 0)]).images)
    assert torch.equal(after.images, expected)
    assert not torch.equal(after.images, before.images)


def test_other_weights_and_other_preparation_have_other_files(embedder: Embedder, tmp_path: Path) -> None:
    def file(of: Embedder, **changes: object) -> Path:
        return Activations(tmp_path, of, IMAGES.model_copy(update=changes)).file

    own = file(embedder)
    assert file(embedder, cache_mb=1, workers=2, on_error="raise") == own
    others = [file(embedder, **{key: value}) for key, value in (("size", 24), ("resize", 40), ("views", 3))]
    others += [file(embedder, **{key: value}) for key, value in (("flip", 0.1), ("scale", (0.4, 1.0)))]
    others.append(file(embedder, max_pixels=10_000))
    moved = tiny.learner(network=FROZEN).network.embedder
    trained = tiny.learner(network=FROZEN).network.embedder
    with torch.no_grad():
        moved.state_dict()["backbone.conv1.1.running_mean"].add_(1e-3)
        trained.state_dict()["backbone.layer4.0.conv1.weight"].add_(1e-3)
    assert file(trained) == own, "what is trained does not matter"
    others += [
        file(moved),
        file(tiny.learner(network=FROZEN.model_copy(update={"frozen": "maxpool"})).network.embedder),
    ]
    assert len({own, *others}) == len(others) + 1


def test_what_cannot_be_decoded_is_reported_as_without(embedder: Embedder, tmp_path: Path) -> None:
    of = samples(tmp_path)
    of[1].path.write_text("no image")
    of[4].path.unlink()
    kept = Activations(tmp_path / "kept", embedder, IMAGES)
    for _ in range(2):
        assert readable(kept.of(train(of))) == readable(train(of))
        keys = [(index, 3) for index in range(6)]
        plain, found = train(of).__getitems__(keys), kept.of(train(of)).__getitems__(keys)
        assert found.failures == plain.failures
        assert torch.equal(found.indices, plain.indices)
        assert len(found.images) == 4
    only = [[(1, 0), (4, 0)]]
    with pytest.raises(ImageError, match="none of 2 images can be decoded"):
        list(batches(kept.of(train(of)), only))
    strict = IMAGES.model_copy(update={"on_error": "raise"})
    with pytest.raises(ImageError, match=r"1\.png: not an image"):
        readable(kept.of(train(of, strict)))


def test_a_file_that_is_none_is_named_with_a_cure(embedder: Embedder, tmp_path: Path) -> None:
    file = Activations(tmp_path, embedder, IMAGES).file
    for path in tmp_path.glob(f"{file.name}*"):
        path.unlink()
    file.write_bytes(b"this is no database, but it is long enough to be taken for one" * 40)
    with pytest.raises(StorageError, match=r"\.sqlite: cannot be used \(.*\): .*delete the file") as caught:
        Activations(tmp_path, embedder, IMAGES)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match=r"taken/.*cannot be used"):
        Activations(tmp_path / "taken", embedder, IMAGES)
    file = Activations(tmp_path / "folder", embedder, IMAGES).file
    for path in file.parent.iterdir():
        path.unlink()
    file.mkdir()
    with pytest.raises(StorageError, match=r"cannot be used \(unable to open"):
        Activations(tmp_path / "folder", embedder, IMAGES)


def filled(embedder: Embedder, tmp_path: Path, of: list[Sample]) -> Activations:
    kept = Activations(tmp_path / "kept", embedder, IMAGES)
    kept.of(train(of)).__getitems__([(index, 0) for index in range(len(of))])
    return kept


def test_a_damaged_row_is_named_with_a_cure(embedder: Embedder, tmp_path: Path) -> None:
    of = samples(tmp_path)
    kept = filled(embedder, tmp_path, of)
    with sqlite3.connect(kept.file) as rows_:
        rows_.execute("UPDATE activations SET value = substr(value, 1, 101)")
    with pytest.raises(StorageError, match=r"damaged \(.*\): delete it, and its activations are computed again"):
        Activations(tmp_path / "kept", embedder, IMAGES).of(train(of)).__getitems__([(0, 0)])


def test_a_damaged_table_is_named_with_a_cure(embedder: Embedder, tmp_path: Path) -> None:
    of = samples(tmp_path)
    kept = filled(embedder, tmp_path, of)
    kept._rows.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept._rows.close()
    content = bytearray(kept.file.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    kept.file.write_bytes(bytes(content))
    later = Activations(tmp_path / "kept", embedder, IMAGES)
    with pytest.raises(StorageError, match=r"\.sqlite: damaged .*delete it"):
        later.of(train(of)).__getitems__([(0, 0)])
    with pytest.raises(StorageError, match=r"\.sqlite: damaged .*delete it"):
        readable(later.of(train(of)))


def test_a_full_disk_is_named_and_holds_nobody_up(embedder: Embedder, tmp_path: Path) -> None:
    of = samples(tmp_path)
    kept = Activations(tmp_path / "kept", embedder, IMAGES)
    kept._rows.execute("PRAGMA max_page_count = 3")
    with pytest.raises(StorageError, match=r"could not be written \(database or disk is full\): free some space"):
        kept.of(train(of)).__getitems__([(index, 0) for index in range(6)])
    other = Activations(tmp_path / "kept", embedder, IMAGES)
    other._rows.execute("PRAGMA busy_timeout = 0")
    other.of(train(of)).__getitems__([(0, 0)])
    assert rows(other) == 1


WORK = """
import sys
from pathlib import Path
import torch
sys.path[:0] = sys.argv[1:3]
torch.set_num_threads(1)
import tiny
from test_activations import FROZEN, IMAGES, train
from scrubjay.models.activations import Activations
from scrubjay.types import Sample
root = Path(sys.argv[3])
of = [Sample(root / f"{index}.png", index % 3) for index in range(6)]
kept = Activations(root / "kept", tiny.learner(network=FROZEN).network.embedder.eval(), IMAGES)
keys = [(index, seed) for seed in range(2) for index in range(len(of))]
print(sum(float(kept.of(train(of)).__getitems__([key]).images.double().sum()) for key in keys))
"""


def test_two_processes_share_a_file(embedder: Embedder, tmp_path: Path) -> None:
    of, here = samples(tmp_path), Path(__file__).parent
    command = [sys.executable, "-c", WORK, str(here.parent), str(here), str(tmp_path)]
    going = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    totals = [float(process.communicate(timeout=GUARD)[0]) for process in going]
    keys = [(index, seed) for seed in range(2) for index in range(6)]
    with torch.no_grad():
        expected = sum(float(embedder.prepare(train(of).__getitems__([key]).images).double().sum()) for key in keys)
    assert totals == [expected, expected]
    assert rows(Activations(tmp_path / "kept", embedder, IMAGES)) == 12


def test_an_embedder_without_a_frozen_part_has_no_activations(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frozen part"):
        Activations(tmp_path, tiny.learner().network.embedder, IMAGES)


def test_views_are_a_few_crops_of_each_image(tmp_path: Path) -> None:
    of = samples(tmp_path)
    two = train(of)
    for index in range(2):
        seen = {two.view((index, seed)) for seed in range(20)}
        assert len(seen) == 2
        assert two.view((index, 3)) == two.view((index, 5))
    assert len({two.view((index, 0)) for index in range(6)}) == 6
    assert torch.equal(two[0, 3], two[0, 5])
    assert not torch.equal(two[0, 3], two[0, 4])
    fresh = train(of, tiny.IMAGES)
    assert [fresh.view((0, seed)) for seed in range(5)] == list(range(5))
