"""MusicGen small on the processor: `python -m benchmarks.cpu`.

Random weights of that shape, quantized and not, on the engines for processors, in turns, beside
`transformers` where torch is installed (`requirements/parity.txt`).  Every row runs in a process of
its own.
"""
