"""What does each route do? One module per group of routes, each with its `ROUTES`."""
