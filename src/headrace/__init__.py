"""Headrace: Kafka records stream in, points with vectors and payloads are searchable.

The package is both an engine for the user's own process and a server that any
Qdrant client takes for Qdrant. ARCHITECTURE.md maps its folders.
"""

__version__ = "0.1.0"
