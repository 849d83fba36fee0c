"""Worker processes, and the server's client of them."""
