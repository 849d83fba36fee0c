"""Downloads: ahead of time, and for jobs whose model is missing; one of each model at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from ..exceptions import RefusalError, TaskCancelledError, TaskError
from ..workers.client import Worker
from .models import ListedModel
from .progress import DownloadProgress
from .rows import CANCELLED, COMPLETED, FAILED, PAUSED, RUNNING, Download
from .store import Store

log = logging.getLogger("segue.service")

AT_ONCE = 2
"""Downloads that run together; more would share the same line."""


class Fetch:
    """The download of a model.

    Attributes:
        path: of the model in the list.
        progress: how far it is.
        holders: the jobs and downloads that wait for it; without any, it stops.
        error: why it failed, one line.
        task: done when the model is complete, or the download has failed.
    """

    def __init__(self, model: ListedModel) -> None:
        self.path = model.path
        self.progress = DownloadProgress(model.source)
        self.holders: set[str] = set()
        self.error: str | None = None
        self.cancelled = False
        self.task: asyncio.Task[None]
        self.worker: Worker


class Downloads:
    """All downloads.

    Args:
        store: keeps those that were requested ahead of time.
        make_worker: makes the worker process of one.
    """

    def __init__(self, store: Store, make_worker: Callable[[], Worker]) -> None:
        self._store, self._make_worker = store, make_worker
        self._fetches: dict[tuple[str, bool], Fetch] = {}
        self._room, self._asking = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._ahead: dict[str, Fetch] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def ensure(self, model: ListedModel, text: bool, holder: str) -> Fetch:
        """Download a model for `holder`; a download that runs already is shared."""
        text = text or model.base is None  # only a fine-tune comes without its text encoder
        key = (model.path, text)
        fetch = self._fetches.get((model.path, True)) or self._fetches.get(key)
        if fetch is None or fetch.cancelled:
            fetch = Fetch(model)
            fetch.worker = self._make_worker()
            self._fetches[key] = fetch
            fetch.task = asyncio.create_task(self._run(fetch, model, text))
            fetch.task.add_done_callback(lambda _, f=fetch: self._forget(key, f))  # type: ignore[misc]
        fetch.holders.add(holder)
        return fetch

    def _forget(self, key: tuple[str, bool], fetch: Fetch) -> None:
        if self._fetches.get(key) is fetch:
            del self._fetches[key]

    def release(self, fetch: Fetch, holder: str) -> None:
        """Let `holder` wait no longer; what has arrived stays for the next time."""
        fetch.holders.discard(holder)
        if not fetch.holders and not fetch.task.done():
            fetch.cancelled = True
            fetch.task.cancel()

    async def _run(self, fetch: Fetch, model: ListedModel, text: bool) -> None:
        try:
            async with self._room:
                task = {
                    "kind": "download",
                    "source": model.source,
                    "base": model.base,
                    "text": text,
                }

                log.info("download begins", extra={"model": model.path})
                await fetch.worker.run(task, fetch.progress.update)
                log.info("download done", extra={"model": model.path})
        except (TaskError, TaskCancelledError) as error:
            fetch.error = str(error) or "it was stopped"
            log.warning("download failed", extra={"model": model.path, "reason": fetch.error})
        finally:
            await fetch.worker.stop()

    # --- Ahead of time --------------------------------------------------------------------------

    async def ahead(self, model: ListedModel) -> Download:
        """Begin a download that is requested ahead of time."""
        if not model.missing:
            return await asyncio.to_thread(self._store.downloads.add, model.path, COMPLETED)
        download = await asyncio.to_thread(self._store.downloads.add, model.path)
        self.resume(download, model)
        return download

    def resume(self, download: Download, model: ListedModel) -> None:
        """Resume a download that the store knows."""
        fetch = self.ensure(model, text=True, holder=download.id)
        self._ahead[download.id] = fetch
        ending = asyncio.create_task(self._end(download, fetch))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end(self, download: Download, fetch: Fetch) -> None:
        await asyncio.wait([fetch.task])
        if fetch.task.cancelled():
            return  # by `cancel`, which writes that down, or because the service ends
        state = COMPLETED if fetch.error is None else FAILED
        await asyncio.to_thread(self._store.downloads.end, download.id, state, fetch.error)
        self._ahead.pop(download.id, None)

    def progress_of(self, download: Download) -> DownloadProgress | None:
        """How far a download is; None if it does not run."""
        fetch = self._ahead.get(download.id)
        return None if fetch is None else fetch.progress

    def _check_front(self, download: Download) -> None:
        """Check that it is not another front that downloads.

        Raises:
            RefusalError: it is.
        """
        if download.state == RUNNING and download.front != self._store.front:
            raise RefusalError(
                409, "another server of this service downloads this; it goes on there to its end"
            )

    async def cancel(self, download: Download) -> bool:
        """Stop a download that runs or is paused; False if it is over."""
        self._check_front(download)
        fetch = self._ahead.pop(download.id, None)
        if fetch is None and download.state != PAUSED:
            return False
        await asyncio.to_thread(
            self._store.downloads.end, download.id, CANCELLED, "the download was cancelled"
        )
        if fetch is not None:
            self.release(fetch, download.id)
        return True

    async def pause(self, download: Download) -> bool:
        """Stop a download for now; False if it does not run.

        What has arrived stays.  A job that waits for the model goes on with it.
        """
        self._check_front(download)
        fetch = self._ahead.get(download.id)
        if fetch is None or not await asyncio.to_thread(
            self._store.downloads.change, download.id, RUNNING, PAUSED
        ):
            return False
        self._ahead.pop(download.id, None)
        self.release(fetch, download.id)
        return True

    async def go_on(self, download: Download, model: ListedModel) -> bool:
        """Go on with a download; False if it is not paused."""
        if not await asyncio.to_thread(self._store.downloads.change, download.id, PAUSED, RUNNING):
            return False
        if model.missing:
            self.resume(download, model)
        else:  # it came with a job meanwhile
            await asyncio.to_thread(self._store.downloads.end, download.id, COMPLETED)
        return True

    async def size(self, model: ListedModel) -> dict[str, Any]:
        """Ask the hub how large a download will be; see `segue.service.workers.download.size`.

        Raises:
            TaskError: the hub does not say.
        """
        worker = self._make_worker()
        try:
            async with self._asking:
                return await worker.run(
                    {"kind": "size", "source": model.source, "base": model.base}
                )
        finally:
            await worker.stop()

    async def close(self) -> None:
        """Stop all; the next start resumes those that were requested ahead of time."""
        tasks = [fetch.task for fetch in self._fetches.values()]
        for task in [*tasks, *self._endings]:
            task.cancel()
        for task in [*tasks, *self._endings]:
            with contextlib.suppress(asyncio.CancelledError):
                await task
