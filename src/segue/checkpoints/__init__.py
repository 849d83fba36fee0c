"""Checkpoints: where they lie, what they hold, and how they are opened and quantized."""
