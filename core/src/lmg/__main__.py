"""`python -m lmg` is `lmg`."""

import sys

from .cli import main

sys.exit(main())
