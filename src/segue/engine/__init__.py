"""What runs a checkpoint.  `base` says what an engine is, each folder is one."""
