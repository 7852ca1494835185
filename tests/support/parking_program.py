"""A program whose runs all stop, beside others on one record; its arguments are FOLDER, NAME and COUNT."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.app_with_fakes import Office


def main() -> None:
    folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    office = Office(folder)
    for number in range(count):
        office.serve(f"{name}{number}@example.com")
    office.app.record.store.close()


main()
