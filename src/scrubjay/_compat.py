"""Import of torchvision, timm and torchmetrics, also where torchvision was built for another torch.

A torchvision wheel built for CUDA beside a CPU build of torch fails on import, because two of its operators are
missing. Declaring their schemas first makes everything but these two operators work. On a normal install nothing is
declared. All code that needs torchvision, timm or torchmetrics imports it with `load`.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_keep_alive: list[torch.library.Library] = []


def _torchvision() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _keep_alive.append(library)
    return importlib.import_module("torchvision")


def load(module: str) -> ModuleType:
    """Import `module` ("timm", "torchvision.transforms.v2", …) after making sure that torchvision can be imported."""
    _torchvision()
    return importlib.import_module(module)
