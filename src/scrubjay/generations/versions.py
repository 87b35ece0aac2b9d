"""The versions of software that a generation was made with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = ("scrubjay", "torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "lancedb")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
