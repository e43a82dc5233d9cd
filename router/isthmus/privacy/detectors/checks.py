"""Checksums that more than one kind of number uses."""

from __future__ import annotations


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn checksum of the others (ISO/IEC 7812-1, annex B)."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, digits[-1::-2])) + sum(map(int, doubled))) % 10 == 0


_DOUBLED = str.maketrans("0123456789", "0246813579")
"""The sum of the digits of each digit's double."""


def verhoeff(digits: str) -> bool:
    """Whether the last digit is the Verhoeff checksum of the others (J. Verhoeff, 1969)."""
    check = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        permuted = digit
        for _ in range(place % 8):
            permuted = _PERMUTED[permuted]
        check = _dihedral(check, permuted)
    return check == 0


_PERMUTED = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _dihedral(a: int, b: int) -> int:
    """The product of two elements of the dihedral group of order ten."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5
