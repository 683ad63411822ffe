"""`python -m emojax.cli VERB ...`: the `emojax` command where it is not on the path."""

import sys

from emojax.cli import main

if __name__ == "__main__":
    sys.exit(main())
