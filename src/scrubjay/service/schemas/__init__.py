"""Bodies of requests and answers of the service, a file for each resource; importing them needs pydantic only.

The client and the page rely on them. Unknown keys of a request are refused by name. Times are ISO 8601 in UTC, shares
lie between 0 and 1, sizes of images are in pixels.
"""
