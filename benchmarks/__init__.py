"""Benchmarks of the decoder's cost, compared with its peers. See README.md here."""

# How the peers, which are started as their tutorials start them, are told where Redis is,
BROKER_VARIABLE = "BENCH_BROKER_URL"
RESULTS_VARIABLE = "BENCH_RESULTS_URL"
# whether they keep their connections (any text), and the bare loop whom to seal to.
SESSION_VARIABLE = "BENCH_SESSION"
RECIPIENT_VARIABLE = "BENCH_RECIPIENT"

# Of each contender.
PROCESSES = 2
