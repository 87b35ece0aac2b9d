"""The check of an upload before anything is learned from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scrubjay.catalogue import Catalogue
from scrubjay.io.atomic import write_file
from scrubjay.service.schemas import CheckAnswer, CheckFinding
from scrubjay.service.uploads import Upload


def checked_upload(catalogue: Catalogue, upload: Upload, left_out: Sequence[CheckFinding]) -> CheckAnswer:
    """Check an upload, and keep what was found beside it."""
    counts = Counter(name.split("/")[0] for name in upload.files())
    serving = catalogue.serving.read().generation
    known = set() if serving is None else set(catalogue.lineage.get(serving).classes)
    answer = CheckAnswer(
        upload=upload.id,
        images=sum(counts.values()),
        classes=dict(sorted(counts.items())),
        new_classes=sorted(counts.keys() - known),
        known_classes=sorted(counts.keys() & known),
        findings=list(left_out),
    )
    write_file(upload.folder / "check.json", answer.model_dump_json(indent=1).encode())
    return answer
