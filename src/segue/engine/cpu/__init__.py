"""What the engines for processors have in common."""
