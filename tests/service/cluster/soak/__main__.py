"""`make soak-cluster`: what a service with a Ray cluster bears, on one machine.

    python -m tests.service.cluster.soak [--quick] [PROOF ...]

`kills` kills a node at random moments under load; `restarts` ends fronts and nodes with SIGTERM,
as new versions and machines that are taken away do; `scaling` measures the throughput of workers
whose step is slept, so that processors do not bound it; `clients` has a thousand poll one front.
Exits with 1 if something was not as it must be.  Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from .clients import clients
from .kills import kills
from .restarts import restarts
from .say import say
from .scaling import scaling

PROOFS = {"kills": kills, "restarts": restarts, "scaling": scaling, "clients": clients}


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.service.cluster.soak")
    parser.add_argument("proofs", nargs="*", metavar="PROOF", help=f"of {', '.join(PROOFS)}")
    parser.add_argument("--quick", action="store_true", help="a short form of each")
    options = parser.parse_args()
    if unknown := set(options.proofs) - set(PROOFS):
        parser.error(f"there is no proof {', '.join(sorted(unknown))}")
    say(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="segue-soak-") as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "SEGUE_STATE": f"{folder}/of-nodes"}
        for name in options.proofs or PROOFS:
            began = time.monotonic()
            (Path(folder) / name).mkdir()
            try:
                figures = PROOFS[name](Path(folder) / name, options.quick)
            except Exception:
                traceback.print_exc()
                failed.append(name)
            else:
                say(f"\n{figures}\n  ({time.monotonic() - began:.0f} s)")
    say(f"failed: {', '.join(failed)}" if failed else "everything was as it must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
