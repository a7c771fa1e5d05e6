"""Everything that an outsider can do, at once, while an honest submitter goes on: `make attack`."""
