"""Bytes, machines and hours of galleries up to 10⁹ items, from measured constants: `python benchmarks/scale.py`.

The tables of docs/scale.md are what this prints; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

SIZES = (10**6, 10**8, 10**9)
CORES, DISK_TB = 64, 4.0
"""A machine of the tables: cores, and terabytes of disk."""


@dataclass(frozen=True)
class Constant:
    """A measured constant: value, unit, what it is of, and the command that gives it."""

    value: float
    unit: str
    what: str
    command: str


CONSTANTS = {
    "float16": Constant(8328, "B", "features of an item on disk, float16, p = 4,128", "stored_features.py"),
    "int8": Constant(4218, "B", "the same, int8", "stored_features.py"),
    "item": Constant(2400, "B", "item with vector and index on disk, LanceDB, 256-d", "million.py --rows 1000000"),
    "memory": Constant(1800, "B", "item in the memory of a process that searches, 256-d", "million.py --rows 1000000"),
    "embed96": Constant(150, "/s", "images of 96 px decoded and embedded, a core", "stored_features.py"),
    "embed224": Constant(22, "/s", "images of 224 px decoded and embedded, a core", "stored_features.py"),
    "project": Constant(4300, "/s", "items re-projected from features, a core", "stored_features.py --items 60000"),
    "accumulate": Constant(1190, "/s", "feature vectors accumulated, p = 4,128, a core", "accumulation.py"),
    "index": Constant(50_000, "/s", "items indexed, 128-d, two cores, at 10⁶ items", "million.py --rows 1000000"),
}
PROBES = 5000
"""Probe images of a gate: a number that does not grow with the gallery."""


def rows() -> list[list[str]]:
    """Header and rows of the table of bytes and hours."""
    value = {name: constant.value for name, constant in CONSTANTS.items()}

    def hours(rate: float, items: int) -> str:
        return amount(items / rate / 3600)

    lines = {
        "items, vectors and index, 256-d": lambda n: size(n * value["item"]),
        "memory of a process that searches": lambda n: size(n * value["memory"]),
        "features, float16": lambda n: size(n * value["float16"]),
        "features, int8": lambda n: size(n * value["int8"]),
        f"machines with {DISK_TB:.0f} TB (items, int8 features)": lambda n: machines(
            n * (value["item"] + value["int8"])
        ),
        "embedding at 96 px, core hours": lambda n: hours(value["embed96"], n),
        "embedding at 224 px, core hours": lambda n: hours(value["embed224"], n),
        f"embedding at 224 px on 10 machines of {CORES} cores, hours": lambda n: hours(
            value["embed224"] * 10 * CORES, n
        ),
        "statistics of as many crops, core hours": lambda n: hours(value["accumulate"], n),
        "re-projection from features, core hours": lambda n: hours(value["project"], n),
        "index build, hours on two cores, at least": lambda n: hours(value["index"], n),
        f"gate of {PROBES:,} probe images at 224 px, core hours": lambda _: hours(value["embed224"], PROBES),
    }
    header = ["", *(f"{n:.0e}".replace("e+0", "e") for n in SIZES)]
    return [header, *([name, *(line(n) for n in SIZES)] for name, line in lines.items())]


def size(count: float) -> str:
    """Bytes for a reader, with two significant digits."""
    unit, factor = ("TB", 1e12) if count >= 1e12 else ("GB", 1e9)
    return f"{amount(count / factor)} {unit}"


def machines(count: float) -> str:
    return f"{-(-count // (DISK_TB * 1e12)):.0f}"


def amount(value: float) -> str:
    """A number with two significant digits, or whole from 100 on."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def tables() -> str:
    """Both tables in Markdown."""
    constants = [["constant", "value", "command: `python benchmarks/…`"]]
    constants += [[each.what, f"{each.value:,g} {each.unit}".strip(), each.command] for each in CONSTANTS.values()]
    return "\n\n".join(markdown(each) for each in (constants, rows()))


def markdown(table: list[list[str]]) -> str:
    header, *body = table
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *body))


if __name__ == "__main__":
    print(tables())
