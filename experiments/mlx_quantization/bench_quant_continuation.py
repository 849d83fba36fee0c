"""Measure one variant: `segue bench`, by the name that the experiments know it by."""

import sys

try:
    from segue.cli import main
except ModuleNotFoundError as missing:
    sys.exit(f"segue: {missing}; run `make demo` and `source .venv/bin/activate` first")

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
