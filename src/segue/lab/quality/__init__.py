"""What a variant costs in quality, measured beside a baseline."""
