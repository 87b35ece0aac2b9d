"""Weights on disk: a safetensors file with a JSON description in its header. Pickle is never used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scrubjay.errors import CheckpointError, UserError
from scrubjay.io.atomic import write_file


def save_tensors(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write named tensors and a JSON-serialisable description, atomically.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    write_file(path, save(plain, metadata={"info": json.dumps(dict(info))}))


def load_tensors(path: Path, cure: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The named tensors and the description in a file.

    Args:
        path: the file.
        cure: what the user can do if the file is damaged, for the message.

    Raises:
        CheckpointError: the file is missing, truncated or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads((file.metadata() or {}).get("info", "{}"))
            return {key: file.get_tensor(key) for key in file.keys()}, info  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or incomplete ({error}): {cure}.") from None


def check_key(path: Path, info: Mapping[str, Any], key: str) -> None:
    """Refuse the saved state of interrupted work on something else.

    Args:
        path: the file, for the message.
        info: description in the file, with the key of its work.
        key: key of the work to be done.

    Raises:
        UserError: the keys differ.
    """
    if info.get("key") != key:
        raise UserError(
            f"{path}: holds interrupted work on other data or with other options: run it with those to finish it, "
            "or delete the file to discard it."
        )


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors that were read from `path` into a module.

    Raises:
        CheckpointError: names or shapes of the tensors do not fit the module.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: these weights are of another network ({reason}).") from None
