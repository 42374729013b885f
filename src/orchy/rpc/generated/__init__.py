"""Made from the files in `proto/` by `nox -s proto`; not to be edited."""
