"""Picojoule."""
