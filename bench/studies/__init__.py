"""Measurements of quality and of where the time goes, each a command of its own."""
