"""Sources of published data sets, each over a small tree in the published layout."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from scrubjay.config import Config
from scrubjay.data.sources import source
from scrubjay.data.sources.cars196 import Cars196
from scrubjay.data.sources.huggingface import HuggingFace
from scrubjay.data.sources.inaturalist import INaturalist
from scrubjay.data.sources.inshop import InShop
from scrubjay.data.sources.stanford_online_products import StanfordOnlineProducts
from scrubjay.data.sources.webdataset import WebDataset
from scrubjay.errors import DataError
from scrubjay.types import Dataset


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def image_file(path: Path, colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (colour, 0, 0)).save(path)
    return path


def shown(dataset: Dataset) -> list[tuple[str, str, str]]:
    assert all(sample.path.is_file() for sample in dataset.samples)
    return [(sample.path.name, dataset.classes[sample.label], sample.split) for sample in dataset.samples]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cars196", Cars196),
        ("huggingface", HuggingFace),
        ("inaturalist", INaturalist),
        ("inshop", InShop),
        ("stanford_online_products", StanfordOnlineProducts),
        ("webdataset", WebDataset),
    ],
)
def test_found_by_name(name: str, kind: type[Config]) -> None:
    assert source(name) is kind


# Cars196


def annotations(rows: list[dict[str, object]]) -> np.ndarray:
    """As published: a struct array whose fields are arrays of one value."""
    table = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for index, row in enumerate(rows):
        for name, value in row.items():
            table[name][0, index] = np.array([value]) if isinstance(value, str) else np.array([[value]])
    return table


def names(*values: str) -> np.ndarray:
    cells = np.empty((1, len(values)), dtype=object)
    cells[0, :] = values
    return cells


def box(left: int) -> dict[str, object]:
    return {"bbox_x1": left, "bbox_y1": 1, "bbox_x2": left + 5, "bbox_y2": 5}


@pytest.fixture
def one_file(tmp_path: Path) -> Path:
    root = tmp_path / "cars"
    rows: list[dict[str, object]] = [
        {"relative_im_path": f"car_ims/00000{i}.jpg", **box(i), "class": number, "test": test}
        for i, (number, test) in enumerate([(2, 0), (1, 1)], start=1)
    ]
    for row in rows:
        image_file(root / str(row["relative_im_path"]))
    savemat(root / "cars_annos.mat", {"annotations": annotations(rows), "class_names": names("Audi A5", "BMW M3")})
    return root


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    root = tmp_path / "cars"
    (root / "devkit").mkdir(parents=True)
    for split, list_name, number in (("train", "cars_train_annos", 2), ("test", "cars_test_annos_withlabels", 1)):
        image_file(root / f"cars_{split}" / "00001.jpg")
        rows: list[dict[str, object]] = [{**box(1), "class": number, "fname": "00001.jpg"}]
        savemat(root / "devkit" / f"{list_name}.mat", {"annotations": annotations(rows)})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names("Audi A5", "BMW M3")})
    return root


def test_cars_in_one_file(one_file: Path) -> None:
    dataset = Cars196(root=one_file.parent).load()
    assert dataset.classes == ("Audi A5", "BMW M3")
    assert shown(dataset) == [("000001.jpg", "BMW M3", "train"), ("000002.jpg", "Audi A5", "test")]
    assert [sample.box for sample in Cars196(root=one_file, crop=True).load().samples] == [(1, 1, 6, 5), (2, 1, 7, 5)]


@pytest.mark.parametrize("beside", [False, True])
def test_cars_with_their_devkit(devkit: Path, beside: bool) -> None:
    if beside:
        labelled = "cars_test_annos_withlabels.mat"
        (devkit / "devkit" / labelled).rename(devkit / labelled)
    dataset = Cars196(root=devkit).load()
    assert shown(dataset) == [("00001.jpg", "BMW M3", "train"), ("00001.jpg", "Audi A5", "test")]
    assert {sample.path.parent.name for sample in dataset.samples} == {"cars_train", "cars_test"}


def test_cars_that_are_not_as_published(one_file: Path, devkit: Path) -> None:
    savemat(one_file / "cars_annos.mat", {"annotations": annotations([box(1)]), "class_names": names("Audi A5")})
    with pytest.raises(DataError, match="annotation 1: a field is missing or not a number"):
        Cars196(root=one_file).load()
    rows: list[dict[str, object]] = [{"relative_im_path": "../x.jpg", **box(1), "class": 1, "test": 0}]
    savemat(one_file / "cars_annos.mat", {"annotations": annotations(rows), "class_names": names("Audi A5")})
    with pytest.raises(DataError, match="leads out of"):
        Cars196(root=one_file).load()
    rows = [{"relative_im_path": "x.jpg", **box(1), "class": 7, "test": 0}]
    savemat(one_file / "cars_annos.mat", {"annotations": annotations(rows), "class_names": names("Audi A5")})
    with pytest.raises(DataError, match=r"x\.jpg has class 7 of 1; restore"):
        Cars196(root=one_file).load()
    (one_file / "cars_annos.mat").write_bytes(b"damaged")
    with pytest.raises(DataError, match="annotations and class_names cannot be read"):
        Cars196(root=one_file).load()
    (one_file / "cars_annos.mat").unlink()
    (devkit / "devkit" / "cars_meta.mat").unlink()
    with pytest.raises(DataError, match=r"cars_meta\.mat: no such file"):
        Cars196(root=devkit).load()
    with pytest.raises(DataError, match=r"does not contain devkit; give the folder of Cars196"):
        Cars196(root=devkit / "cars_train").load()


# Stanford Online Products, In-shop Clothes Retrieval


@pytest.fixture
def products(tmp_path: Path) -> Path:
    root = tmp_path / "Stanford_Online_Products"
    for number, split in ((1, "train"), (2, "test")):
        listed = ["image_id class_id super_class_id path"]
        for image in range(10):
            file = f"{'bicycle' if number == 1 else 'sofa'}_final/{number}_{image}.JPG"
            image_file(root / file)
            listed.append(f"{image + 1} {number} {number} {file}")
        (root / f"Ebay_{split}.txt").write_text("\n".join(listed))
    return root


def test_products_are_divided_by_image_or_by_class(products: Path) -> None:
    dataset = StanfordOnlineProducts(root=products.parent).load()
    assert dataset.classes == ("1", "2")
    by_class = [[split for _, name, split in shown(dataset) if name == each] for each in dataset.classes]
    assert all(set(splits) == {"train", "test"} and len(splits) == 10 for splits in by_class)
    assert StanfordOnlineProducts(root=products).load() == dataset
    published = StanfordOnlineProducts(root=products, split="classes").load()
    assert {(name, split) for _, name, split in shown(published)} == {("1", "train"), ("2", "test")}
    assert StanfordOnlineProducts(root=products, super_class="sofa").load().classes == ("2",)


def test_products_that_are_not_as_published(products: Path) -> None:
    with pytest.raises(DataError, match="no product of the super class 'lamp'; there are: bicycle, sofa"):
        StanfordOnlineProducts(root=products, super_class="lamp").load()
    (products / "Ebay_test.txt").write_text("image_id class_id super_class_id path\n1 2 3\n")
    with pytest.raises(DataError, match=r"Ebay_test\.txt, line 2: expected"):
        StanfordOnlineProducts(root=products).load()
    (products / "Ebay_test.txt").unlink()
    with pytest.raises(DataError, match=r"Ebay_test\.txt: no such file"):
        StanfordOnlineProducts(root=products).load()


@pytest.fixture(params=[True, False], ids=["in Eval", "beside img"])
def clothes(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / "inshop"
    rows = [
        (f"img/WOMEN/id_{item}/{image}.jpg", f"id_{item}", status)
        for item, statuses in enumerate([["train"] * 8, ["query", "gallery"] * 4])
        for image, status in enumerate(statuses)
    ]
    for file, _, _ in rows:
        image_file(root / file)
    listed = root / "Eval" if request.param else root
    listed.mkdir(exist_ok=True)
    lines = [f"{len(rows)}", "image_name item_id evaluation_status", *("   ".join(row) for row in rows)]
    (listed / "list_eval_partition.txt").write_text("\n".join(lines))
    return root


def test_clothes_keep_their_queries_and_gallery_or_are_divided_by_image(clothes: Path) -> None:
    dataset = InShop(root=clothes).load()
    assert dataset.classes == ("id_0", "id_1")
    for name in dataset.classes:
        assert {split for _, each, split in shown(dataset) if each == name} == {"train", "test"}
    published = InShop(root=clothes, split="classes").load().samples
    assert {(s.label, s.split, s.query, s.gallery) for s in published} == {
        (0, "train", True, True),
        (1, "test", True, False),
        (1, "test", False, True),
    }


def test_clothes_that_are_not_as_published(clothes: Path) -> None:
    (path,) = clothes.glob("**/list_eval_partition.txt")
    path.write_text("1\nimage_name item_id evaluation_status\nimg/a.jpg id_1 other\n")
    with pytest.raises(DataError, match=r"line 3: expected .* train, query or gallery"):
        InShop(root=clothes).load()
    path.write_text("0\nimage_name item_id evaluation_status\n")
    with pytest.raises(DataError, match="lists no image"):
        InShop(root=clothes).load()


# iNaturalist


@pytest.fixture
def species(tmp_path: Path) -> Path:
    root = tmp_path / "inat"
    categories = [
        {"id": 7, "name": "Pica pica", "supercategory": "Aves"},
        {"id": 3, "name": "Ursus arctos", "supercategory": "Mammalia"},
        {"id": 9, "name": "never photographed", "supercategory": "Aves"},
    ]
    for split, images in (("train", [(1, 7), (2, 3)]), ("val", [(1, 3)])):
        content = {
            "images": [{"id": i, "file_name": f"{split}/{i}.jpg", "width": 8} for i, _ in images],
            "annotations": [{"id": i, "image_id": i, "category_id": c} for i, c in images],
            "categories": categories,
        }
        for i, _ in images:
            image_file(root / split / f"{i}.jpg")
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def test_species_by_their_annotations(species: Path) -> None:
    dataset = INaturalist(root=species).load()
    assert dataset.classes == ("Pica pica", "Ursus arctos")
    assert shown(dataset) == [
        ("1.jpg", "Pica pica", "train"),
        ("2.jpg", "Ursus arctos", "train"),
        ("1.jpg", "Ursus arctos", "test"),
    ]
    assert INaturalist(root=species, only="Aves").load().classes == ("Pica pica",)
    assert len(INaturalist(root=species, test=None).load().samples) == 2


def test_two_categories_of_one_name_are_two_classes(species: Path) -> None:
    content = json.loads((species / "train.json").read_text())
    content["categories"][1]["name"] = "Pica pica"
    for split in ("train", "val"):
        old = json.loads((species / f"{split}.json").read_text())
        (species / f"{split}.json").write_text(json.dumps(old | {"categories": content["categories"]}))
    assert INaturalist(root=species).load().classes == ("Pica pica (7)", "Pica pica (3)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no list 'categories'"),
        ('{"categories": [{"id": 1}]}', r"categories\[0\] has no 'name'"),
        ('{"categories": [{"id": 1, "name": "a"}]}', "no list 'annotations'"),
    ],
)
def test_annotations_that_cannot_be_used(species: Path, text: str, message: str) -> None:
    (species / "train.json").write_text(text)
    with pytest.raises(DataError, match=message):
        INaturalist(root=species).load()


def test_annotations_that_are_missing(species: Path) -> None:
    with pytest.raises(DataError, match="no category with 'Plantae'"):
        INaturalist(root=species, only="Plantae").load()
    (species / "val.json").unlink()
    with pytest.raises(DataError, match=r"val\.json: no such file; give the annotations"):
        INaturalist(root=species).load()


# WebDataset


def shard(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def jpeg(tmp_path: Path) -> bytes:
    return image_file(tmp_path / "one.jpg").read_bytes()


def test_shards_with_labels_as_files_or_in_json(tmp_path: Path, jpeg: bytes) -> None:
    for number in range(2):
        files = {f"a/{number}.jpg": jpeg, f"a/{number}.cls": b"10\n", f"a/{number}.json": b'{"name": "wren"}'}
        shard(tmp_path / f"train-{number:03d}.tar", {**files, f"{number}x.jpg": jpeg, f"{number}x.cls": b"9"})
    shard(tmp_path / "test.tar", {"t.png": jpeg, "t.cls": b"9"})
    dataset = WebDataset(train=str(tmp_path / "train-{000..001}.tar"), test=str(tmp_path / "test.tar")).load()
    assert dataset.classes == ("9", "10")
    assert set(shown(dataset)) == {
        ("0.jpg", "10", "train"),
        ("0x.jpg", "9", "train"),
        ("1.jpg", "10", "train"),
        ("1x.jpg", "9", "train"),
        ("t.png", "9", "test"),
    }
    assert len(WebDataset(train=str(tmp_path / "train-*.tar")).load().samples) == 4
    shard(tmp_path / "named.tar", {"0.jpg": jpeg, "0.json": b'{"name": "wren"}'})
    assert WebDataset(train=str(tmp_path / "named.tar"), label="json.name").load().classes == ("wren",)


def test_shards_that_cannot_be_used(tmp_path: Path, jpeg: bytes) -> None:
    with pytest.raises(DataError, match=r"002\.tar: no such shard"):
        WebDataset(train=str(tmp_path / "{002..003}.tar")).load()
    path = str(shard(tmp_path / "a.tar", {"0.jpg": jpeg}))
    with pytest.raises(DataError, match=r"0 has no file \.cls with its label"):
        WebDataset(train=path).load()
    path = str(shard(tmp_path / "b.tar", {"0.cls": b"1"}))
    with pytest.raises(DataError, match="no image in it"):
        WebDataset(train=path).load()
    path = str(shard(tmp_path / "c.tar", {"0.jpg": jpeg, "0.json": b"{}"}))
    with pytest.raises(DataError, match="its label cannot be read"):
        WebDataset(train=path, label="json.name").load()
    path = str(shard(tmp_path / "d.tar", {"0.jpg": jpeg, "0.cls": b" "}))
    with pytest.raises(DataError, match="its label is empty"):
        WebDataset(train=path).load()
    (tmp_path / "e.tar").write_bytes(b"damaged" * 100)
    with pytest.raises(DataError, match="neither a folder nor"):
        WebDataset(train=str(tmp_path / "e.tar")).load()


# Hugging Face


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    root = tmp_path / "hub"
    for split in ("train", "test"):
        for index, name in enumerate(("ash", "oak")):
            image_file(root / split / name / f"{index}.png", 40 * index)
    return root


def test_a_data_set_of_the_library(hub: Path) -> None:
    dataset = HuggingFace(name=str(hub)).load()
    assert dataset.classes == ("ash", "oak")
    assert shown(dataset) == [
        ("00000000.png", "ash", "train"),
        ("00000001.png", "oak", "train"),
        ("00000000.png", "ash", "test"),
        ("00000001.png", "oak", "test"),
    ]
    assert dataset.samples[1].path.read_bytes() == (hub / "train" / "oak" / "1.png").read_bytes()
    assert HuggingFace(name=str(hub)).load() == dataset
    assert len(HuggingFace(name=str(hub), test=None).load().samples) == 2


def test_labels_may_be_text(hub: Path, tmp_path: Path) -> None:
    features = datasets.Features({"photo": datasets.Image(), "species": datasets.Value("string")})
    path = str(hub / "train" / "oak" / "1.png")
    table = datasets.Dataset.from_dict({"photo": [path, path], "species": ["oak", "elm"]}, features=features)
    (tmp_path / "table").mkdir()
    table.to_parquet(tmp_path / "table" / "train.parquet")
    found = HuggingFace(name=str(tmp_path / "table"), test=None, image="photo", label="species").load()
    assert found.classes == ("elm", "oak")
    assert [name for _, name, _ in shown(found)] == ["oak", "elm"]


def test_data_sets_that_cannot_be_used(hub: Path) -> None:
    with pytest.raises(DataError, match="no column 'photo'; set image to one of: image, label"):
        HuggingFace(name=str(hub), image="photo").load()
    with pytest.raises(DataError, match="column 'label' does not hold images"):
        HuggingFace(name=str(hub), image="label").load()
    with pytest.raises(DataError, match=r"split dev: cannot be loaded .*check name and splits"):
        HuggingFace(name=str(hub), train="dev").load()
    with pytest.raises(DataError, match="no/such-data-set, split train: cannot be loaded"):
        HuggingFace(name="no/such-data-set").load()
