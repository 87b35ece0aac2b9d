from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def paint(path: Path, hue: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 90, (80, 80, 3))
    noise[..., hue % 3] += 40 * (1 + hue)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for season, names in {"spring": ["apple", "pear", "plum"], "summer": ["fig", "lime"]}.items():
        for hue, name in enumerate(names):
            for number in range(4):
                paint(tmp_path / "photos" / season / name / f"{number}.png", hue, 10 * hue + number)
    paint(tmp_path / "query.jpg", 1, 99)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(example.strip().splitlines()) <= 20
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "12 items, 0 broken images"
    assert len(printed) == 4
    assert all(line.endswith("(g1)") for line in printed[1:])


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_every_file_of_the_map_exists() -> None:
    source = Path(__file__).parents[1] / "src" / "scrubjay"
    table = README.partition("## Where things are")[2]
    named = re.findall(r"`([a-z_/]+(?:\.py|/))`", table)
    assert len(named) > 10
    for name in named:
        assert (source / name).exists() or (source.parents[1] / name).exists(), name


def test_every_recipe_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scrubjay.config import read_toml
    from scrubjay.experiments.run import ExperimentOptions

    recipes = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        ExperimentOptions.parse({"name": recipe.stem, **read_toml(recipe)}, str(recipe))


@pytest.mark.parametrize(
    "name",
    [
        "grocery",
        "aviary",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("grocery_convnext_224", "grocery_siglip_224")),
    ],
)
def test_the_network_of_a_recipe_can_be_made_without_its_weights(name: str) -> None:
    from scrubjay.experiments.options import ExperimentOptions, make_method
    from scrubjay.experiments.recipe import own_entry, read, resolve

    recipe = Path(__file__).parents[1] / "recipes" / f"{name}.toml"
    values = read(recipe, ["network.pretrained=false"])
    options = ExperimentOptions.parse(resolve(values, own_entry(values, [])), str(recipe))
    embedder = make_method(options).network.embedder.eval()
    with torch.no_grad():
        z = embedder(torch.zeros(1, 3, options.images.size, options.images.size))
    assert z.shape == (1, options.network.dim)
