"""What segue brings along: a checkpoint and prompts, for machines that have none."""
