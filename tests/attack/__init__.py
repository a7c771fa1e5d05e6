"""Everything that an outsider can do, at once, while an honest submitter goes on: `make attack`.

On 2026-11-27, on 2 cores with everything on one machine: 2,000 of 2,000 honest missions succeeded, calm and under attack; p95
83 ms calm and 134 under attack (1.6 times), nobody died, Redis held 154 MiB of 512 at most, a worker 105. Those 134 ms are luck to
some degree: beside other work the ratio of the short form went from 1.7 to 48.
"""
