"""The three verbs of a method, for components that extend them and are combined with `methods.Method`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import nn

from scrubjay.closed_form.crops import Crops
from scrubjay.closed_form.statistics import Statistics
from scrubjay.models.embedder import Network
from scrubjay.types import Batch, Losses, Session


class Pass(Protocol):
    """Gives, each time it is called, one pass over the session's images in order."""

    @property
    def era(self) -> str:
        """Identity of the trunk features of these images by the network: those of two eras cannot be compared."""
        ...

    def __call__(self, views: int = 0) -> Iterator[Batch]:
        """Batches of the images as the network takes them.

        Args:
            views: number of random crops of each image that follow its centre crop in the same batch, with the same
                index; they are the same at every call. With `images.views` there are at most that many.
        """
        ...

    def features(self, views: int) -> Iterator[Crops]:
        """Batches of trunk features of the same crops, float16, by the network in evaluation mode.

        Args:
            views: see above.
        """
        ...

    def statistics(self, views: int) -> Statistics:
        """Statistics of these features, where they are not needed one by one.

        Args:
            views: see above.
        """
        ...


class Verbs(nn.Module):
    """What `methods.Method` provides, declared here so that a component can call `super()`.

    A class that derives from this one is listed before `Method` among the bases of a method, so that its `super()`
    reaches `Method`.

    Attributes:
        network: the network being trained.
        options: the options of the method.
    """

    network: Network
    options: Any

    @property
    def has_past(self) -> bool:
        """Whether classes were learned before this session."""
        raise NotImplementedError

    def begin(self, session: Session) -> None:
        """Prepare for a session, before its first step."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Losses:
        """The objective on a batch of the session's images, as named and weighted terms."""
        raise NotImplementedError

    def end(self, session: Session, images: Pass) -> None:
        """Gather statistics after the session's last step."""
        raise NotImplementedError
