"""The store itself: durable, filtered vector search in one process. Knows no protocol."""
