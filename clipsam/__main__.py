"""Entry point of ``python -m clipsam``."""

import sys

from .cli import main

sys.exit(main())
