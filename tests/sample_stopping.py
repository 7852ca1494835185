"""A program whose runs all stop, beside others on the same record: ``python -m sample_stopping FOLDER NAME COUNT``."""

from __future__ import annotations

import sys
from pathlib import Path

from sample_office import Office


def main() -> None:
    folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    office = Office(folder)
    for number in range(count):
        office.serve(f"{name}{number}@example.com")
    office.app.record.store.close()


main()
