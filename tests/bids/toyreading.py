"""Read a toy dataset and look at what was found."""

from brainage_bids.bids.read import DatasetQuery, read_dataset


def read(toy, **query):
    return read_dataset(DatasetQuery(toy.root, **query))


def codes(dataset, severity=None):
    return [f.code for f in dataset.faults if severity in (None, f.severity)]


def ages(dataset):
    return {scan.prefix: scan.age for scan in dataset.scans}
