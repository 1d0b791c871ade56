"""How does a gRPC message become an operation or a query, and an answer a message?"""
