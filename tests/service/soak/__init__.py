"""What a service must bear: a crowd, kills, an hour's requests, hostile input, a full disk.

`make soak` runs all of it, `python -m tests.service.soak --quick` a short form, and the tests of
this folder's parent a shorter one.  Every proof is a function that returns figures, and raises
`AssertionError` where something is not as it must be.
"""
