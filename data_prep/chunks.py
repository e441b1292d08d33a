"""Labelled conversations to dataset rows, a chunk at a time, in several processes at once."""

import gc
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Thread

import orjson

from data_prep.formats import FORMATS, Examples
from data_prep.labellers.base import TurnLabels
from data_prep.reader import Conversation, Reject
from data_prep.samples import SampleSettings, make_samples
from data_prep.statistics import SplitStatistics
from retrieval.base import Retriever

MOST_PROCESSES = 4  # reading and labelling, which one process does, cannot feed more
WORTH_A_PROCESS = 2_000_000  # bytes of CSV: fewer are done sooner than a process starts
AHEAD = 4  # chunks that are under way or done before the next one is asked for: bounds memory
SEPARATOR = b",\n"
# What the main module imports besides, and with it every process; imported once, before they are forked.
_ALSO_IMPORTED = ("data_prep.data_card", "data_prep.labellers.registry", "data_prep.sources")


@dataclass
class ChunkRows:
    """``files``: for each format a file with rows as JSON, ``SEPARATOR`` between them, and how many they are.

    ``rejects``: what is left out; ``statistics``: counts of both.
    """

    files: dict[str, tuple[Path, int]]
    rejects: list[Reject]
    statistics: SplitStatistics


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of a chunk in ``folder``; travels to the processes that do it."""

    retriever: Retriever
    samples: SampleSettings
    formats: tuple[str, ...]
    language: str
    folder: Path

    def __call__(
        self, conversations: Sequence[Conversation], labels: Sequence[TurnLabels], unread: Sequence[Reject]
    ) -> ChunkRows:
        """The rows of labelled conversations; ``unread`` goes before the rejects."""
        samples, unused = make_samples(conversations, labels, self.retriever, self.samples)
        made = ChunkRows({}, [*unread, *unused], SplitStatistics())
        made.statistics.add_labels(labels)
        made.statistics.add_samples(samples)
        made.statistics.add_rejects(made.rejects)
        examples = Examples(samples, self.language)
        for form in self.formats:
            with NamedTemporaryFile(dir=self.folder, prefix=f"{form}-", delete=False) as file:
                rows = 0
                for row in FORMATS[form].rows(examples):
                    file.write((SEPARATOR if rows else b"") + orjson.dumps(row))
                    rows += 1
            made.files[form] = (Path(file.name), rows)
        return made


def workers(files: Iterable[Path], most: int) -> Executor:
    """A pool of ``most`` processes; for little input a thread, since a process takes seconds to start."""
    size = sum(path.stat().st_size for path in files)
    count = min(os.cpu_count() or 1, most, size // WORTH_A_PROCESS)
    if count < 2:
        return ThreadPoolExecutor(1)
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, *_ALSO_IMPORTED])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # handed down: Ctrl-C is for this process alone
    forkserver.ensure_running()  # it imports while this process goes on
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return ProcessPoolExecutor(count, context, initializer=_prepare)


def _prepare() -> None:
    # Millions of small objects and no cycles among them: looking for some would take a third of the time.
    gc.disable()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def made_in_order(make: Callable[..., ChunkRows], chunks: Iterable[tuple], pool: Executor) -> Iterator[ChunkRows]:
    """``make(*chunk)`` of each chunk, in order."""
    under_way: deque[Future[ChunkRows]] = deque()
    try:
        for chunk in chunks:
            under_way.append(pool.submit(make, *chunk))
            if len(under_way) > AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
