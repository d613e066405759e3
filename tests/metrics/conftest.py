"""Reads what `/metrics` says by prometheus_client's own parser."""

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families


class Scraped:
    """One answer: its families by name, and its values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {one.name: one for one in text_string_to_metric_families(text)}
        self.samples = [sample for one in self.families.values() for sample in one.samples]

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return the sum of what fits; `None` where nothing does."""
        found = [
            one.value
            for one in self.samples
            if one.name == name and all(one.labels.get(key) == value for key, value in labels.items())
        ]
        return sum(found) if found else None

    def labels(self, name: str) -> set[str]:
        return {key for one in self.samples if one.name == name for key in one.labels}


@pytest.fixture
def scrape(db):
    """Scrape this process."""

    def read(**headers: str) -> Scraped:
        answer = Client(headers=headers).get("/metrics")
        assert answer.status_code == 200, answer.content
        return Scraped(answer.content.decode())

    return read
