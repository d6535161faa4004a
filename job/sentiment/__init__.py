"""A sentiment classifier for film reviews, trained across a Spark cluster."""

__version__ = "0.1.0"
