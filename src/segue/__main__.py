"""`python -m segue` is `segue`."""

import sys

from .cli import main

sys.exit(main())
