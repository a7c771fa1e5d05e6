"""Every attack that an outsider can mount, all at once, while an honest submitter continues: `make attack`.

On 2026-11-27, on 2 cores with everything on one machine: 2,000 of 2,000 honest missions succeeded, calm and under attack; p95
83 ms calm and 134 under attack (1.6 times). No process died; Redis held at most 154 MiB of 512, a worker 105. The 134 ms are partly luck:
with other load on the machine, the ratio of the short form went from 1.7 to 48.
"""
