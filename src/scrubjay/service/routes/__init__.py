"""The routes of the API, one module for each resource: each has a `router`, and all are found by their place here."""
