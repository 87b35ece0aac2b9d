"""An open catalogue of the service: model and store in one thread, a few threads for other work, decoding processes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from scrubjay.catalogue import Catalogue
from scrubjay.search.query_log import Query
from scrubjay.search.request import Answer, QueryRequest
from scrubjay.search.searcher import Result
from scrubjay.search.shadow import ShadowWorker
from scrubjay.search.timing import observed
from scrubjay.service.background import Background
from scrubjay.service.batching import BatchQueue, Engine
from scrubjay.service.decoding import Decoder
from scrubjay.service.jobs import JobRunner
from scrubjay.service.keys import KeyFile
from scrubjay.service.metrics import Facts, Metrics
from scrubjay.service.options import ServiceOptions
from scrubjay.service.problems import late
from scrubjay.service.shadowing import ShadowImages
from scrubjay.service.thumbnails import Thumbnails
from scrubjay.service.unknown import UnknownImages
from scrubjay.service.uploads import Uploads
from scrubjay.types import Hit

T = TypeVar("T")


class OpenCatalogue:
    """What all requests to one process of the service share. Make it in the event loop, and close it there.

    Args:
        folder: folder of the catalogue.
        options: options of the service.

    Attributes:
        folder: folder of the catalogue.
        options: options of the service.
        catalogue: the catalogue. Its calls block: use `run`, or `engine.run` for what uses the model.
        engine: the thread of the model.
        decoder: decodes images of requests.
        keys: the API keys.
        metrics: figures for Prometheus.
        thumbnails: images of items, re-encoded.
        background: the thread for slow work, with models of its own.
        jobs: runs jobs as processes of their own.
        uploads: images that were sent to be learned.
        unknown: images of queries that matched nothing.
        stopping: set when the service is ending: streams of events end then.
    """

    def __init__(self, folder: Path, options: ServiceOptions) -> None:
        self.folder, self.options = folder, options
        self.catalogue = Catalogue(folder)
        self.keys = KeyFile(folder)
        self.metrics = Metrics(self._facts)
        self.engine = Engine()
        self.decoder = Decoder(
            self.catalogue.options.images, options, functools.partial(self.metrics.observe, "decode")
        )
        self.thumbnails = Thumbnails(options.thumbnails_mb * 2**20)
        self.background = Background(folder)
        self.jobs = JobRunner(folder)
        self.uploads = Uploads(folder)
        self.unknown = UnknownImages(folder, options.keep_unknown)
        self.stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(options.threads, thread_name_prefix="core")
        self._queue = BatchQueue(
            self.engine,
            self._answer_batch,
            options.batch_images,
            options.batch_ms / 1000,
            options.queue_images,
            functools.partial(self.metrics.observe, "queue"),
        )
        self._shadow_images = ShadowImages(folder)
        self._shadow = ShadowWorker(self.catalogue.upkeep.searcher.query_log, self._shadow_answer)

    async def begin(self) -> None:
        """Open the store and load the network that answers, so that no query has to, and start shadow answers.

        A catalogue that has learned nothing yet begins without a network.

        Raises:
            ScrubjayError: the store or the network cannot be read; everything is closed again.
        """
        try:
            await self.engine.run(self._load)
        except BaseException:
            await self._end_threads()
            raise
        self._shadow.start()
        self.jobs.start()

    async def close(self) -> None:
        """End all threads and processes; requests must have been answered before."""
        await asyncio.to_thread(self._shadow.stop)
        await asyncio.to_thread(self.jobs.stop)
        await self._end_threads()

    async def _end_threads(self) -> None:
        await self.background.close()
        await self._queue.stop()
        await self.decoder.close()
        await asyncio.to_thread(self.engine.stop)
        await asyncio.to_thread(self._threads.shutdown)

    async def run(self, function: Callable[..., T], *args: Any, **keywords: Any) -> T:
        """Run a function that blocks and does not use the model, in one of a few threads."""
        call = functools.partial(function, *args, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def search(self, request: QueryRequest) -> list[Answer]:
        """Answers to decoded images, together with those that others are asking for.

        Raises:
            ProblemError: too many images wait, or the answer takes too long.
            UserError: the request does not fit the catalogue.
        """
        self.metrics.queue_depth.set(self._queue.depth + len(request.images))
        try:
            answers: list[Answer] = await self._queue.ask(request, self.options.request_seconds)
            return answers
        finally:
            self.metrics.queue_depth.set(self._queue.depth)

    async def in_time(self, work: Awaitable[T]) -> T:
        """The result of some work within the time limit of a request.

        Raises:
            ProblemError: it takes longer (504).
        """
        try:
            async with asyncio.timeout(self.options.request_seconds):
                return await work
        except TimeoutError:
            raise late(self.options.request_seconds) from None

    def coming(self) -> Any:
        """A context inside which a query is being decoded; see `BatchQueue.coming`."""
        return self._queue.coming()

    def _answer_batch(self, requests: Sequence[QueryRequest]) -> Sequence[Result]:
        self.metrics.batch_images.observe(sum(len(request.images) for request in requests))
        with observed(self.metrics.observe):
            return self.catalogue.answer_requests(self._shadow_images.kept(requests))

    def _shadow_answer(self, query: Query) -> list[Hit]:
        """Shadow answers use the model when no live query does."""
        answer = self.catalogue.upkeep.searcher.shadow_answer
        return self.engine.submit(self._shadow_images.answer, query, answer, background=True).result()

    def preload(self, name: str) -> None:
        """Load the network of a generation that is to answer, so that the first query need not; blocks.

        Raises:
            CatalogueError: there is no such generation.
        """
        workspace = self.catalogue.workspace
        workspace.encoder(workspace.lineage.get(name))

    def _load(self) -> None:
        self.catalogue.gallery.count()
        if self.catalogue.serving.read().generation is not None:
            workspace = self.catalogue.workspace
            workspace.encoder(workspace.serving_generation())

    def _facts(self) -> Facts:
        return Facts(self.catalogue.gallery.count(), self.catalogue.serving.read().generation)
