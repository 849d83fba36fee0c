"""The engine with a language model in C; importing this package alone loads no library."""
