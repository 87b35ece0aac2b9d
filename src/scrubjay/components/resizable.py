"""A module whose buffers take the sizes of those that are loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Resizable(nn.Module):
    """Loading a state with buffers of other sizes, but of the same number of dimensions, resizes its own."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, own in list(self.named_buffers(recurse=False)):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.ndim == own.ndim:
                setattr(self, name, torch.empty_like(stored, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
