"""A real Prometheus with the rules that are shipped, quickened: it scrapes and looks once a second."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import requests
import yaml

from ..support.receiver import until
from ..support.workers import ROOT

FOLDER = ROOT / "ops" / "prometheus"
ABSENT = "prometheus is absent: Debian's package 'prometheus' has it (apt-get install prometheus)"


class Prometheus:
    """Runs until `stop`. It waits a second where the rules say minutes; nothing else of them is changed."""

    def __init__(self, directory: Path, *, target: str, token: str) -> None:
        self.directory = directory
        rules = re.sub(r"for: \w+", "for: 1s", (FOLDER / "alerts.yml").read_text())
        (directory / "alerts.yml").write_text(rules)
        (directory / "backstop-token").write_text(token)
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        with (directory / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(self._command(port), cwd=directory, stdout=log, stderr=log)
        until(self._is_ready, within=60, what="Prometheus")

    def _command(self, port: int) -> list[str]:
        binary = shutil.which("prometheus")
        assert binary is not None, ABSENT
        return [
            binary,
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.directory / "prometheus.log").read_text()
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def last_error(self) -> str:
        """Return why the last scrape of its one target failed, if it did."""
        found = requests.get(f"{self.url}/api/v1/targets", timeout=10).json()["data"]["activeTargets"]
        return found[0]["lastError"] if found else ""

    def query(self, text: str) -> list[dict]:
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": text}, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def firing(self) -> dict[str, dict]:
        """Return the alerts that fire, by name, each with one of its sets of labels and annotations."""
        found = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {one["labels"]["alertname"]: one for one in found if one["state"] == "firing"}
