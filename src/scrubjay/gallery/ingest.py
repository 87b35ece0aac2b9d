"""Images into the gallery, embedded by every generation that is kept up; what cannot be decoded is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from scrubjay.data.photos import content_hash
from scrubjay.errors import DataError, ImageError
from scrubjay.gallery.gallery import Gallery
from scrubjay.stores import Item, Space
from scrubjay.types import Embeddings, Sample

CHUNK = 256

Embed = Callable[[Sequence[Sample]], Embeddings]


@dataclass(frozen=True, slots=True)
class Added:
    """What adding images did: how many of them the gallery holds now, and those left out, with the reason."""

    items: int
    failures: tuple[tuple[str, str], ...]


def sample_of(item: Item) -> Sample:
    """The image of an item that was added, to be embedded again; its label is not looked at.

    Raises:
        DataError: the item's box is none.
    """
    box = item.metadata.get("box")
    if box is None:
        return Sample(Path(item.uri), 0)
    try:
        left, top, right, bottom = (int(part) for part in str(box).split(","))
    except ValueError:
        raise DataError(f"item {item.id!r}: its box is {box!r}; needed are four whole numbers: left,top,…") from None
    return Sample(Path(item.uri), 0, box=(left, top, right, bottom))


def _item(name: str, sample: Sample) -> Item:
    box = {} if sample.box is None else {"box": ",".join(map(str, sample.box))}
    return Item(name, str(sample.path), name, metadata=box)


@dataclass
class Adding:
    """Adds what is not there yet. An item's id is the hash of its content: the same image twice is one item.

    Args:
        gallery: no one else writes to it meanwhile.
        embedders: spaces, oldest first, each with what embeds for it.
        strict: an image that cannot be decoded stops the work instead of being left out.
    """

    gallery: Gallery
    embedders: Sequence[tuple[Space, Embed]]
    strict: bool
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, found: Sequence[tuple[Sample, str | None]]) -> Added:
        """Add samples with the names of their classes, a chunk after the other; a label of None changes none.

        Raises:
            ImageError: an image cannot be decoded, if strict.
        """
        known = {item.id: item for item in self.gallery.store.items()}
        held = [self._held(space, known) for space, _ in self.embedders]
        items: set[str] = set()
        for start in range(0, len(found), CHUNK):
            chunk = self._identified(found[start : start + CHUNK], known)
            moved = {name: item for name, (item, _) in chunk.items() if known.get(name, item) != item}
            self.gallery.store.put_items(moved.values())
            known |= moved
            for (space, embed), there in zip(self.embedders, held, strict=True):
                missing = {name: entry for name, entry in chunk.items() if name not in there}
                there.update(self._embedded(missing, space, embed))
            items |= chunk.keys() & held[-1]
        return Added(len(items), tuple(self.failures.items()))

    def _held(self, space: Space, known: Mapping[str, Item]) -> set[str]:
        if space not in self.gallery.store.spaces():
            return set()
        return known.keys() - set(self.gallery.store.missing(space.id))

    def _identified(
        self, chunk: Sequence[tuple[Sample, str | None]], known: Mapping[str, Item]
    ) -> dict[str, tuple[Item, Sample]]:
        found: dict[str, tuple[Item, Sample]] = {}
        for sample, label in chunk:
            try:
                name = content_hash(sample)
                before = found[name][0] if name in found else known.get(name, _item(name, sample))
                found[name] = replace(before, uri=str(sample.path), label=label or before.label), sample
            except DataError as error:  # the file cannot be read, or its name cannot be stored
                self._leave_out([sample], error)
        return found

    def _embedded(self, entries: Mapping[str, tuple[Item, Sample]], space: Space, embed: Embed) -> set[str]:
        """Put items with their vectors into the gallery; returns the ids of those that could be decoded."""
        if not entries:
            return set()
        samples = [sample for _, sample in entries.values()]
        try:
            embedded = embed(samples)
        except ImageError as error:  # not one of them can be decoded
            self._leave_out(samples, error)
            return set()
        self.failures |= dict(embedded.failures)
        names = list(entries)
        done = [entries[names[index]][0] for index in embedded.indices]
        self.gallery.add(done, embedded.vectors, space)
        return {item.id for item in done}

    def _leave_out(self, samples: Sequence[Sample], error: DataError) -> None:
        if self.strict:
            raise error
        for sample in samples:
            path = str(sample.path)
            reason = str(error).removeprefix(f"{path}: ")
            self.failures[path] = "cannot be decoded; save it again as JPEG or PNG." if len(samples) > 1 else reason
