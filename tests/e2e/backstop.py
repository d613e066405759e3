"""Backstop as the workflows see it: a real web server, behind a server that remembers every call and can fail it."""

import threading
from collections import Counter

import requests

from reliability.models import ApiKey
from reliability.models.access import PREFIX_LENGTH, hash_key

from ..support.receiver import Got, Receiver, Reply

KEY = "bsk_a-key-that-the-workflows-of-the-tests-hold"


def issue_key() -> ApiKey:
    """Make the key that n8n's credential holds, whose text has to be known before the test."""
    return ApiKey.objects.create(name="n8n", prefix=KEY[:PREFIX_LENGTH], hash=hash_key(KEY), scopes=["report"])


class Front(Receiver):
    """Hands calls on to Backstop. `failing` counts, by path, the calls still to be answered with a 503."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.backstop = url
        self.failing: Counter[str] = Counter()
        self.answered: list[tuple[str, int]] = []
        self.rule = self._answer
        self.is_open = True
        self.under_way = 0
        self._hand_over = threading.Condition()

    def calls(self, path: str) -> list[Got]:
        return [one for one in self.got if one.path == path]

    def let_in(self) -> None:
        self.is_open = True

    def shut(self) -> None:
        """Hand nothing on any more, once what is under way has been answered: a late report meets no table."""
        with self._hand_over:
            self.is_open = False
            assert self._hand_over.wait_for(lambda: not self.under_way, timeout=30), "a call does not end"

    def post(self, path: str, body: dict) -> requests.Response:
        """Call as n8n would."""
        headers = {"Authorization": f"Bearer {KEY}"}
        return requests.post(f"http://127.0.0.1:{self.port}{path}", json=body, headers=headers, timeout=30)

    def _answer(self, got: Got) -> Reply:
        reply = self._reply_to(got)
        self.answered.append((got.path, reply.status))
        return reply

    def _reply_to(self, got: Got) -> Reply:
        if self.failing[got.path] > 0:
            self.failing[got.path] -= 1
            return Reply(503, '{"title": "Not now"}')
        with self._hand_over:
            if not self.is_open:
                return Reply(503, '{"title": "Closed"}')
            self.under_way += 1
        try:
            return self._handed_on(got)
        finally:
            with self._hand_over:
                self.under_way -= 1
                self._hand_over.notify_all()

    def _handed_on(self, got: Got) -> Reply:
        headers = {name: value for name, value in got.headers.items() if name in ("authorization", "content-type")}
        answer = requests.post(self.backstop + got.path, data=got.body, headers=headers, timeout=30)
        kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
        return Reply(answer.status_code, answer.text, kept)
