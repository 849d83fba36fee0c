"""MusicGen small on the processor: `python -m benchmarks.cpu`.

Random weights of that shape, quantized and not, on the OpenVINO engine, beside `transformers` where
torch is installed (`requirements/parity.txt`).  Every row runs in a process of its own.
"""
