"""The commands where nothing is installed: ``python -m magpie_steps.cli COMMAND``."""

import sys

from magpie_steps.cli import main

sys.exit(main())
