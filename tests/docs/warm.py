"""Management commands without the wait for Python and Django to start: `python -m tests.docs.warm SOCKET`.

A server has everything loaded, and forks for each command that a client (`CLIENT`, the `manage.py` of the documents'
shell) hands over with its arguments, folder, environment and files. A command whose environment sets something else
than the server's is started afresh, as it would be in life.
"""

import gc
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """\
#!{python} -SEs
import json, os, socket, sys
arguments = sys.argv[1:]
if os.path.basename(sys.argv[0]).startswith("python"):
    if arguments[:1] != ["manage.py"]:
        os.execv({python!r}, [{python!r}, *arguments])
    arguments = arguments[1:]
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    told = json.dumps({{"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
    socket.send_fds(server, [len(told).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(told)
    answer = server.recv(1)
sys.exit(answer[0] if answer else 70)
"""


def write_clients(folder: Path, *, address: Path) -> None:
    """Write `manage.py`, and a Python which knows it, into a folder for the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("manage.py", "python"):
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        path.chmod(0o755)


def serve(address: Path) -> None:
    """Load everything, then fork for each command."""
    import django
    from django.core import management
    from django.db import connections

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    for name, app in management.get_commands().items():
        if app in ("reliability", "scheduling"):
            management.load_command_class(app, name)
    management.call_command("check", stdout=io.StringIO())  # it loads what each command would load for its own checks
    connections.close_all()
    gc.freeze()
    names = set(re.findall(r'env\.\w+\(\s*"(\w+)"', (ROOT / "config" / "settings.py").read_text()))
    own = {name: os.environ.get(name) for name in names}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen(8)
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _work(client, own)
            client.close()


def _work(client: socket.socket, own: dict[str, str | None]) -> None:
    head, files, _, _ = socket.recv_fds(client, 4, 3)
    told = b""
    while len(told) < int.from_bytes(head, "big"):
        told += client.recv(1 << 20)
    asked = json.loads(told)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(asked["folder"])
    is_other = any(asked["environment"].get(name) != value for name, value in own.items())
    code = _afresh(asked) if is_other else _here(asked)
    client.sendall(bytes([code]))
    os._exit(0)


def _here(asked: dict) -> int:
    from django.core import management

    os.environ.clear()
    os.environ.update(asked["environment"])
    # What was opened by the server is the server's: these belong to the caller.
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    try:
        management.execute_from_command_line(["manage.py", *asked["arguments"]])
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001, RUF100
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _afresh(asked: dict) -> int:
    command = [sys.executable, str(ROOT / "manage.py"), *asked["arguments"]]
    return subprocess.run(command, env=asked["environment"], check=False).returncode & 0xFF


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
