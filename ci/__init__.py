"""Small programs of the pipeline: the chart's README, the watch after a deploy. Standard library alone."""
