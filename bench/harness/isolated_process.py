"""Work in a process of its own, so that no setting of ours (memory, determinism) reaches the peer."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from bench.harness.hardware import wait


class Apart:
    """A process that does a piece of work whenever it is called.

    Args:
        prepare: an importable function; called once in that process, it returns what each call here then runs there.
        arguments: for `prepare`.
    """

    def __init__(self, prepare: Callable[..., Callable[..., object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        # Not a daemon: those may have no children, and a DataLoader's workers are some. It ends when its pipe does.
        # What is spawned would spawn its children too, and a DataLoader's workers would import torch in every pass.
        how = multiprocessing.get_start_method()
        self._process = context.Process(target=_serve, args=(theirs, how, prepare, arguments))
        self._process.start()
        theirs.close()

    def __call__(self, *arguments: object) -> object:
        """Do it there, and wait for it; what it returned."""
        self._pipe.send(arguments)
        try:
            failure, found = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise SystemExit(f"bench: the peer's process ended with status {self._process.exitcode}") from None
        if failure:
            raise SystemExit(f"bench: the peer failed:\n{failure}")
        return found

    def close(self) -> None:
        """End the process, and give back what it holds."""
        self._pipe.close()
        self._process.join()


def _serve(
    pipe: Connection, how: str, prepare: Callable[..., Callable[..., object]], arguments: tuple[object, ...]
) -> None:
    multiprocessing.set_start_method(how, force=True)
    work: Callable[..., object] | None = None
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            if work is None:
                work = prepare(*arguments)
            found = work(*call)
            wait()
            pipe.send(("", found))
        except SystemExit as refusal:
            pipe.send((str(refusal), None))
        except Exception:
            pipe.send((traceback.format_exc(), None))
