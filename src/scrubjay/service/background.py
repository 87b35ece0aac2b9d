"""A thread for slow work on the catalogue, such as gates and teaching, with models of its own.

It has its own `Catalogue`, so that its use of a network and the queries' use of theirs do not meet, and a low priority,
so that queries come first.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from scrubjay.catalogue import Catalogue
from scrubjay.search.shadow import NICE

T = TypeVar("T")


class Background:
    """The thread.

    Args:
        folder: folder of the catalogue, which is opened by the first call.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._catalogue: Catalogue | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background", initializer=_give_way)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function(catalogue, *args)` in the thread, after all earlier calls."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, function, args)

    async def close(self) -> None:
        """End the thread after all calls."""
        await asyncio.to_thread(self._thread.shutdown)

    def _call(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        if self._catalogue is None:
            self._catalogue = Catalogue(self._folder)
        return function(self._catalogue, *args)


def _give_way() -> None:
    if sys.platform == "linux":  # on other systems a thread has no priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
