"""Lamplighter: routine IT operations in co-managed IT, with governance kept inside."""

__version__ = "0.1.0"
