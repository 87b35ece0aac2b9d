"""Pulls a generation from a repository of the Hub into a catalogue.

Nothing in the repository is trusted: its files have fixed names and a largest size, hold tensors and JSON only, and the
network that they make must have the fingerprint that they state.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from scrubjay.data.images import ImageOptions
from scrubjay.errors import CatalogueError, CheckpointError, ConfigError, HubError, StorageError
from scrubjay.generations.adopted import adopt
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import Lineage
from scrubjay.generations.serving import ServingFile
from scrubjay.generations.session_statistics import SessionStatistics
from scrubjay.io.atomic import write_json
from scrubjay.io.hub import download, hub, sha256
from scrubjay.io.locking import locked
from scrubjay.methods import method
from scrubjay.models.checkpoint import load_into, load_tensors
from scrubjay.models.embedder import Network, NetworkOptions
from scrubjay.models.embedding import Encoder
from scrubjay.sharing.portable import (
    DESCRIPTION,
    LARGEST,
    MODEL,
    STATE,
    STATISTICS,
    PortableGeneration,
    check_model,
    parsed,
)
from scrubjay.training import TrainingOptions
from scrubjay.workspace.migrations import FORMAT
from scrubjay.workspace.options import CatalogueOptions
from scrubjay.workspace.workspace import Workspace

_CURE = "pull another repository"


@dataclass(frozen=True)
class Received:
    """A generation that was downloaded and checked.

    Attributes:
        description: everything that is not a tensor.
        network: its network.
        statistics: statistics of all images that it has learned; None where they were not pushed.
        state: what its method keeps for the next session, by name; empty where nothing was pushed.
        source: `owner/name@commit`.
    """

    description: PortableGeneration
    network: Network
    statistics: SessionStatistics | None
    state: Mapping[str, Tensor]
    source: str

    @property
    def images(self) -> ImageOptions:
        """How its images are prepared; what a machine can bear is not taken from a repository."""
        assert self.description.images is not None
        return ImageOptions(**self.description.images.model_dump(include={"size", "resize", "scale", "flip", "views"}))


def pull(repository: str, folder: Path, revision: str | None = None) -> Generation:
    """Make a generation of a repository one of a catalogue.

    In a new folder it makes a catalogue. The generation answers queries at once. A catalogue that has learned something
    else is refused: no bridge leads from one line of generations to the other, so that its items would not be found.

    Args:
        repository: `owner/name`.
        folder: folder of a catalogue, or a new or empty one.
        revision: branch, tag or commit; None: the main branch.

    Raises:
        HubError: the repository cannot be reached, or does not hold a generation as it should be.
        CatalogueError: the folder is in use for something else, or its catalogue has learned something else.
        ConfigError: the catalogue has another network, or prepares images in another way.
        StorageError: the disk is full; nothing was changed.
    """
    existing = os.path.exists(folder / "catalogue.json")
    if not existing and os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise CatalogueError(f"{folder}: is in use for something else; name a catalogue, or a new or empty folder.")
    received = receive(repository, revision)
    if existing:
        return _into(Workspace(folder), received)
    return _as_catalogue(folder, received)


def receive(repository: str, revision: str | None = None) -> Received:
    """Download a generation and check it; an interrupted download goes on the next time. Errors as in `pull`."""
    with hub(repository) as api:
        listing = api.model_info(repository, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size for file in listing.siblings or ()}
    if DESCRIPTION not in sizes:
        raise HubError(f"{repository}: holds no generation of scrubjay; name a repository of `scrubjay push`.")
    commit = str(listing.sha)
    source = f"{repository}@{commit}"
    description = parsed(_file(repository, DESCRIPTION, commit, sizes).read_bytes(), f"{source}/{DESCRIPTION}")
    files = {name: _file(repository, name, commit, sizes) for name in description.files}
    for name, path in files.items():
        if sha256(path) != description.files[name]:
            raise HubError(f"{source}/{name}: does not have the SHA-256 that {DESCRIPTION} states; {_CURE}.")
    check_model(files[MODEL], description)
    try:
        return _checked(description, files, source)
    except CheckpointError as error:
        raise HubError(f"{source}: {error}") from None


def _file(repository: str, name: str, commit: str, sizes: Mapping[str, int | None]) -> Path:
    """Download a file, unless it is larger than files of its name may be."""
    if (sizes.get(name) or 0) > LARGEST[name]:
        raise HubError(f"{repository}: {name} has {sizes[name]} bytes, more than {LARGEST[name]}; {_CURE}.")
    path = download(repository, name, commit)
    if path.stat().st_size > LARGEST[name]:
        raise HubError(f"{repository}: {name} has more than {LARGEST[name]} bytes; {_CURE}.")
    return path


def _checked(description: PortableGeneration, files: Mapping[str, Path], source: str) -> Received:
    """Load what was downloaded.

    Raises:
        HubError: the network has another fingerprint, or the statistics are of another trunk.
        CheckpointError: tensors do not fit.
    """
    network = Network(description.network.model_copy(update={"pretrained": False}))
    load_into(network, load_tensors(files[MODEL], _CURE)[0], files[MODEL])
    network.options = description.network
    statistics = SessionStatistics.load(files[STATISTICS])[0] if STATISTICS in files else None
    state = load_tensors(files[STATE], _CURE)[0] if STATE in files else {}
    received = Received(description, network.eval(), statistics, state, source)
    encoder = Encoder(network.embedder, received.images)
    if encoder.fingerprint != description.fingerprint:
        raise HubError(
            f"{source}: its weights do not have the fingerprint {description.fingerprint} that it states; {_CURE}."
        )
    if statistics is not None:
        width = statistics.statistics.means.shape[1]
        if statistics.era != encoder.era or width != network.embedder.projection.in_features:
            raise HubError(f"{source}/{STATISTICS}: is of another trunk than its network; {_CURE}.")
        statistics.under(tuple(dict.fromkeys(description.classes)))
    name, options = str(description.method.get("name")), dict(description.method)
    options.pop("name", None)
    kind = method(name)
    learner = kind(network, kind.Options.parse(options, f"{source}: method {name}"))
    own = learner.state_dict()
    load_into(learner, {**own, **{key: value for key, value in state.items() if key in own}}, Path(STATE))
    return received


def _adopted(lineage: Lineage, received: Received) -> Generation:
    description = received.description
    kind = method(str(description.method["name"]))
    kept = received.state or received.statistics
    return adopt(
        lineage,
        received.network,
        description.record.model_copy(update={"images": received.images}),
        received.state,
        received.statistics,
        created=description.created,
        versions=description.versions,
        pulled_from=received.source,
        weights_only=kind.has_memory and not kept,
    )


def _into(workspace: Workspace, received: Received) -> Generation:
    """Add a generation to a catalogue that has learned nothing, unless it is there."""
    with locked(workspace.folder):
        known = workspace.lineage.generations()
        same = next((each for each in known if each.fingerprint == received.description.fingerprint), None)
        if same is not None:
            return same
        if known:
            raise CatalogueError(
                f"{workspace.folder}: has learned {known[-1].name}, and no bridge leads from it to what is pulled: "
                "pull it into a new folder; `scrubjay merge` makes one catalogue of two that learned in closed form."
            )
        options, images = workspace.options.network, workspace.options.images
        if _comparable(options) != _comparable(received.network.options):
            raise ConfigError(
                f"{received.source}: has another network than {workspace.folder}: pull it into a new folder."
            )
        if (images.size, images.resize) != (received.images.size, received.images.resize):
            raise ConfigError(
                f"{received.source}: is for images of {received.images.size} of {received.images.resize} pixels, "
                f"{workspace.folder} for {images.size} of {images.resize}: pull it into a new folder."
            )
        generation = _adopted(workspace.lineage, received)
        workspace.serving.change("promote", generation.name, workspace.serving.read().revision)
        return generation


def _comparable(options: NetworkOptions) -> dict[str, Any]:
    """The options that the generations of a catalogue have in common, whatever their weights are."""
    told = options.model_dump(exclude={"pretrained", "weights", "sha256", "origin", "backbone"})
    origin = options.origin
    return {**told, "architecture": (origin and (origin.architecture, origin.arguments)) or (options.backbone, {})}


def _as_catalogue(folder: Path, received: Received) -> Generation:
    """Make a catalogue whose first generation is the one received, and answers."""
    training = TrainingOptions.parse(received.description.training or {}, f"{received.source}: training")
    options = CatalogueOptions(images=received.images, network=received.network.options, training=training)
    building = folder.absolute().with_name(f".{folder.absolute().name}.pulling")
    shutil.rmtree(building, ignore_errors=True)  # left by a pull that was killed
    try:
        generation = _adopted(Lineage(building / "generations"), received)
        ServingFile(building).change("promote", generation.name, 0)
        write_json(building / "catalogue.json", {"format": FORMAT, **options.model_dump(mode="json")})
        if folder.exists():
            folder.rmdir()
        building.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: could not be written ({error.strerror or error}): free some space.") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return replace(generation, folder=folder / "generations" / generation.name)
