"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes only when nothing is left to do, or by :meth:`advance`."""

    def __init__(self):
        self._now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self):
        return self._now

    def advance(self, seconds):
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing will ever happen in this test")
            self._loop.advance(max(timeout, 0))
        return ready


def run(coroutine):
    """Run a coroutine to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)
