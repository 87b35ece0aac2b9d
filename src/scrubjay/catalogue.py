"""A catalogue: a folder that learns. `init → learn → add → search → learn again`.

    shop/catalogue.json        the options it was made with
    shop/generations/g0 …      what was learned
    shop/gallery/              the store: items, and a table of vectors for each embedding space
    shop/session-g1.safetensors   learning that was interrupted, by the generation it was to become

There is always one embedding space that holds every item, and queries go through the newest such space. While the
items are not all embedded by the newest generation, pictures that are added get vectors of both, so that a new
generation never makes a gallery unsearchable; adding the older pictures again completes it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from scrubjay.config import Config
from scrubjay.data.images import ImageOptions, decode
from scrubjay.data.loading import Pictures
from scrubjay.data.photos import entries, read_photos
from scrubjay.data.stream import data_hash, extend
from scrubjay.errors import CatalogueError, ConfigError, ImageError
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.gallery import Gallery
from scrubjay.lineage import Generation, Lineage
from scrubjay.locking import locked
from scrubjay.methods import Method, method
from scrubjay.models.checkpoint import write_json
from scrubjay.models.embedder import Embedder, Network, NetworkOptions
from scrubjay.models.embedding import embed, space_fingerprint
from scrubjay.stores import Item, Space, open_store
from scrubjay.training import TrainingOptions, learn, seeded
from scrubjay.types import Dataset, Hit, Sample, Session

CHUNK = 256
HELD_OUT = 0.15


class CatalogueOptions(Config):
    """What a catalogue is made with; the same for all its generations."""

    seed: int = Field(0, ge=0)
    """Of weights, batches and augmentation."""
    images: ImageOptions = ImageOptions()
    """How pictures are prepared."""
    network: NetworkOptions = NetworkOptions()
    """What is trained."""
    training: TrainingOptions = TrainingOptions()
    """How each session is learned."""


@dataclass(frozen=True, slots=True)
class Added:
    """What adding pictures did: items written, and pictures that could not be decoded with the reason."""

    items: int
    failures: tuple[tuple[str, str], ...]


class Catalogue:
    """Opens the catalogue in a folder.

    Raises:
        CatalogueError: the folder is no catalogue.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "catalogue.json"
        if not path.is_file():
            raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CatalogueError(
                f"{path}: damaged ({error}): restore it, the generations beside it are whole."
            ) from None
        self.folder = folder
        self.options = CatalogueOptions.parse(values, str(path))
        self.lineage = Lineage(folder / "generations")
        self.gallery = Gallery(open_store(f"lancedb://{(folder / 'gallery').absolute()}"))

    @classmethod
    def init(cls, folder: Path, options: CatalogueOptions, run: Path | None = None) -> Catalogue:
        """Make a catalogue.

        Args:
            folder: a new or empty one.
            options: for all its generations.
            run: folder of a finished run of `scrubjay run`, whose generations the catalogue starts with.

        Raises:
            CatalogueError: the folder holds something already, or `run` is no run.
        """
        if (folder / "catalogue.json").exists():
            raise CatalogueError(f"{folder}: is a catalogue already; go on with: scrubjay learn {folder} PHOTOS")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CatalogueError(f"{folder}: is in use for something else; name a new or empty folder.")
        backbone_options = options.network.model_copy(update={"pretrained": False})
        Embedder(backbone_options)  # an unknown backbone is refused before anything is written
        if run is not None:
            if not (run / "generations").is_dir():
                raise CatalogueError(f"{run}: no finished run here; give the --out of a `scrubjay run`.")
            shutil.copytree(run / "generations", folder / "generations")
        write_json(folder / "catalogue.json", options.model_dump(mode="json"))
        return cls(folder)

    def learn(self, photos: Path, method_name: str = "mmd", settings: Mapping[str, Any] | None = None) -> Generation:
        """Learn the classes of a folder or table, all of them new; no older picture is needed.

        Interrupted, the same call goes on where it stopped. A part of the pictures (the test split, or about one in
        seven) is held out and measured on.

        Args:
            photos: folder with a sub-folder a class, or a table (see the sources `folder` and `table`).
            method_name: file name of a method; in the initial session all learn alike.
            settings: options of the method.

        Raises:
            UserError: the pictures are not as needed, or a class is known already.
        """
        with locked(self.folder):
            kind = method(method_name)
            if kind.needs_old_images:
                raise ConfigError(f"method {method_name!r} needs the old pictures, a catalogue keeps none; take mmd.")
            options = kind.Options.parse(settings or {}, f"method {method_name}")
            dataset = read_photos(photos, HELD_OUT)
            parent = self.lineage.newest
            session = extend(parent.classes if parent else (), dataset, parent.number + 1 if parent else 0)
            with seeded(self.options.seed):
                start = {} if parent is None else {"pretrained": False}
                network = Network(self.options.network.model_copy(update=start))
            learner = kind(network, options)
            if parent is not None:
                self.lineage.restore(parent, learner)
            chosen = {"name": method_name, **options.model_dump(mode="json")}
            return self._learn(learner, session, dataset, parent, chosen)

    def add(self, photos: Iterable[Path]) -> Added:
        """Put pictures into the gallery: of folders, tables or single files. The same picture twice is one item.

        Raises:
            CatalogueError: nothing was learned yet.
            UserError: a path is missing or not as needed.
        """
        with locked(self.folder):
            newest = self._learned()
            found = [entry for path in photos for entry in entries(path)]
            answering = self.gallery.answering_space() if self.gallery.count() else None
            names = {newest.name, answering.generation if answering else newest.name}
            generations = sorted(map(self.lineage.get, names), key=lambda generation: generation.number)
            embedders = [(self._space(each), self.lineage.network(each).embedder) for each in generations]
            items: set[str] = set()
            failures: dict[str, str] = {}
            for start in range(0, len(found), CHUNK):
                chunk = found[start : start + CHUNK]
                for space, embedder in embedders:
                    embedded = self._add_chunk(chunk, space, embedder, failures)
                    items |= embedded
            return Added(len(items), tuple(failures.items()))

    def remove(self, ids: Sequence[str]) -> int:
        """Take items out of the gallery; returns how many there were."""
        with locked(self.folder):
            return self.gallery.delete(ids)

    def interrupted(self) -> list[Path]:
        """Checkpoints of learning that was cut short."""
        return sorted(self.folder.glob("session-g*.safetensors"))

    def search(self, picture: Path, k: int = 10, labels: Sequence[str] | None = None) -> list[Hit]:
        """The k items most like a picture, best first.

        Raises:
            ImageError: the query is no picture.
            CatalogueError: nothing was learned or added yet.
            SpaceError: no generation has embedded all items.
        """
        decode(picture, max_pixels=self.options.images.max_pixels)
        newest = self._learned()
        answering = self.gallery.answering_space() if self.gallery.count() else None
        generation = self.lineage.get(answering.generation) if answering else newest
        images = self.options.images.model_copy(update={"on_error": "raise"})
        query = embed(self._embedder(generation), [Sample(picture, 0)], images)
        return self.gallery.search(query.vectors, self._space(generation), k, labels)[0]

    def _learn(
        self, learner: Method, session: Session, dataset: Dataset, parent: Generation | None, chosen: dict[str, Any]
    ) -> Generation:
        images = self.options.images
        content = data_hash(session.train, dataset.root)
        checkpoint = self.folder / f"session-g{session.index}.safetensors"
        for stale in self.interrupted():  # of a generation that was made, by a process killed before it could clean up
            if stale != checkpoint:
                stale.unlink()
        work = json.dumps([content, chosen, self.options.model_dump(mode="json"), parent.name if parent else None])
        pictures = Pictures(session.train, images, train=True)
        began = time.perf_counter()
        learned = learn(
            learner,
            session,
            pictures,
            self.options.training,
            self.options.seed,
            checkpoint,
            key=hashlib.blake2b(work.encode(), digest_size=16).hexdigest(),
        )
        seconds = time.perf_counter() - began
        before = self.lineage.network(parent).embedder if parent else None
        generation = self.lineage.add(
            learner,
            {
                "method": chosen,
                "seed": self.options.seed,
                "fingerprint": space_fingerprint(learner.network.embedder, images),
                "data_hash": content,
                "classes": [*(parent.classes if parent else ()), *session.classes],
                "new_classes": list(session.classes),
                "images": len(session.train),
                "seconds": round(seconds, 1),
                "curves": learned.curves,
                "broken": learned.failures,
                "measured": {
                    "new": self._measure(learner.network.embedder, session, pictures),
                    "new_before": self._measure(before, session, pictures) if before else None,
                },
            },
        )
        checkpoint.unlink(missing_ok=True)
        return generation

    def _measure(self, embedder: Embedder, session: Session, pictures: Pictures) -> dict[str, Any] | None:
        """Held-out pictures of the new classes against those learned from; None when none are held out."""
        if not session.test:
            return None
        queries = embed(embedder, session.test, self.options.images, pictures.cache)
        gallery = embed(embedder, session.train, self.options.images, pictures.cache)
        scores = evaluate_query_gallery(queries.vectors, queries.labels, gallery.vectors, gallery.labels)
        return scores.to_dict()

    def _add_chunk(
        self,
        chunk: Sequence[tuple[Sample, str | None, str]],
        space: Space,
        embedder: Embedder,
        failures: dict[str, str],
    ) -> set[str]:
        """Add what this space does not hold yet; returns the ids of all that it holds now."""
        ids = [content for _, _, content in chunk]
        known = {item.id: item for item in self.gallery.store.items(ids)}
        exists = any(each.id == space.id for each in self.gallery.store.spaces())
        held = set(self.gallery.store.vectors(space.id, ids)[0]) if exists else set()
        todo = {
            content: (sample, label)
            for sample, label, content in chunk
            if content not in held or known[content].label != label or known[content].uri != str(sample.path)
        }
        entries = list(todo.items())
        try:
            embedded = embed(embedder, [sample for _, (sample, _) in entries], self.options.images)
        except ImageError:
            if self.options.images.on_error == "raise":
                raise
            failures |= {
                str(sample.path): "cannot be decoded; save it again as JPEG or PNG." for _, (sample, _) in entries
            }
            return held - set(todo)
        failures |= dict(embedded.failures)
        items = [
            Item(content, str(sample.path), content, label)
            for content, (sample, label) in (entries[index] for index in embedded.indices)
        ]
        if items:
            self.gallery.add(items, embedded.vectors, space)
        return {item.id for item in items} | (held - set(todo))

    def _space(self, generation: Generation) -> Space:
        dim = int(generation.info["network"]["dim"])
        name = f"{generation.name}-{generation.fingerprint[:12]}"
        return Space(name, dim, generation.fingerprint, generation.name)

    def _embedder(self, generation: Generation) -> Embedder:
        if getattr(self, "_loaded", (None,))[0] != generation.name:
            self._loaded = (generation.name, self.lineage.network(generation).embedder)
        return self._loaded[1]

    def _learned(self) -> Generation:
        newest = self.lineage.newest
        if newest is None:
            raise CatalogueError(f"{self.folder}: nothing was learned yet: scrubjay learn {self.folder} PHOTOS")
        return newest
