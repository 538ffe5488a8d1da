"""What the load tools share: their frame, the store and who asks, servers, the generators, tables. Standard library alone."""
