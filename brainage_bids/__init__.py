"""brainage-bids: brain age, brain age gap and Grad-RAM maps from T1-weighted MRI in BIDS."""

__version__ = "0.1.0"
