"""The version of the engine, as recorded in each log."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("instar")
except PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "0+source"
