"""Units: the conversions between integer ns or bytes inside and what people are shown.

Not measured is None inside and an en dash when shown, never 0.
"""

from __future__ import annotations

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
DASH = "–"  # not measured

_SI_PREFIXES = (
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
)


def ms_from_ns(value_ns: float | None) -> float | None:
    """Convert ns to ms; None stays None."""
    return None if value_ns is None else value_ns / NS_PER_MS


def s_from_ns(value_ns: float | None) -> float | None:
    """Convert ns to s; None stays None."""
    return None if value_ns is None else value_ns / NS_PER_S


def ns_from_ms(value_ms: float) -> int:
    """Convert ms to the nearest whole ns."""
    return round(value_ms * NS_PER_MS)


def ns_from_s(value_s: float) -> int:
    """Convert s to the nearest whole ns."""
    return round(value_s * NS_PER_S)


def format_number(value: float | None, digits: int = 3) -> str:
    """Show a number with so many significant digits, and never with an exponent: '12.3', '1230'."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    rounded = f"{value:.{digits - 1}e}"
    exponent = int(rounded.partition("e")[2])
    return f"{float(rounded):.{max(0, digits - 1 - exponent)}f}"


def format_si(value: float | None, unit: str, digits: int = 3) -> str:
    """Show a value with the SI prefix that leaves 1 to 999 before it: '12.3 GB/s', '450 µs'."""
    if value is None:
        return DASH
    shown = abs(float(f"{value:.{digits - 1}e}"))  # 999.96 at three digits is 1 k, not 1000
    if shown == 0:
        return f"0 {unit}"
    scale, prefix = next((pair for pair in _SI_PREFIXES if shown >= pair[0]), _SI_PREFIXES[-1])
    return f"{format_number(value / scale, digits)} {prefix}{unit}"


def format_bytes(size_bytes: float | None, digits: int = 3) -> str:
    """Show a size in decimal units, as bandwidths are: '4.92 MB'."""
    return format_si(size_bytes, "B", digits)


def format_ms(value_ms: float | None, digits: int = 3) -> str:
    """Show a time that is kept in ms: '12.3 ms', '450 µs', '2.1 s'."""
    return format_si(None if value_ms is None else value_ms / 1000, "s", digits)


def format_percent(value: float | None, digits: int = 1) -> str:
    """Show a percentage that is kept as 0..100: '87.5 %'."""
    return DASH if value is None else f"{value:.{digits}f} %"


def format_fraction(value: float | None, digits: int = 1) -> str:
    """Show a fraction that is kept as 0..1 in percent: 0.875 is '87.5 %'."""
    return format_percent(None if value is None else 100 * value, digits)


def format_duration(value_s: float | None) -> str:
    """Show a duration for people: '850 ms', '12 s', '3 min 05 s', '2 h 10 min'."""
    if value_s is None:
        return DASH
    if value_s < 0:
        return f"-{format_duration(-value_s)}"
    if value_s < 9.95:
        return f"{1000 * value_s:.0f} ms" if value_s < 0.9995 else f"{value_s:.1f} s"
    seconds = round(value_s)
    if seconds < 3600:
        minutes, rest = divmod(seconds, 60)
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    hours, minutes = divmod(round(value_s / 60), 60)
    return f"{hours} h {minutes:02d} min"
