"""Benchmarks of the decoder's cost, compared with its peers. See README.md here."""

# The peers are started as in their tutorials, so they learn from variables where Redis is,
BROKER_VARIABLE = "BENCH_BROKER_URL"
RESULTS_VARIABLE = "BENCH_RESULTS_URL"
# whether to keep their connections (any text), and (the bare loop) the recipient to seal to.
SESSION_VARIABLE = "BENCH_SESSION"
RECIPIENT_VARIABLE = "BENCH_RECIPIENT"

# Worker processes of each contender.
PROCESSES = 2
