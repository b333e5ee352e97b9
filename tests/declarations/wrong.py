"""All wrong declarations by kind. ``python -m tests.declarations.wrong`` counts what becomes of them.

Belongs here: the whole table, and counting. Not here: cases (wrong_*.py), that each is refused (test_wrong.py).
"""

import sys
from collections import Counter
from collections.abc import Callable

from exfm.errors import DeclarationError
from tests.declarations.base import Wrong
from tests.declarations.wrong_inputs import INPUTS
from tests.declarations.wrong_names import NAMES, RESERVED, TWICE
from tests.declarations.wrong_numbers import CLOCKS, NUMBERS
from tests.declarations.wrong_references import REFERENCES, SIZES
from tests.declarations.wrong_types import FIELDS, TYPES

WRONG: dict[str, list[Wrong]] = {
    "types": TYPES, "fields": FIELDS, "numbers": NUMBERS, "clocks": CLOCKS, "names": NAMES, "reserved": RESERVED,
    "twice": TWICE, "references": REFERENCES, "sizes": SIZES, "inputs": INPUTS,
}  # fmt: skip


def became(field: str, declare: Callable[[], object]) -> str:
    """``refused`` in a sentence that names the field, or one ``elsewhere``, a ``traceback``, or ``accepted``."""
    try:
        declare()
    except DeclarationError as error:
        return "refused" if str(error).startswith(f"{field}: ") and "\n" not in str(error) else "elsewhere"
    except Exception:
        return "traceback"
    return "accepted"


def main() -> None:
    """Count by kind; with an argument, name those that were not refused as they should be."""
    total: Counter[str] = Counter()
    for kind, cases in WRONG.items():
        outcomes = Counter(became(*case) for case in cases)
        total += outcomes
        print(f"{kind:12}{len(cases):5}  {dict(outcomes)}")
        for index, case in enumerate(cases if len(sys.argv) > 1 else ()):
            if (how := became(*case)) != "refused":
                print(f"    {index} {case[0]}: {how}")
    print(f"{'all':12}{sum(total.values()):5}  {dict(total)}")


if __name__ == "__main__":
    main()
