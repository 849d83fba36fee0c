"""Jobs: the queue, the store, and the models that they name."""
