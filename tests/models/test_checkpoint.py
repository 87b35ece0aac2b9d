from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import CheckpointError, StorageError
from scrubjay.io.atomic import write_file, write_json
from scrubjay.models.checkpoint import load_into, load_tensors, save_tensors

FULL_DISK = """
import resource, sys
from pathlib import Path
from scrubjay.errors import StorageError
from scrubjay.io.atomic import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_file(Path(sys.argv[1]), b"new" * 10_000)
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_tensors_come_back_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = (torch.randn(3, 4, 2, 2) * 10).to(dtype)
    tensors = {
        "values": values,
        "strided": values.to(memory_format=torch.channels_last),
        "part": values[1:, ::2],
        "shared": values,
        "scalar": values[0, 0, 0, 0],
        "empty": torch.empty(0, 5, dtype=dtype),
    }
    info = {"key": "grün", "steps": [1, 2], "nothing": None}
    save_tensors(tmp_path / "deep" / "er" / "a.safetensors", tensors, info)
    found, description = load_tensors(tmp_path / "deep" / "er" / "a.safetensors", "make it again")
    assert description == info
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], value)


def test_no_tensor_at_all_comes_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {}, {})
    assert load_tensors(tmp_path / "a.safetensors", "make it again") == ({}, {})


@given(share=st.floats(0, 0.999))
def test_a_file_cut_short_is_refused(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.safetensors"
    save_tensors(path, {"a": torch.ones(20)}, {"key": 1})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"damaged or incomplete .*: make it again\.$") as caught:
        load_tensors(path, "make it again")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_tensors(tmp_path / "a.safetensors", "make it again")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a\.safetensors: these weights are of another network") as caught:
        load_into(torch.nn.Linear(2, 3), torch.nn.Linear(3, 3).state_dict(), tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_json_is_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Rotkehlchen – ü"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Rotkehlchen – ü" in text
    assert json.loads(text) == {"name": "Rotkehlchen – ü"}


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_file(path, b"old")
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: could not be written")
    assert done.stdout.count("\n") == 1
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for path in (tmp_path / "file" / "a.bin", tmp_path / "file" / "deeper" / "a.bin"):
        with pytest.raises(StorageError, match=r"a\.bin: could not be written"):
            write_file(path, b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.bin" / "inside").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"a\.bin: could not be written"):
        write_file(tmp_path / "a.bin", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]
