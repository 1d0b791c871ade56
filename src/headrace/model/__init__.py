"""What passes between the layers: ids, vectors, paths, filters, operations, queries, errors."""
