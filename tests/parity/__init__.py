"""segue beside `transformers`, on random checkpoints: the same model, or not?

`python -m tests.parity` makes the comparison live and prints it (needs `requirements/parity.txt`).
`python -m tests.parity --golden` writes what `tests/test_golden.py` pins without torch.
"""
