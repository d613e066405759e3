"""Per worker process: one thread that looks at lanes, and the threads that send.

The looking thread alone talks to the database. Wake-ups and finished attempts reach it through one inbox; it
takes all that is there, then looks once at each lane concerned, so that under load attempts are settled and
claimed in batches. A lane's turn ends after `TURN`, so that a worker asked to stop is free within it.
"""

import heapq
import logging
import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from django.conf import settings
from django.db import DatabaseError, Error, connection

from config.database.sqlstates import is_away
from reliability import engine, origin
from reliability.models import Lane
from reliability.origin import Origin

from . import dispatch, sending, usage
from .messages import Claim, Sent

TURN = 5.0
LINGER = 0.01
# How long a busy lane's first attempt waits for others to be settled with.
GATHER = 0.005
HOT_ROUNDS = 3
RETRY_FIRST, RETRY_LAST = 0.5, 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Turn:
    """A lane in this process's care. `busy` counts rounds in a row that claimed something.

    `barred` says that the barrier of its wake-up is still to be passed before the lane is looked at.
    """

    lane_id: int
    future: "Future[None]"
    ends: float
    in_flight: int = 0
    done: list[Sent] = field(default_factory=list)
    busy: int = 0
    lingered: bool = False
    failures: int = 0
    handed_over: bool = False
    barred: bool = False
    covered_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attend:
    lane_id: int
    future: "Future[None]"


@dataclass(frozen=True, slots=True)
class Finished:
    lane_id: int
    sent: Sent | None


class Dispatcher:
    """Looks at the lanes it is told to, and sends what they have due."""

    def __init__(self, *, capacity: int) -> None:
        self.capacity = capacity
        self.worker = usage.NAME
        self._inbox: queue.SimpleQueue[Attend | Finished | None] = queue.SimpleQueue()
        self._turns: dict[int, Turn] = {}
        self._later: list[tuple[float, int]] = []
        self._starved: dict[int, None] = {}
        self._in_flight = 0
        self._pool = ThreadPoolExecutor(max_workers=capacity, thread_name_prefix="send")
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def attend(self, *, lane_id: int) -> "Future[None]":
        """Take a lane into care; the future ends when its turn does, with nothing of it in flight here."""
        future: Future[None] = Future()
        self._inbox.put(Attend(lane_id, future))
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
                self._thread.start()
        return future

    def close(self) -> None:
        """End the thread and its connection, at the latest with its next message."""
        self._closed = True
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._look_around()
            except Exception:  # the thread that all lanes depend on outlives any error
                logger.exception("dispatcher_error")
                time.sleep(RETRY_FIRST)
        connection.close()

    def _look_around(self) -> None:
        for lane_id in self._concerned():
            turn = self._turns.get(lane_id)
            if turn is not None:
                self._visit(turn)

    def _concerned(self) -> Iterable[int]:
        """Wait for something to do; return the lanes to look at, each once."""
        lanes: dict[int, None] = {}
        timeout = max(0.0, self._later[0][0] - time.monotonic()) if self._later else None
        try:
            self._take(self._inbox.get(timeout=timeout), lanes)
            until = time.monotonic() + GATHER
            while True:
                left = until - time.monotonic() if self._gathers(lanes) else 0
                self._take(self._inbox.get(timeout=left) if left > 0 else self._inbox.get_nowait(), lanes)
        except queue.Empty:
            pass
        while self._later and self._later[0][0] <= time.monotonic():
            lanes[heapq.heappop(self._later)[1]] = None
        if self._in_flight < self.capacity:
            lanes |= self._starved
            self._starved.clear()
        return list(lanes)

    def _gathers(self, lanes: Iterable[int]) -> bool:
        """Whether more is about to come back: a busy lane is looked at once for several attempts."""
        turns = [turn for lane_id in lanes if (turn := self._turns.get(lane_id))]
        return all(turn.busy >= HOT_ROUNDS and turn.in_flight > len(turn.done) for turn in turns)

    def _take(self, message: Attend | Finished | None, lanes: dict[int, None]) -> None:
        if message is None:
            return
        lanes[message.lane_id] = None
        if isinstance(message, Attend):
            self._begin(message)
            return
        self._in_flight -= 1
        turn = self._turns[message.lane_id]
        turn.in_flight -= 1
        if message.sent is not None:
            turn.done.append(message.sent)

    def _begin(self, message: Attend) -> None:
        ends = time.monotonic() + TURN
        turn = self._turns.get(message.lane_id)
        if turn is None:
            self._turns[message.lane_id] = Turn(message.lane_id, message.future, ends)
        else:
            _resolve(turn.future)
            turn.future, turn.ends, turn.handed_over, turn.lingered = message.future, ends, False, False
            turn.covered_until = None  # the wake-up that brought this turn may have been the one that covered
        try:
            engine.barrier(lane_id=message.lane_id)
        except Error:
            self._turns[message.lane_id].barred = True
            connection.close()

    def _visit(self, turn: Turn) -> None:
        try:
            self._round(turn)
            turn.failures = 0
        except Lane.DoesNotExist as error:
            # A wake-up outlived its lane: there is nothing to look at, now or later.
            if turn.in_flight:
                self._retry(turn, error)
            else:
                self._end(turn)
        except Error as error:
            if not is_away(error) and isinstance(error, DatabaseError):
                logger.exception("settling_failed", extra={"lane": turn.lane_id})
                turn.done = [Sent(s.claim, s.classified, None, s.started_at, s.duration) for s in turn.done]
            self._retry(turn, error)
        except Exception as error:
            logger.exception("look_failed", extra={"lane": turn.lane_id})
            self._retry(turn, error)

    def _retry(self, turn: Turn, error: Exception) -> None:
        """Look again a little later: what came back is kept until it can be written down, or its lease ended."""
        connection.close()
        turn.failures += 1
        wait = min(RETRY_LAST, RETRY_FIRST * 2 ** min(turn.failures - 1, 8))
        logger.warning("look_again", extra={"lane": turn.lane_id, "error": type(error).__name__, "wait_s": wait})
        if turn.failures > 20 and not turn.in_flight:
            self._end(turn, error)
            return
        self._look_later(turn.lane_id, wait)

    def _round(self, turn: Turn) -> None:
        if turn.barred:
            engine.barrier(lane_id=turn.lane_id)
            turn.barred = False
        over = time.monotonic() >= turn.ends
        room = 0 if over else self.capacity - self._in_flight
        done = turn.done
        found = dispatch.run(
            lane_id=turn.lane_id,
            sent=done,
            capacity=room,
            covered_until=turn.covered_until,
            attend=turn.busy >= HOT_ROUNDS and not over,
            worker=self.worker,
        )
        turn.done = []
        turn.covered_until = found.covered_until
        for claim in found.claims:
            self._send(turn, claim)
        if found.claims or done:
            turn.busy += 1
        if found.claims:
            turn.lingered = False
        if over:
            self._hand_over(turn)
        elif not room:
            self._starved[turn.lane_id] = None
        elif not (found.full and turn.in_flight):
            self._pause(turn)

    def _pause(self, turn: Turn) -> None:
        """Nothing more may go now: in a busy lane look again shortly, else leave it to its next wake-up."""
        if turn.busy >= HOT_ROUNDS and not turn.lingered:
            turn.lingered = True
            self._look_later(turn.lane_id, LINGER)
        else:
            self._rest(turn)

    def _rest(self, turn: Turn) -> None:
        turn.busy, turn.lingered = 0, False
        if not dispatch.rest(lane_id=turn.lane_id):
            self._look_later(turn.lane_id, LINGER)
        elif not turn.in_flight:
            self._end(turn)

    def _hand_over(self, turn: Turn) -> None:
        if not turn.handed_over:
            dispatch.hand_over(lane_id=turn.lane_id)
            turn.handed_over = True
        if not turn.in_flight:
            self._end(turn)

    def _end(self, turn: Turn, error: Exception | None = None) -> None:
        del self._turns[turn.lane_id]
        _resolve(turn.future, error)

    def _look_later(self, lane_id: int, seconds: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, lane_id))

    def _send(self, turn: Turn, claim: Claim) -> None:
        turn.in_flight += 1
        self._in_flight += 1
        self._pool.submit(self._attempt, claim)

    def _attempt(self, claim: Claim) -> None:
        """Send, in a thread of the pool. An error of our own leaves the lease to run out, and is on record."""
        sent = None
        try:
            with origin.within(Origin(claim.request_id)):
                sent = sending.send(claim, started_at=claim.now())
        except Exception:
            logger.exception("send_failed", extra={"delivery": str(claim.delivery_id), "request_id": claim.request_id})
        finally:
            self._inbox.put(Finished(claim.lane_id, sent))


def _resolve(future: "Future[None]", error: Exception | None = None) -> None:
    """End a future, which the engine may have cancelled meanwhile."""
    with suppress(InvalidStateError):
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


@cache
def dispatcher() -> Dispatcher:
    """Return this process's dispatcher."""
    return Dispatcher(capacity=settings.WORKER_MAX_IN_FLIGHT)
