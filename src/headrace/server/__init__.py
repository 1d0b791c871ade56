"""How do Qdrant's protocols become operations and queries, and errors become answers?"""
