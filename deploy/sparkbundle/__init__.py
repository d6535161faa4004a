"""Sparkbundle: bare hosts to a working, locked-down Spark cluster."""

__version__ = "0.1.0"
