"""How does a REST request become an operation or a query, and an answer JSON?"""
