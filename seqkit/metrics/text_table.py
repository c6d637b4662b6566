"""Plain tables for the log and the terminal. Knows nothing of what is in them."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Lines of columns, two spaces apart; the first is set flush left, the others flush right.

    Args:
        header: names of the columns.
        rows: cells, as many as there are columns.
        indent: before each line.
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for first, *others in [header, *rows]:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def bytes_text(count: float) -> str:
    """A number of bytes as one reads it: `512 B`, `1.5 MB`, `12 GB` (powers of 1024)."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GB" if count < 10 else f"{count:.0f} GB"
