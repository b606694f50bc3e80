"""Make the catalogue's tables anew from installed packages. Nothing is downloaded: install or fetch them first.

pip install --upgrade genai-prices
pip download --no-deps litellm
python -m lmg_catalogue.refresh --litellm litellm-*.whl --output tables/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from zipfile import BadZipFile

from .capabilities import capability_table, read_map
from .tables import write

__all__ = ["main"]

BUNDLED = Path(__file__).parent.parent / "data"


def main(argv: Sequence[str] | None = None) -> int:
    """Writes prices.json, and capabilities.json where a map is given; says of which day they are."""
    parser = argparse.ArgumentParser(
        prog="python -m lmg_catalogue.refresh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--litellm", type=Path, metavar="FILE", help="a wheel of litellm, or its map of models as JSON"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=BUNDLED,
        metavar="DIR",
        help="where the tables go (default: this package)",
    )
    parser.add_argument(
        "--date",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="the day that the data is of (default: the newest day on which a price in it began)",
    )
    options = parser.parse_args(argv)
    try:
        from .prices import newest_price, price_table
    except ImportError as error:
        parser.error(f"genai-prices is not installed ({error}): pip install 'lmg-catalogue[refresh]'")
    day = options.date or newest_price(datetime.now(UTC).date())
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        tables = {"prices.json": price_table(day)}
        if options.litellm is not None:
            tables["capabilities.json"] = capability_table(*read_map(options.litellm), day)
        for name, table in tables.items():
            write(options.output / name, table)
            count = sum(len(vendor["models"]) for vendor in table["vendors"].values())
            sys.stdout.write(f"{options.output / name}: {count} models, {table['source']}, of {day}\n")
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        parser.error(f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
