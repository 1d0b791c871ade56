"""Where do the routes of one collection begin?"""

from __future__ import annotations

from headrace.server.rest.endpoint import JsonRoute

__all__ = ["COLLECTION", "JsonRoute"]

COLLECTION = "/collections/{collection_name}"
