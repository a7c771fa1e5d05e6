"""Small programs of the pipeline: the table of settings, the watch after a deploy."""
