"""A separate process for the peer, so that our settings (memory, determinism) do not affect it."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from bench.harness.hardware import synchronize


class IsolatedProcess:
    """A process that performs one piece of work each time it is called.

    Args:
        prepare: an importable function; the process calls it once, and the function that it returns at each call.
        arguments: of `prepare`.
    """

    def __init__(self, prepare: Callable[..., Callable[..., object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        # A spawned process would spawn its children too, and a DataLoader's workers would import torch in every pass.
        start_method = multiprocessing.get_start_method()
        # Not a daemon, which may have no children such as a DataLoader's workers. It ends when its pipe is closed.
        self._process = context.Process(target=_serve, args=(other_end, start_method, prepare, arguments))
        self._process.start()
        other_end.close()

    def __call__(self, *arguments: object) -> object:
        """Run the work in the process and return its result.

        Raises:
            SystemExit: the work failed, or the process ended.
        """
        self._pipe.send(arguments)
        try:
            error, result = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise SystemExit(f"bench: the peer's process ended with status {self._process.exitcode}") from None
        if error:
            raise SystemExit(f"bench: the peer failed:\n{error}")
        return result

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _serve(
    pipe: Connection, start_method: str, prepare: Callable[..., Callable[..., object]], arguments: tuple[object, ...]
) -> None:
    multiprocessing.set_start_method(start_method, force=True)
    work: Callable[..., object] | None = None
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            work = work or prepare(*arguments)
            result = work(*call)
            synchronize()
            pipe.send(("", result))
        except SystemExit as error:
            pipe.send((str(error), None))
        except Exception:
            pipe.send((traceback.format_exc(), None))
