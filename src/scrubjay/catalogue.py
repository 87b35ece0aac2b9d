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
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from scrubjay.adding import Added, Adding
from scrubjay.config import Config
from scrubjay.data.images import ImageOptions, decode
from scrubjay.data.loading import Pictures, readable
from scrubjay.data.photos import labelled, read_photos
from scrubjay.data.stream import data_hash, extend
from scrubjay.errors import CatalogueError, ConfigError, SpaceError, StorageError
from scrubjay.evaluation.retrieval import evaluate_query_gallery
from scrubjay.gallery import Gallery
from scrubjay.lineage import Generation, Lineage
from scrubjay.locking import locked
from scrubjay.methods import Method, method
from scrubjay.models.checkpoint import write_json
from scrubjay.models.embedder import Embedder, Network, NetworkOptions
from scrubjay.models.embedding import embed, space_fingerprint
from scrubjay.stores import Space, open_store
from scrubjay.training import TrainingOptions, learn, seeded
from scrubjay.types import Dataset, Embeddings, Hit, Sample, Session

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


class Catalogue:
    """Opens the catalogue in a folder.

    Raises:
        CatalogueError: the folder is no catalogue.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "catalogue.json"
        if not os.path.isfile(path):
            raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CatalogueError(
                f"{path}: damaged ({error}): restore it, the generations beside it are whole."
            ) from None
        self._embedders: dict[str, Embedder] = {}
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
        if os.path.exists(folder / "catalogue.json"):
            raise CatalogueError(f"{folder}: is a catalogue already; go on with: scrubjay learn {folder} PHOTOS")
        if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise CatalogueError(f"{folder}: is in use for something else; name a new or empty folder.")
        if run is None:
            Embedder(options.network)  # a backbone that cannot be had is refused before anything is written
        else:
            _take_over(run / "generations", folder / "generations", options)
        write_json(folder / "catalogue.json", options.model_dump(mode="json"))
        return cls(folder)

    def learn(
        self, photos: Path, method_name: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> Generation:
        """Learn the classes of a folder or table, all of them new; no older picture is needed.

        Interrupted, the same call goes on where it stopped. A part of the pictures (the test split, or about one in
        seven) is held out and measured on.

        Args:
            photos: folder with a sub-folder a class, or a table (see the sources `folder` and `table`).
            method_name: file name of a method; none: that of the generation before, and in a new catalogue `moments`
                where a first part of the network is frozen, else `mmd`: each was the better one on the bench.
            settings: options of the method.

        Raises:
            UserError: the pictures are not as needed, or a class is known already.
        """
        with locked(self.folder):
            parent = self.lineage.newest
            before = parent.info["method"]["name"] if parent else None
            method_name = method_name or before or ("mmd" if self.options.network.frozen is None else "moments")
            kind = method(method_name)
            if kind.needs_old_images:
                raise ConfigError(f"method {method_name!r} needs the old pictures, a catalogue keeps none; take mmd.")
            if kind.remembers and before not in (None, method_name):
                raise ConfigError(
                    f"method {method_name!r} protects what was learned with it, and the newest generation was learned "
                    f"with {before!r}: go on with {before!r}, or take a method that keeps nothing, for instance mmd."
                )
            options = kind.Options.parse(settings or {}, f"method {method_name}")
            dataset = read_photos(photos, HELD_OUT)
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

        A single file has no label; it leaves that of the same picture as it is. Cut short, the same call goes on.

        Raises:
            CatalogueError: nothing was learned yet.
            UserError: a path is missing or not as needed.
        """
        with locked(self.folder):
            newest = self._learned()
            found = [each for path in photos for each in labelled(path)]
            embedders = [(self._space(each), partial(self._embed, each)) for each in self._kept_up(newest)]
            return Adding(self.gallery, embedders, self.options.images.on_error == "raise").add(found)

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
        generation = self._learned()
        if self.gallery.count():
            space = self.gallery.answering_space()
            if space is None:
                raise CatalogueError(
                    f"{self.folder}: adding was cut short: give the same `scrubjay add {self.folder} PHOTOS` again."
                )
            generation = self.lineage.get(space.generation)
        query = self._embed(generation, [Sample(picture, 0)])
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
        tests, unreadable = readable(Pictures(session.test, images, train=False, cache=pictures.cache))
        session = replace(session, test=tuple(tests))
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
                "broken": [*learned.failures, *unreadable],
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

    def _kept_up(self, newest: Generation) -> list[Generation]:
        """The generations that embed what is added, oldest first: that of most items, newest of equals; the newest."""
        counts = self.gallery.counts()
        fullest = max(reversed(counts), key=counts.__getitem__, default=newest.name)
        if fullest == newest.name or not counts[fullest]:
            return [newest]
        return [self.lineage.get(fullest), newest]

    def _embed(self, generation: Generation, samples: Sequence[Sample]) -> Embeddings:
        if generation.name not in self._embedders:
            self._embedders[generation.name] = self.lineage.network(generation).embedder
        embedded = embed(self._embedders[generation.name], samples, self.options.images)
        if embedded.fingerprint != generation.fingerprint:
            raise SpaceError(
                f"{self.folder}: the vectors would not be those of {generation.name}: its weights or images.size or "
                "images.resize were changed since it was made; set them back."
            )
        return embedded

    def _space(self, generation: Generation) -> Space:
        dim = int(generation.info["network"]["dim"])
        name = f"{generation.name}-{generation.fingerprint[:12]}"
        return Space(name, dim, generation.fingerprint, generation.name)

    def _learned(self) -> Generation:
        newest = self.lineage.newest
        if newest is None:
            raise CatalogueError(f"{self.folder}: nothing was learned yet: scrubjay learn {self.folder} PHOTOS")
        return newest


def _take_over(generations: Path, target: Path, options: CatalogueOptions) -> None:
    """Copy the generations of a run, if they are of the same network and of pictures prepared alike."""
    lineage = Lineage(generations)
    newest = lineage.newest
    if newest is None:
        raise CatalogueError(f"{generations.parent}: no finished run here; give the --out of a `scrubjay run`.")
    network = lineage.network(newest)
    same_space = space_fingerprint(network.embedder, options.images) == newest.fingerprint
    if network.options != options.network or not same_space:
        raise ConfigError(f"{generations.parent}: has another network or image size; leave network and images as is.")
    try:
        shutil.copytree(generations, target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise StorageError(
            f"{target}: could not be written ({error.strerror or 'copy failed'}): free some space."
        ) from None
