"""Processes that compute each step of one training together (torch.distributed): rank 0 leads, the others follow.

Either rank 0 starts the others on its machine, or a launcher such as `accelerate launch` or `torchrun` started all of
them, on one machine or several. Objects travel from rank 0 to the others, tensors between all of them. A process that
dies ends the group: its sockets are closed, and every other one gets an error from its next exchange.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from scrubjay.errors import ScrubjayError, StorageError

LONGEST_WAIT = timedelta(days=1)
"""How long a process waits for the others: rank 0 does other work between two sessions of a run."""


@dataclass(frozen=True, slots=True)
class Group:
    """The calling process and the others of its group.

    Attributes:
        rank: number of the calling process; 0 leads.
        size: number of processes.
    """

    rank: int
    size: int

    def sent(self, value: Any = None) -> Any:
        """The value that rank 0 gives, in every process; the others call this without a value."""
        import torch
        from torch import distributed

        data = pickle.dumps(value) if self.rank == 0 else b""
        length = torch.tensor([len(data)])
        distributed.broadcast(length, 0)
        content = torch.frombuffer(bytearray(data or int(length)), dtype=torch.uint8)
        distributed.broadcast(content, 0)
        return pickle.loads(content.numpy().tobytes())


Follow = Callable[[Group], None]
"""What ranks above 0 do: a function of a module. It returns when rank 0 sends None."""


@dataclass(frozen=True, slots=True)
class _Follower:
    process: BaseProcess
    reports: Connection


def launched() -> int:
    """Number of processes that a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def joined() -> Group:
    """The group of processes that a launcher started, which the calling process joins unless it has."""
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group(_backend(), timeout=LONGEST_WAIT)
    return Group(int(os.environ["RANK"]), launched())


@contextmanager
def leading(size: int, follow: Follow) -> Iterator[Group]:
    """Inside the block the calling process is rank 0 of a group whose other processes it started on this machine.

    Args:
        size: number of processes, the calling one included.
        follow: what the others do.

    Raises:
        StorageError: one of the processes died.
        ScrubjayError: one of them failed, with its message.
    """
    import torch
    from torch import distributed

    threads = torch.get_num_threads()
    each = max(1, threads // size)
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, size, is_master=True, wait_for_workers=False
    )
    followers = [_start(rank, size, store.port, follow, each) for rank in range(1, size)]
    torch.set_num_threads(each)
    try:
        for follower in followers:
            _await(follower)
        with _environment(0, size, each):
            distributed.init_process_group(_backend(), store=store, rank=0, world_size=size, timeout=LONGEST_WAIT)
            yield Group(0, size)
    except RuntimeError as error:
        raise _failure(followers, error) from None
    finally:
        torch.set_num_threads(threads)
        for follower in followers:
            follower.process.terminate()
            follower.process.join()
            follower.process.close()
            follower.reports.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _start(rank: int, size: int, port: int, follow: Follow, threads: int) -> _Follower:
    reports, sent = get_context("spawn").Pipe(duplex=False)
    process = get_context("spawn").Process(
        target=_work, args=(rank, size, port, follow, threads, sent), name=f"training process {rank}"
    )
    process.start()
    sent.close()
    return _Follower(process, reports)


def _await(follower: _Follower) -> None:
    """Wait until a process is ready to join.

    Raises:
        RuntimeError: it died before.
    """
    ready = wait([follower.reports, follower.process.sentinel])
    if follower.reports not in ready or follower.reports.recv() is not None:
        raise RuntimeError("a process did not start")


def _failure(followers: list[_Follower], error: RuntimeError) -> ScrubjayError | RuntimeError:
    """What ended the group: the message or the death of another process, or else the error of this one."""
    if not any(name in str(error).lower() for name in ("gloo", "nccl", "connection", "did not start")):
        return error
    ended = wait([follower.process.sentinel for follower in followers], timeout=10)
    for follower in followers:
        if follower.process.sentinel in ended:
            follower.process.join(timeout=10)  # its files are closed before its exit code is known
        if follower.process.exitcode is not None and follower.reports.poll():
            with suppress(EOFError):
                reported: ScrubjayError = follower.reports.recv()
                return reported
    codes = [(follower.process.exitcode, rank) for rank, follower in enumerate(followers, 2)]
    dead = sorted((code, rank) for code, rank in codes if code is not None)  # killed ones first, then their victims
    if not dead:
        return error
    code, rank = dead[0]
    cause = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return StorageError(
        f"process {rank} of the {len(followers) + 1} that train together {cause}: see whether memory runs out; the "
        "same command goes on from the last checkpoint."
    )


def _work(rank: int, size: int, port: int, follow: Follow, threads: int, reports: Connection) -> None:
    """What a process that was started does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 handles Ctrl-C, and ends the group
    threading.Thread(target=_die_with_parent, daemon=True).start()
    import torch
    from torch import distributed

    torch.set_num_threads(threads)
    reports.send(None)
    with _environment(rank, size, threads):
        store = distributed.TCPStore("127.0.0.1", port, size, is_master=False)  # type: ignore[attr-defined]
        distributed.init_process_group(_backend(), store=store, rank=rank, world_size=size, timeout=LONGEST_WAIT)
        try:
            follow(Group(rank, size))
        except ScrubjayError as error:
            reports.send(error)
        except RuntimeError:
            os._exit(1)  # another process ended; rank 0 says which


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _environment(rank: int, size: int, threads: int) -> Iterator[None]:
    """The variables by which a launcher tells Accelerate the place of a process in its group."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    values = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_WORLD_SIZE": size,
        "OMP_NUM_THREADS": threads,
    }
    if loopback is not None:
        values["GLOO_SOCKET_IFNAME"] = loopback  # type: ignore[assignment]  # the name of this host may not resolve
    before = {name: os.environ.get(name) for name in values}
    os.environ |= {name: str(value) for name, value in values.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _backend() -> str:
    import torch

    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
