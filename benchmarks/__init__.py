"""segue beside its peers, in one run."""
