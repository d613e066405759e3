"""The dispatcher of a worker process: one thread that checks lanes, and a pool of threads that send.

Only the dispatcher thread uses the database. Wake-ups and finished attempts reach it through one inbox. It takes
everything that is there, then checks each lane concerned once, so that under load attempts are settled and claimed in
batches. A lane's turn ends after `TURN` seconds, so that a worker that is asked to stop ends within that time.

The thread works for all lanes, so it never waits long for one of them. A lane that another session has locked is
checked again a little later (`turns.LockedLanes`), and its finished attempts are kept until they can be settled.
"""

import heapq
import logging
import math
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.db import DatabaseError, Error, connection

from config.database.sqlstates import is_unavailable
from reliability import queue as engine
from reliability.core import lock_waits, process_usage, request_context
from reliability.core.request_context import RequestContext
from reliability.lanes.lane_lock import SKIP_LOCKED, WAIT_BRIEFLY, LaneLocked, LockTimeout
from reliability.lanes.messages import Claim, Sent
from reliability.models import Lane

from . import dispatch, sending
from .dispatch import DispatchResult, LaneRelease
from .turns import Finished, LockedLanes, ProcessLane, Turn, resolve

# Seconds of a lane's turn, after which its job ends and any worker may take the lane.
TURN = 5.0
# Seconds until a busy lane that had nothing to claim is checked again; doubled after each check without a result.
RECHECK_FIRST, RECHECK_LAST = 0.01, 1.0
# Seconds to wait for one more result of a busy lane, and for all of a batch. A round costs nearly the same for one
# result as for many. Where results come further apart, waiting would only delay them.
BATCH_WAIT, BATCH_WAIT_LIMIT = 0.002, 0.01
# Rounds in a row that claimed or settled something, from which on a lane counts as busy.
BUSY_ROUNDS = 3
# One slot in so many is reserved for lanes that have nothing in flight.
RESERVED_SHARE = 4
# Seconds until a failed round is repeated; doubled each time.
RETRY_FIRST, RETRY_LAST = 0.5, 5.0
# When a lane is checked again that failed too often, for another reason than an unavailable database.
GIVE_UP_WAIT = timedelta(seconds=60)
# Seconds until results are reported again to the instance's breaker, if it was locked; and how many are kept for it.
REPORT_RETRY, UNREPORTED_LIMIT = 0.2, 1000
# How many locked deliveries a round meets before it leaves the rest to the next one: each costs a lock time-out.
CONFLICTS = 10
# From which try in a row a locked lane is logged.
LOGGED_FROM = 4
# An id that no lane has: to schedule a run without a lane.
NO_LANE = 0

logger = logging.getLogger(__name__)


class Dispatcher:
    """Checks the lanes that wake-ups name, and sends what is due in them."""

    def __init__(self, *, capacity: int) -> None:
        self.capacity = capacity
        self.worker = process_usage.PROCESS_NAME
        self._inbox: queue.SimpleQueue[ProcessLane | Finished | None] = queue.SimpleQueue()
        self._turns: dict[int, Turn] = {}
        self._timers: list[tuple[float, int]] = []
        self._scheduled: dict[int, float] = {}
        self._locked = LockedLanes()
        self._unreported: list[Sent] = []
        self._waiting_for_slots: dict[int, None] = {}
        self._in_flight = 0
        self._pool = ThreadPoolExecutor(max_workers=capacity, thread_name_prefix="send")
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def process_lane(self, *, lane_id: int) -> "Future[None]":
        """Begin or extend a lane's turn. The future ends with the turn, when nothing of the lane is in flight here."""
        future: Future[None] = Future()
        self._inbox.put(ProcessLane(lane_id, future))
        # Two jobs may come at once, and only one thread may be started.
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
                self._thread.start()
        return future

    def close(self) -> None:
        """End the thread and its connection, and wait for it."""
        self._closed = True
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._run_once()
            except Exception:  # all lanes depend on this thread, so it survives any error
                logger.exception("dispatcher_error")
                time.sleep(RETRY_FIRST)
        connection.close()

    def _run_once(self) -> None:
        lanes = self._next_lanes()
        if self._unreported:
            self._report_to_instance()
        for lane_id in lanes:
            turn = self._turns.get(lane_id)
            if turn is None:
                continue
            try:
                self._process(turn)
            except Exception:  # an error of one lane must not keep the others from being checked
                logger.exception("visit_failed", extra={"lane": lane_id})
                self._schedule(lane_id, RETRY_FIRST)

    def _next_lanes(self) -> Iterable[int]:
        """Wait for messages and timers; return the lanes to check, each once."""
        lanes: dict[int, None] = {}
        timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
        try:
            self._receive(self._inbox.get(timeout=timeout), lanes)
            until = time.monotonic() + BATCH_WAIT_LIMIT
            while True:
                left = min(BATCH_WAIT, until - time.monotonic()) if self._may_batch(lanes) else 0
                self._receive(self._inbox.get(timeout=left) if left > 0 else self._inbox.get_nowait(), lanes)
        except queue.Empty:
            pass
        while self._timers and self._timers[0][0] <= time.monotonic():
            at, lane_id = heapq.heappop(self._timers)
            if self._scheduled.get(lane_id) == at:  # else this timer was replaced by an earlier one
                del self._scheduled[lane_id]
                lanes[lane_id] = None
        for lane_id in [one for one in self._waiting_for_slots if self._free_slots(self._turns.get(one))]:
            del self._waiting_for_slots[lane_id]
            lanes[lane_id] = None
        return list(lanes)

    def _free_slots(self, turn: Turn | None) -> int:
        """Return how many more attempts of a lane may start in this process."""
        # The last slots are for lanes that have nothing in flight here, one each. Otherwise lanes whose requests hang
        # could take all threads, and the other lanes would wait for their timeouts.
        free = self.capacity - self._in_flight
        shared = free - self.capacity // RESERVED_SHARE
        if shared > 0:
            return shared
        return 0 if turn is not None and turn.in_flight else min(1, free)

    def _may_batch(self, lanes: Iterable[int]) -> bool:
        """Whether to wait for more results: all lanes to check are busy and have attempts in flight."""
        turns = [turn for lane_id in lanes if (turn := self._turns.get(lane_id))]
        return all(turn.busy >= BUSY_ROUNDS and turn.in_flight for turn in turns)

    def _receive(self, message: ProcessLane | Finished | None, lanes: dict[int, None]) -> None:
        if message is None:
            return
        lanes[message.lane_id] = None
        if isinstance(message, ProcessLane):
            self._begin_turn(message)
            return
        self._in_flight -= 1
        turn = self._turns[message.lane_id]
        turn.in_flight -= 1
        if message.sent is not None:
            turn.unsettled.append(message.sent)

    def _begin_turn(self, message: ProcessLane) -> None:
        ends = time.monotonic() + TURN
        turn = self._turns.get(message.lane_id)
        if turn is None:
            self._turns[message.lane_id] = Turn(message.lane_id, message.future, ends)
        else:
            resolve(turn.future)
            turn.future, turn.ends_at, turn.rechecked, turn.idle = message.future, ends, False, 0
            turn.needs_barrier = True
            # The wake-up that began this turn may have been the planned fallback itself.
            turn.fallback_at = None

    def _process(self, turn: Turn) -> None:
        waits = self._locked.may_wait(turn.lane_id, now=time.monotonic())
        try:
            self._round(turn, WAIT_BRIEFLY if waits else SKIP_LOCKED)
            turn.failures = 0
        except Lane.DoesNotExist as error:
            # The lane was deleted after its wake-up was written.
            self._locked.clear(turn.lane_id)
            if turn.in_flight:
                self._retry_failed(turn, error)
            else:
                self._end_turn(turn)
        except LaneLocked:
            self._retry_locked(turn, waited=waits)
        except Error as error:
            if lock_waits.is_conflict(error):
                turn.one_by_one = True
                self._retry_locked(turn, waited=waits)
                return
            if not is_unavailable(error) and isinstance(error, DatabaseError):
                # Perhaps a reply cannot be stored. Without replies, the results of the batch still can.
                logger.exception("settling_failed", extra={"lane": turn.lane_id})
                turn.unsettled = [Sent(s.claim, s.classified, None, s.started_at, s.duration) for s in turn.unsettled]
            self._retry_failed(turn, error)
        except Exception as error:
            logger.exception("look_failed", extra={"lane": turn.lane_id})
            self._retry_failed(turn, error)

    def _retry_locked(self, turn: Turn, *, waited: bool) -> None:
        """Check the lane again later, since another session has locked a row of it.

        A turn that is over and has nothing left here ends, so that any worker may try next.
        """
        # Finished attempts are kept until they can be settled. Their leases protect them from being sent again; after
        # the leases' end, the fencing token decides.
        wait = self._locked.failed(turn.lane_id, waited=waited, now=time.monotonic())
        tries = self._locked.tries(turn.lane_id)
        # The 4th, 8th, 16th …: short conflicts between workers are usual, and a lasting one must not fill the log.
        if tries >= LOGGED_FROM and tries & (tries - 1) == 0:
            logger.warning(
                "lane_locked", extra={"lane": turn.lane_id, "tries": tries, "unsettled": len(turn.unsettled)}
            )
        if turn.is_empty and time.monotonic() >= turn.ends_at:
            engine.requeue(lane_id=turn.lane_id, wait=timedelta(seconds=wait))
            self._end_turn(turn)
        else:
            self._schedule(turn.lane_id, wait)

    def _retry_failed(self, turn: Turn, error: Exception) -> None:
        """Check the lane again later, after an error. Finished attempts are kept until they can be settled."""
        # The connection may be what is broken, or may hold a failed transaction.
        connection.close()
        turn.failures += 1
        wait = min(RETRY_LAST, RETRY_FIRST * 2 ** min(turn.failures - 1, 8))
        logger.warning("look_again", extra={"lane": turn.lane_id, "error": type(error).__name__, "wait_s": wait})
        if turn.failures > 20 and not turn.in_flight and not is_unavailable(error):
            engine.requeue(lane_id=turn.lane_id, wait=GIVE_UP_WAIT)
            self._end_turn(turn, error)
            return
        self._schedule(turn.lane_id, wait)

    def _round(self, turn: Turn, lock_timeout: LockTimeout) -> None:
        if turn.needs_barrier:
            turn.needs_barrier = not engine.try_barrier(lane_id=turn.lane_id)
        if turn.one_by_one:
            self._settle_one_by_one(turn)
        over = time.monotonic() >= turn.ends_at
        slots = 0 if over else self._free_slots(turn)
        done = [] if turn.one_by_one else turn.unsettled
        found = self._dispatch(
            turn, sent=done, slots=slots, lock_timeout=lock_timeout, attend=turn.busy >= BUSY_ROUNDS and not over
        )
        turn.blocked = found.blocked
        if not turn.one_by_one:
            turn.unsettled = []
            self._locked.clear(turn.lane_id)
        if found.claims or done:
            turn.busy += 1
            turn.idle = 0
        if found.claims:
            turn.rechecked = False
        if over:
            self._requeue(turn)
        elif not slots:
            self._waiting_for_slots[turn.lane_id] = None
            # When the turn is over, another worker may have free slots.
            self._schedule(turn.lane_id, max(0.0, turn.ends_at - time.monotonic()))
        elif not turn.one_by_one and not (found.full and turn.in_flight):
            self._recheck_or_release(turn, lock_timeout)
        if turn.one_by_one:
            self._retry_locked(turn, waited=False)

    def _dispatch(
        self, turn: Turn, *, sent: Sequence[Sent], slots: int, lock_timeout: LockTimeout, attend: bool = False
    ) -> DispatchResult:
        found = dispatch.run(
            lane_id=turn.lane_id,
            sent=sent,
            capacity=slots,
            fallback_at=turn.fallback_at,
            attend=attend,
            worker=self.worker,
            lock_timeout=lock_timeout,
        )
        turn.fallback_at = found.fallback_at
        for claim in found.claims:
            turn.in_flight += 1
            self._in_flight += 1
            self._pool.submit(self._attempt, claim)
        if found.unreported:
            self._unreported = [*self._unreported, *found.unreported][-UNREPORTED_LIMIT:]
            self._schedule(NO_LANE, REPORT_RETRY)
        return found

    def _settle_one_by_one(self, turn: Turn) -> None:
        """Settle attempts one by one, so that a locked row keeps no other attempt from being settled."""
        kept: list[Sent] = []
        try:
            while turn.unsettled and len(kept) < CONFLICTS:
                one = turn.unsettled[0]
                try:
                    self._dispatch(turn, sent=[one], slots=0, lock_timeout=SKIP_LOCKED)
                except DatabaseError as error:
                    if not lock_waits.is_conflict(error):
                        raise
                    kept.append(one)
                turn.unsettled = turn.unsettled[1:]
        finally:
            # No attempt may be lost, whatever error ends the loop. Those that were tried come last the next time.
            turn.unsettled += kept
        turn.one_by_one = bool(turn.unsettled)

    def _recheck_or_release(self, turn: Turn, lock_timeout: LockTimeout) -> None:
        """Nothing more may be sent now: check a busy lane again shortly, release any other lane."""
        # A busy lane often has the next delivery within milliseconds, and a wake-up costs more than one more check.
        if turn.busy >= BUSY_ROUNDS and not turn.rechecked:
            turn.rechecked = True
            self._schedule(turn.lane_id, RECHECK_FIRST)
            return
        turn.busy, turn.rechecked = 0, False
        left = dispatch.release_lane(
            lane_id=turn.lane_id, needs_barrier=turn.needs_barrier, blocked=turn.blocked, lock_timeout=lock_timeout
        )
        turn.needs_barrier = left is LaneRelease.BARRIER
        if left is not LaneRelease.RELEASED:
            # Check the lane again soon, with growing waits while that brings nothing.
            self._schedule(turn.lane_id, min(RECHECK_LAST, RECHECK_FIRST * 2 ** min(turn.idle, 8)))
            turn.idle += 1
        elif not turn.in_flight:
            self._end_turn(turn)

    def _requeue(self, turn: Turn) -> None:
        """Give the lane to whichever worker is free, now that this turn is over.

        The turn itself stays open here while attempts of the lane are in flight.
        """
        engine.requeue(lane_id=turn.lane_id, wait=timedelta(0))
        if turn.is_empty:
            self._end_turn(turn)

    def _report_to_instance(self) -> None:
        """Report attempts to the instance's breaker that was locked when they were settled; check their lanes again."""
        try:
            reported = dispatch.report_to_instance(batch=self._unreported)
        except Error as error:
            reported = False
            if not lock_waits.is_conflict(error):
                connection.close()
        except Exception:  # lanes must not wait because a report cannot be recorded
            logger.exception("telling_failed")
            reported = True
        if not reported:
            self._schedule(NO_LANE, REPORT_RETRY)
            return
        for lane_id in {sent.claim.lane_id for sent in self._unreported}:
            self._schedule(lane_id, 0)
        self._unreported = []

    def _end_turn(self, turn: Turn, error: Exception | None = None) -> None:
        del self._turns[turn.lane_id]
        resolve(turn.future, error)

    def _schedule(self, lane_id: int, seconds: float) -> None:
        at = time.monotonic() + seconds
        if at < self._scheduled.get(lane_id, math.inf):  # one timer per lane: each run schedules the next
            self._scheduled[lane_id] = at
            heapq.heappush(self._timers, (at, lane_id))

    def _attempt(self, claim: Claim) -> None:
        """Send one attempt; runs in a thread of the pool. After an unexpected error, the lease expires by itself."""
        sent = None
        try:
            with request_context.within(RequestContext(claim.request_id)):
                sent = sending.send(claim, started_at=claim.now())
        except Exception:
            logger.exception("send_failed", extra={"delivery": str(claim.delivery_id), "request_id": claim.request_id})
        finally:
            self._inbox.put(Finished(claim.lane_id, sent))


@cache
def dispatcher() -> Dispatcher:
    """Return this process's dispatcher."""
    return Dispatcher(capacity=settings.WORKER_MAX_IN_FLIGHT)


def process_lane(*, lane_id: int) -> "Future[None]":
    """Begin or extend a lane's turn in this process (`Dispatcher.process_lane`)."""
    return dispatcher().process_lane(lane_id=lane_id)
