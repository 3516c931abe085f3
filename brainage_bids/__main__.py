"""``python -m brainage_bids`` is ``brainage-bids``."""

from brainage_bids.cli import main

if __name__ == "__main__":
    main()
