"""Turns: threads that use one device run its decode steps one after another.

What must never happen: on CUDA a launch of the kernel `layer` has one block on each multiprocessor,
and the blocks wait for each other at grid barriers.  Two such launches at once, from two streams,
would each occupy multiprocessors that the other's missing blocks need, and count in one barrier
counter: both wait for ever.  Since every thread has a stream of its own in MLX, two threads that
generate at the same time would do just that.  So would the codec's kernel `lstm`, whose blocks wait
for each other's hidden states.

So all work of language models, and of a codec with kernels, goes to one stream of the process, in
whose order the device runs it: a launch starts when the one before has ended, whoever submitted it.
Nobody waits for a step to end, so steps of one thread stay as close to each other as without turns.
A stream that several threads use takes one of them at a time: `turn` holds a lock while a step's
graph is built and submitted.  It is never held while a generator is suspended, so one that is
dropped or left alone keeps nobody waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import mlx.core as mx

_LOCK = threading.RLock()


@cache
def _stream(kind: mx.DeviceType) -> mx.Stream:
    """The stream of the process for language models on its CPU or its GPU."""
    return mx.new_thread_unsafe_stream(kind)


@contextmanager
def turn() -> Iterator[None]:
    """Have the default device to oneself for submitting work of a language model or the codec.

    Within, MLX computes on the stream that all threads share.  What is built within must be
    submitted (`mx.eval`, `mx.async_eval`) within; reading what was submitted needs no turn.  A
    thread may nest turns.
    """
    with _LOCK, mx.stream(_stream(mx.default_device().type)):
        yield


def synchronize() -> None:
    """Wait for all that was submitted in turns."""
    with turn():
        mx.synchronize()
