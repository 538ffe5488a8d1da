"""Tables in markdown."""

import statistics


def table(head, rows, texts=1):
    """The first columns, so many, are text; the others are numbers."""
    marks = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "".join(map(row, (head, marks, *rows)))


def row(cells):
    return f"| {' | '.join(cells)} |\n"


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})"


def median_ratio(values, others):
    """Median of the ratios within each round: both had the same weather."""
    ratios = [one / other for one, other in zip(values, others, strict=True) if other]
    return f"{statistics.median(ratios):.2f}" if ratios else "–"


def compared(alone, beside, names, rounds):
    """Rounds of two turns each, by what was measured. `alone`, `beside`: heads of the two columns."""
    rows = []
    for what, name in names.items():
        one, other = ([turns[nth][what] for turns in rounds] for nth in (0, 1))
        rows.append([name, spread(one), spread(other), median_ratio(other, one)])
    return table(["", f"{alone}, median (range)", beside, "ratio within a round, median"], rows)
