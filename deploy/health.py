"""Exit with 0 if a service is ready, else print why and exit with 1: for containers' probes.

python deploy/health.py [URL]
"""

import json
import sys
from urllib.error import HTTPError
from urllib.request import urlopen

URL = "http://127.0.0.1:8000/ready"


def main(url: str = URL) -> int:
    """Ask the service at `url`."""
    try:
        with urlopen(url, timeout=5):  # noqa: S310 - a probe's own address
            return 0
    except HTTPError as error:
        with error:
            reason = _message(error.read()) or str(error)
    except (OSError, ValueError) as error:
        reason = str(error)
    print(f"{url}: {reason}", file=sys.stderr)  # noqa: T201
    return 1


def _message(body: bytes) -> str:
    """What an answer says of itself; empty if that is not to be read."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    return str(said.get("message", "")) if isinstance(said, dict) else ""


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
