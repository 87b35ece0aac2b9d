"""Examples of bodies, for the documentation of the API; a test holds that each fits its schema."""

from __future__ import annotations

from typing import Any

_ITEM = "9b2d6a0f4c1e8d7735e0c94f21ab6d58"
_OTHER = "41f7c0d2b8a35e96d0217c4be98f6a13"
_IMAGE = {"item": _ITEM}
_HIT = {
    "id": _ITEM,
    "label": "Granny Smith",
    "score": 0.913,
    "match": 0.97,
    "generation": "g2",
    "metadata": {"shelf": 4},
    "uri": None,
}
_ANSWER = {
    "hits": [_HIT],
    "generation": "g2",
    "matched": True,
    "match_score": 3.1,
    "threshold": 1.4,
    "match_basis": "left-out classes",
    "meaning": "about 5% of images of classes never learned are taken for a match, if these are like learned classes "
    "that are left out; not claimed for close relatives of learned classes",
    "unembedded": 0,
    "query": _OTHER,
}
_MAP = {"values": [[0.2, 0.1], [0.3, 0.1]], "contrast": [[0.0, 0.1], [0.0, 0.0]], "remainder": 0.2, "crop": "data:…"}
_JOB = {
    "id": "20260301-101500-3fa9",
    "kind": "learn",
    "state": "running",
    "created": "2026-03-01T10:15:00+00:00",
    "started": "2026-03-01T10:15:01+00:00",
    "ended": None,
    "step": "compute features of 240 images",
    "done": 96,
    "total": 240,
    "result": None,
    "problem": None,
}

EXAMPLES: dict[str, Any] = {
    "Problem": {
        "type": "/problems/image-refused",
        "title": "The image cannot be used",
        "status": 422,
        "detail": "images.0: it is not an image; save it again as JPEG or PNG.",
        "instance": "/v1/search",
        "request_id": "5f0c2b7de1a94c38",
        "errors": [],
    },
    "SearchRequest": {"images": [_IMAGE], "k": 5, "labels": [], "where": {}},
    "SearchAnswer": {"answers": [_ANSWER]},
    "CompareRequest": {"image": _IMAGE, "before": "g1", "after": "g2", "k": 5},
    "CompareAnswer": {
        "before": {**_ANSWER, "hits": [], "generation": "g1"},
        "after": _ANSWER,
        "moves": [{"id": _ITEM, "before": None, "after": 1}],
    },
    "ExplainRequest": {"image": {"item": _OTHER}, "item": _ITEM},
    "ExplainAnswer": {"score": 0.9, "query": _MAP, "item": _MAP},
    "ItemPage": {"items": [{"id": _ITEM, "label": "Granny Smith", "metadata": {"shelf": 4}}], "cursor": None},
    "ItemChange": {"label": "Granny Smith", "metadata": {"shelf": 5}},
    "ItemIds": {"ids": [_ITEM, _OTHER]},
    "ClassName": {"name": "Granny Smith"},
    "ClassTarget": {"into": "Granny Smith"},
    "ClassChange": {"name": "Granny Smith", "items": 41},
    "Taught": {
        "name": "Granny Smith",
        "generation": "g3",
        "images": 5,
        "refused": [],
        "serving": True,
        "gate": [],
        "seconds": 2.4,
    },
    "PromoteRequest": {"revision": 3},
    "RollbackRequest": {"revision": 4},
    "ServingRecord": {"serving": "g2", "revision": 4},
    "JobRequest": {"kind": "learn", "upload": "20260301-101400-8c21"},
    "JobRecord": _JOB,
    "JobList": {"jobs": [_JOB]},
    "CatalogueRecord": {
        "name": "shop",
        "items": 2048,
        "unembedded": 0,
        "classes": 81,
        "serving": "g2",
        "revision": 4,
        "scopes": ["read"],
        "keys_required": True,
        "teaches": True,
        "explains": True,
        "false_match_rate": 0.05,
        "version": "0.1.0",
    },
}
"""An example of a body by the name of its schema."""
