from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from scrubjay.cli import demo


def test_the_demo_runs_and_repeats_nothing_when_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        demo,
        "RECIPE",
        {
            "name": "demo",
            "source": {
                "name": "aviary",
                "root": str(tmp_path / "birds"),
                "species": 5,
                "train": 4,
                "test": 2,
                "size": 48,
            },
            "stream": {"initial": 3, "step": 1},
            "images": {"size": 32, "resize": 36},
            "network": {"backbone": "test_resnet", "pretrained": False, "dim": 8},
            "training": {"epochs": 1, "device": "cpu"},
        },
    )
    printed = []
    for _ in range(2):
        page = io.StringIO()
        demo.run_demo(tmp_path / "out", Console(file=page, width=120), nullcontext)
        printed.append(page.getvalue())
    first, again = printed
    for row in ("backbone, no training", "finetune", "mmd", "slda", "joint", "new queries", "recall@1", "mAP@R"):
        assert row in first
    assert "The gallery holds 20 images." in first
    commands = [line for line in first.splitlines() if line.strip().startswith(".venv/bin/scrubjay ")]
    assert len(commands) == 3
    figures = [line for line in first.splitlines() if "→" in line]
    assert figures
    assert all(line in again for line in figures)
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert report.count("data:image/jpeg") > 20
    assert "before" in report
