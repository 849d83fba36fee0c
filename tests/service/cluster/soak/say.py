"""What a proof says while it goes on."""

import functools

say = functools.partial(print, flush=True)
