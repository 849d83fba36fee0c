"""The quantization laboratory: how fast a variant is, how good, and which one to use."""
