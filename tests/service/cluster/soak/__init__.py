"""What a cluster bears, see `__main__`."""
