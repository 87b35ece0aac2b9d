"""Options of the training loop."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, Field

from scrubjay.config import Config


class TrainingOptions(Config):
    """How a session is trained."""

    epochs: int = Field(10, ge=0)
    """Epochs of the initial session."""
    increment_epochs: int | None = Field(None, ge=0)
    """Epochs of every later session; by default as many as the initial session has."""
    classes_per_batch: int = Field(16, ge=2)
    """P: number of classes in a batch."""
    images_per_class: int = Field(5, ge=1, validation_alias=AliasChoices("images_per_class", "pictures_per_class"))
    """K: number of images of each class in a batch."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Optimizer; sgd uses momentum 0.9."""
    lr: float = Field(3e-4, gt=0)
    """Learning rate of the backbone."""
    head_lr: float = Field(1e-3, gt=0)
    """Learning rate of the projection, the head and the method's own modules."""
    increment_lr: float = Field(0.3, gt=0)
    """Factor on both learning rates in every session after the initial one."""
    weight_decay: float = Field(5e-4, ge=0)
    """Weight decay of all trained parameters."""
    warmup: int = Field(0, ge=0)
    """Number of steps in which the learning rates rise linearly to their full value."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate schedule of a session after the warm-up: constant, or a half cosine to zero."""
    freeze_batchnorm: Literal["never", "after_first", "always"] = "after_first"
    """Sessions in which the statistics and parameters of BatchNorm layers are frozen."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; with "no" everything is float32."""
    device: Literal["auto", "cpu"] = "auto"
    """Device to train on: an accelerator if there is one, or always the CPU."""
    checkpoint_every: int = Field(200, ge=1)
    """Steps between two checkpoints within a session."""
