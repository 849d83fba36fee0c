"""The localhost service: the plugin's backend, the page's API, and the page.

The server process answers and keeps books; it loads no model.  Three kinds of worker process do
what is heavy or may go wrong: one decodes uploads, one generates, and one for each model downloads.
"""
