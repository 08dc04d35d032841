"""Real pairs to learn from, small enough for a test: what the standard library says of its own functions."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

NAMES = """
base64: a85decode a85encode b16decode b16encode b32decode b32encode b32hexdecode b32hexencode b64decode b64encode
    b85decode b85encode decode decodebytes encode encodebytes main standard_b64decode standard_b64encode
    urlsafe_b64decode urlsafe_b64encode
json: JSONDecodeError JSONDecoder JSONEncoder dump dumps load loads
os.path: abspath basename commonpath commonprefix dirname exists expanduser expandvars getatime getctime getmtime
    getsize isabs isdir isfile islink ismount join lexists normcase normpath realpath relpath samefile sameopenfile
    samestat split splitdrive splitext
shutil: ExecError ReadError RegistryError SameFileError SpecialFileError chown copy copy2 copyfile copyfileobj
    copymode copystat copytree disk_usage get_archive_formats get_terminal_size get_unpack_formats ignore_patterns
    make_archive move register_archive_format register_unpack_format rmtree unpack_archive unregister_unpack_format
    which
statistics: Counter Decimal Fraction LinearRegression NormalDist bisect_left bisect_right correlation covariance
    defaultdict erf exp fabs fmean fsum geometric_mean groupby harmonic_mean hypot linear_regression log mean median
    median_grouped median_high median_low mode mul multimode namedtuple pstdev pvariance quantiles reduce repeat
    sqrt stdev variance
string: Template capwords
textwrap: TextWrapper dedent fill indent shorten wrap
"""
"""What Python 3.11 has: which of them are held out hangs on which of them there are."""


def rows(count: int) -> list[dict[str, Any]]:
    """Gives feedback rows: a docstring's first line asked, a neighbouring function wrongly answered."""
    found: list[dict[str, Any]] = []
    for line in re.sub(r"\n +", " ", NAMES).split("\n"):
        module, _, names = line.partition(": ")
        functions = names.split()
        for place, name in enumerate(functions):
            said = getattr(import_module(module), name, None)
            called = import_module(module).__name__
            found.append(
                {
                    "task_type": "lookup",
                    "input": ((said and said.__doc__) or name).strip().splitlines()[0],
                    "output": f"{called}.{functions[place - 1]}",
                    "reference": f"{called}.{name}",
                    "outcome": "fail",
                    "confidence": 0.4,
                    "group": f"{called}.{name}",
                }
            )
    # Taken evenly from all modules, the same ones on every machine.
    return found[:: max(1, len(found) // count)][:count]
