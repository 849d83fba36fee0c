"""Everything on one GPU beside segue, in one table: `python -m benchmarks.gpu`."""
