"""Pushes a generation to a repository of the Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scrubjay.errors import ConfigError, StorageError
from scrubjay.generations.generation import Generation
from scrubjay.generations.lineage import RESTORE
from scrubjay.generations.session_statistics import SessionStatistics
from scrubjay.io.atomic import write_file, write_json
from scrubjay.io.hub import hub, sha256
from scrubjay.models.checkpoint import load_tensors, save_tensors
from scrubjay.report.model_card import model_card
from scrubjay.sharing.portable import CARD, DESCRIPTION, MODEL, STATE, STATISTICS, portable
from scrubjay.workspace.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was pushed.

    Attributes:
        url: address of the commit.
        files: size in bytes of each file, by name.
    """

    url: str
    files: Mapping[str, int]


def push(
    workspace: Workspace,
    name: str,
    repository: str,
    intended_use: str | None = None,
    weights_only: bool = False,
    public: bool = False,
) -> Pushed:
    """Push a generation as one commit, so that the repository holds all of it or nothing of it.

    Args:
        workspace: the open catalogue.
        name: name of the generation.
        repository: `owner/name`; it is made where there is none.
        intended_use: what the model is for, for the model card.
        weights_only: leave out statistics and the state of the method, so that it can answer, but hardly learn.
        public: make a new repository public; without it, only its owner sees it.

    Raises:
        NotFoundError: there is no such generation.
        SpaceError: the weights on disk are not those of the generation.
        HubError: the Hub refuses, or cannot be reached.
        StorageError: the disk is full.
    """
    if repository.count("/") != 1:
        raise ConfigError(f"{repository!r} is not the id of a repository: write it as owner/name.")
    generation = workspace.lineage.get(name)
    workspace.encoder(generation)  # refuses weights that are not those of the generation
    try:
        with tempfile.TemporaryDirectory(dir=workspace.folder, prefix=".push-") as folder:
            sizes = write_files(workspace, generation, Path(folder), repository, intended_use, weights_only)
            url = _upload(Path(folder), repository, public, f"Add {name} ({len(set(generation.classes))} classes)")
    except OSError as error:
        raise StorageError(f"{workspace.folder}: cannot be written ({error.strerror}): free some space.") from None
    return Pushed(url, sizes)


def write_files(
    workspace: Workspace,
    generation: Generation,
    folder: Path,
    repository: str,
    intended_use: str | None = None,
    weights_only: bool = False,
) -> dict[str, int]:
    """Write the files of a generation to a folder; returns their sizes in bytes, by name. Arguments as in `push`."""
    lineage = workspace.lineage
    save_tensors(folder / MODEL, lineage.network(generation).state_dict(), {"generation": generation.name})
    statistics = None if weights_only else lineage.statistics.total(generation)
    if statistics is not None:
        SessionStatistics.of_session(generation.classes, statistics).save(folder / STATISTICS)
    state = generation.folder / STATE
    if state.exists() and not weights_only:
        save_tensors(folder / STATE, load_tensors(state, RESTORE)[0], {"generation": generation.name})
    told = portable(generation, workspace.options.images, {path.name: sha256(path) for path in folder.iterdir()})
    write_json(folder / DESCRIPTION, told.model_dump(mode="json"))
    write_file(folder / CARD, model_card(told, repository, intended_use).encode())
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def _upload(folder: Path, repository: str, public: bool, message: str) -> str:
    """Make the repository where there is none, and add all files of a folder in one commit; returns its address."""
    with hub(repository) as api:
        from huggingface_hub import CommitOperationAdd

        api.create_repo(repository, private=not public, exist_ok=True)
        files = [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in sorted(folder.iterdir())]
        return str(api.create_commit(repository, files, commit_message=message).commit_url)
