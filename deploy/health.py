"""Exit with 0 if a service can generate, else print why and exit with 1: for containers' probes.

python deploy/health.py [URL]
"""

import json
import sys
from urllib.request import urlopen

URL = "http://127.0.0.1:8000/health"


def main(url: str = URL) -> int:
    """Ask the service at `url`."""
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - a probe's own address
            health = json.load(answer)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if health.get("status") == "live":
        return 0
    print(health.get("message", health), file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
