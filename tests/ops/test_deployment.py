"""The deployment's files, held to what their own tools say of them, and to each other."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
BIN = Path(sys.executable).parent
MANIFESTS = sorted(path for path in (OPS / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml")
UNITS = sorted((OPS / "systemd").glob("backstop-*"))
YAML_RULES = "{extends: relaxed, rules: {line-length: {max: 130}}}"
HARDENING = {
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "CapabilityBoundingSet=",
}


def run(*command: object, **options) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False, **options)


def documents() -> list[dict]:
    return [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text()) if one]


def pods() -> list[tuple[str, dict]]:
    found = []
    for one in documents():
        spec = one.get("spec", {})
        template = spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")
        if template:
            found.append((one["metadata"]["name"], template["spec"]))
    return found


def compose() -> dict:
    return yaml.safe_load((OPS / "compose.yaml").read_text())


def variables() -> set[str]:
    """Every variable that the reference names."""
    return set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "reference" / "settings.md").read_text()))


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", OPS / "docker" / "Dockerfile"),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", OPS / "compose.yaml"),
        ("kubernetes-validate", "--strict", *MANIFESTS),
        ("yamllint", "--strict", "--config-data", YAML_RULES, *MANIFESTS, OPS / "compose.yaml"),
        ("shellcheck", OPS / "docker" / "ping.sh"),
    ],
    ids=lambda command: command[0],
)
def test_each_file_passes_its_linter_or_schema(command):
    done = run(BIN / command[0], *command[1:], cwd=OPS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here: the units are unchecked")
def test_systemd_accepts_every_unit(tmp_path):
    """Their commands are at other places on this machine, and exist there."""
    places = {"/opt/backstop/.venv/bin/": f"{BIN}/", "/usr/bin/curl": sys.executable, "=/opt/backstop": f"={ROOT}"}
    for path in UNITS:
        text = path.read_text()
        for old, new in places.items():
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text)
    done = run("systemd-analyze", "verify", *(tmp_path / path.name for path in UNITS))
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stderr, done.stderr


def test_every_service_of_systemd_is_hardened():
    for path in UNITS:
        if path.suffix == ".service":
            assert set(path.read_text().splitlines()) >= HARDENING, path.name


def test_every_container_runs_without_root_and_without_a_writable_system():
    assert len(pods()) == 5
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name
    for name in ("migrate", "web", "worker"):
        service = compose()["services"][name]
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_whoever_ends_a_worker_waits_for_what_it_has_in_flight():
    patience = settings.PROCRASTINATE_WORKER_DEFAULTS["shutdown_graceful_timeout"]
    worker = dict(pods())["backstop-worker"]
    assert worker["terminationGracePeriodSeconds"] > patience
    assert int(compose()["services"]["worker"]["stop_grace_period"].removesuffix("s")) > patience
    unit = (OPS / "systemd" / "backstop-worker@.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]) > patience
    assert patience > settings.N8N_TIMEOUT_MS / 1000


def test_probes_ask_for_health_by_no_name():
    web = dict(pods())["backstop-web"]["containers"][0]
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert "httpHeaders" not in web[name]["httpGet"], "health is told whatever the Host"
    assert web["livenessProbe"]["httpGet"]["path"] == "/healthz"  # a database that is away is no reason to restart
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_schema_comes_before_the_code():
    for name in ("backstop-web", "backstop-worker"):
        command = dict(pods())[name]["initContainers"][0]["command"]
        assert command == ["python", "manage.py", "migrate", "--check"]
    for name in ("web", "worker"):
        waits = compose()["services"][name]["depends_on"]["migrate"]
        assert waits == {"condition": "service_completed_successfully"}


def test_only_variables_that_the_reference_knows_are_set():
    known = variables() | {"DATABASE_URL", "SECRET_KEY"}
    example = (OPS / "backstop.env.example").read_text()
    named = set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    for one in documents():
        if one["kind"] in ("ConfigMap", "Secret"):
            named |= set(one.get("data") or {}) | set(one.get("stringData") or {})
    assert named <= known, named - known


def test_every_image_is_pinned_and_every_file_that_is_copied_is_there():
    images = [service["image"] for service in compose()["services"].values()]
    images += [c["image"] for _, pod in pods() for c in pod["containers"] if c["image"] != "backstop"]
    for image in images:
        assert re.search(r":[\w.-]*\d[\w.-]*$|:local$", image), image
    dockerfile = (OPS / "docker" / "Dockerfile").read_text()
    ignored = (OPS / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?!--from)(\S+)", dockerfile, re.MULTILINE):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_what_compose_mounts_is_there():
    mounted = [one for service in compose()["services"].values() for one in service.get("volumes", ())]
    files = [one.split(":")[0] for one in mounted if one.startswith("./")]
    assert files
    assert not [one for one in files if not (OPS / one).exists()]


@pytest.mark.django_db(transaction=True)
def test_the_image_s_health_check_asks_the_server_whatever_its_names(tmp_path):
    from ..support.web import Web

    web = Web(tmp_path, ALLOWED_HOSTS="backstop.example.com")
    check = [sys.executable, OPS / "docker" / "healthcheck.py"]
    asked = {"PORT": web.url.rpartition(":")[2]}
    try:
        assert run(*check, env=asked).returncode == 0
    finally:
        web.kill()
    assert "no answer" in run(*check, env=asked).stderr


def test_every_way_to_run_it_starts_the_same_web_server():
    unit = (OPS / "systemd" / "backstop-web.service").read_text()
    dockerfile = (OPS / "docker" / "Dockerfile").read_text()
    assert re.search(r"^ExecStart=/opt/backstop/\.venv/bin/python manage\.py web ", unit, re.MULTILINE)
    assert 'CMD ["python", "manage.py", "web"]' in dockerfile
    assert "command" not in compose()["services"]["web"]
    assert "command" not in dict(pods())["backstop-web"]["containers"][0]
    assert "GRANIAN_" not in dockerfile + unit, "its options come from the settings"
    limit = int(re.search(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)[1])
    assert limit > settings.WEB_MAX_CONNECTIONS + 512


def test_the_proxy_buffers_and_closes_kept_connections_first():
    text = (OPS / "docker" / "nginx.conf").read_text()
    for wanted in ("proxy_request_buffering on;", "proxy_buffering on;", "underscores_in_headers off;"):
        assert wanted in text
    size = int(re.search(r"client_max_body_size (\d+)m;", text)[1])
    assert size * 1024 * 1024 > settings.MAX_BODY_BYTES, "Backstop itself says that a body is too large"
    upstream = re.search(r"upstream backstop \{.*?keepalive_timeout (\d+)s;", text, re.DOTALL)[1]
    assert int(upstream) < settings.WEB_HEADER_SECONDS
    assert "ports" not in compose()["services"]["web"], "the proxy alone is reached from outside"
    assert compose()["services"]["web"]["environment"]["TRUSTED_PROXIES"] == "2"
