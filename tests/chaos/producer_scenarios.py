"""Disturbances at admission: malformed messages, one key at the same moment, a long backlog, a queue that lost its messages."""

from __future__ import annotations

import threading
import time

from mission.errors import DecoderError
from mission.model import Ticket
from mission.store.messages import IDS_PER_MESSAGE
from mission.store.names import PREFIX, QUEUE, QUEUE_OF, Key
from tests.chaos.arena import Arena
from tests.chaos.report import Report, Scale
from tests.queue_entries import malformed


def one_key(scale: Scale) -> Report:
    """9. A hundred simultaneous enqueues with one idempotency key; repeated with other keys."""
    report = Report("9 one idempotency key, 100 at once")
    keys, side_by_side = scale.pick(3, 50), 100
    with Arena(report) as arena:
        clients = [arena.client() for _ in range(side_by_side)]
        for number in range(keys):
            answers: list[Ticket | DecoderError] = []
            barrier = threading.Barrier(side_by_side)

            def enqueue(client: int, number: int = number) -> None:
                barrier.wait()  # noqa: B023 (joined before the next round)
                try:
                    answers.append(clients[client].enqueue(arena.site.url(number), idempotency_key=f"key-{number}"))  # noqa: B023
                except DecoderError as error:
                    answers.append(error)  # noqa: B023

            threads = [threading.Thread(target=enqueue, args=(n,)) for n in range(side_by_side)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            tickets = [answer for answer in answers if isinstance(answer, Ticket)]
            arena.tickets |= {ticket.id: number for ticket in tickets}
            new = sum(not ticket.duplicate for ticket in tickets)
            report.expect(len(tickets) == side_by_side, f"{side_by_side - len(tickets)} enqueues were refused")
            report.expect(new == 1, f"{new} of {side_by_side} tickets are new")
        entries = sum(1 for _ in arena.redis.scan_iter(f"{PREFIX}m:*", count=1000))
        arena.start_workers(1)
        arena.drain(60)
        arena.count()
    report.notes.append(f"{keys} keys, {keys * side_by_side} enqueues, {entries} ledger entries")
    report.expect(entries == report.succeeded == keys, "not one mission for each key")
    return report


def backlog(scale: Scale) -> Report:
    """10. A long backlog in which each document takes longer than a message may be missing: every mission is published once."""
    report = Report("10 a long backlog, slow workers")
    count, slow, delay = scale.pick(3000, 200_000), scale.pick(4.0, 120.0), scale.pick(2.0, 20.0)
    # Only the reaper's search for lost messages could publish again: no deadline or lease is near, however busy the machine.
    values = {
        "deadline": f"{delay + 60}s",
        "read_timeout": f"{delay + 60}s",
        "lease_seconds": f"{delay + 120}s",
        "stored_quota": "0",
    }
    with Arena(report, hooks=scale.pick(("quick",), ()), delay=delay, worker=values) as arena:
        before = arena.redis.info("memory")["used_memory"]
        began = time.monotonic()
        with arena.load(count, chunk=256):
            pass
        enqueued = time.monotonic() - began
        each = (arena.redis.info("memory")["used_memory"] - before) / count
        longest = arena.queue_length()
        arena.start_workers(2)
        until = time.monotonic() + slow
        lengths = []
        while time.monotonic() < until:
            lengths.append(arena.queue_length())
            time.sleep(0.1)
        arena.site.delay = 0.0
        arena.drain(scale.pick(60, 900))
        arena.count()
        published = int(arena.redis.get(PREFIX + "seq") or 0)
    report.notes.append(
        f"{each:.0f} bytes of Redis for each queued mission; {count / enqueued:.0f} enqueued/s; "
        f"queue {longest} messages at first, never more than {max(lengths)} after; {published} publications"
    )
    report.expect(longest <= -(-count // 256) * (256 // IDS_PER_MESSAGE), "more messages than were published")
    report.expect(max(lengths) <= longest, "the queue grew while nobody enqueued")
    report.expect(published == count, f"{published - count} missions were published again")
    report.expect(report.succeeded == count, "not every mission succeeded")
    return report


def bad_messages(scale: Scale) -> Report:
    """8. Every known kind of malformed message, among good ones and under load; the long form adds one of 50 MB."""
    report = Report("8 malformed messages")
    bad = list(malformed().values()) * scale.pick(1, 10) + scale.pick([], [bytes(50_000_000)])
    with Arena(report) as arena:
        arena.start_workers(2)
        with arena.load(8 * len(bad), per_second=400, chunk=8):
            for entry in bad:
                arena.redis.lpush(QUEUE, entry)
                time.sleep(0.02)  # about the rate of the good ones
        arena.drain(60)
        arena.wait(lambda: arena.queue_length() == 0, 30, "the last message")
        arena.count()
        quarantined = arena.redis.xlen(Key.QUARANTINE)
        ended = sum(worker.ended() for worker in arena.workers)
    report.notes.append(f"{len(bad)} malformed messages, {quarantined} in quarantine")
    report.expect(quarantined == len(bad), "not every malformed message is in quarantine")
    report.expect(not ended, f"{ended} workers ended")
    report.expect(report.succeeded == report.accepted == 8 * len(bad), "a good mission did not succeed")
    return report


def lost_messages(scale: Scale) -> Report:
    """11. All messages vanish from the queue: admitted missions still run."""
    report = Report("11 the queue's messages are lost")
    count = scale.pick(100, 5000)
    with Arena(report) as arena:
        with arena.load(count):
            pass
        arena.redis.delete(*QUEUE_OF.values())
        arena.mark()
        arena.start_workers(1)
        arena.drain(60)
        arena.count()
    report.expect(report.succeeded == count, "not every mission succeeded")
    return report
