"""Ask this container's web server whether it lives; exit code 0 if so."""

import os
import sys
import urllib.request

port = os.environ.get("GRANIAN_PORT", "8000")
host = os.environ.get("ALLOWED_HOSTS", "127.0.0.1").split(",")[0].strip().lstrip(".") or "127.0.0.1"
request = urllib.request.Request(f"http://127.0.0.1:{port}/healthz", headers={"Host": host})
try:
    with urllib.request.urlopen(request, timeout=4) as answer:  # noqa: S310  # our own
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"no answer: {error}")
