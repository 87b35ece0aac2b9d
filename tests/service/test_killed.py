"""Services that are killed in the middle of what they do: what was acknowledged is there after the restart."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from running import Running, served

from scrubjay.catalogue import Catalogue
from scrubjay.service.job_records import FINISHED
from shops import copied, metric_shop
from tiny import paint
from waiting import until

pytestmark = pytest.mark.slow
ROUNDS = 3


def killed_while(running: Running, work: Callable[[httpx.Client], None], seconds: float) -> None:
    """Work over HTTP, from the first answer on for some seconds; then the service is killed."""
    begun = threading.Event()

    def go() -> None:
        with running.client() as client, suppress(httpx.TransportError):
            client.get("/v1/status")
            begun.set()
            work(client)

    thread = threading.Thread(target=go)
    thread.start()
    begun.wait()
    thread.join(seconds)
    running.process.kill()
    running.process.wait()
    thread.join()


def images(root: Path, hue: int, number: int, first: int) -> list[tuple[str, tuple[str, bytes]]]:
    paths = [paint(root / "sent" / f"{hue}-{seed}.png", hue, seed) for seed in range(first, first + number)]
    return [("images", (path.name, path.read_bytes())) for path in paths]


def sound(folder: Path) -> Catalogue:
    shop = Catalogue(folder)
    findings = [each for each in shop.upkeep.examine() if each.kind == "error" and "no vector" not in each.what]
    assert not findings
    return shop


def test_classes_that_were_taught_stay_taught(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    rng = random.Random(0)
    taught: dict[str, bytes] = {}
    for number in range(ROUNDS):

        def teach(client: httpx.Client, first: int = 1000 * (number + 1)) -> None:
            for position in range(50):
                name, sent = f"class {first + position}", images(tmp_path, 6, 1, first + position)
                answer = client.post(f"/v1/classes/{name}/images", files=sent)
                assert answer.status_code == 201, answer.text
                if answer.json()["serving"]:
                    taught[name] = sent[0][1][1]

        with served(tmp_path / "shop") as running:
            killed_while(running, teach, rng.uniform(1, 8))
        sound(shop.folder)
    assert taught
    with served(tmp_path / "shop") as running, running.client() as client:
        for name, image in taught.items():
            answer = client.post("/v1/search/upload", files=[("images", ("query.png", image))])
            assert answer.json()["answers"][0]["hits"][0]["label"] == name
        assert client.post("/v1/classes/last/images", files=images(tmp_path, 6, 1, 9000)).status_code == 201
        learned = {name for each in client.get("/v1/generations").json()["generations"] for name in each["new_classes"]}
        assert taught.keys() <= learned
    assert taught.keys() <= set(sound(shop.folder).workspace.serving_generation().classes)


def test_items_whose_addition_was_acknowledged_are_found(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    rng = random.Random(3)
    added: dict[str, bytes] = {}
    for number in range(ROUNDS):

        def add(client: httpx.Client, first: int = 1000 * (number + 1)) -> None:
            for position in range(0, 300, 3):
                sent = images(tmp_path, 2, 3, first + position)
                answer = client.post("/v1/items", files=sent, data={"label": f"batch {first + position}"})
                assert answer.status_code == 201, answer.text
                ids = [item["id"] for item in answer.json()["added"]]
                added.update(zip(ids, (content for _, (_, content) in sent), strict=True))

        with served(tmp_path / "shop") as running:
            killed_while(running, add, rng.uniform(0.5, 3))
        sound(shop.folder)
    assert added
    with served(tmp_path / "shop") as running, running.client() as client:
        for name, content in added.items():
            answer = client.post("/v1/search/upload", files=[("images", ("query.png", content))])
            assert answer.json()["answers"][0]["hits"][0]["id"] == name
            assert client.get(f"/v1/items/{name}/image").status_code == 200


def test_a_job_that_was_accepted_is_done_after_restarts(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    rng, jobs = random.Random(1), []

    def learn(client: httpx.Client) -> None:
        if not jobs:
            sent = [
                ("images", (f"{name}/{each[1][0]}", each[1][1]))
                for hue, name in ((5, "lemon"), (6, "lime"))
                for each in images(tmp_path, hue, 5, 500)
            ]
            upload = client.post("/v1/uploads", files=sent).json()["upload"]
            answer = client.post("/v1/jobs", json={"kind": "learn", "upload": upload})
            assert answer.status_code == 202
            jobs.append(answer.json()["id"])
        until(lambda: client.get(f"/v1/jobs/{jobs[0]}").json()["state"] in FINISHED)

    for _ in range(ROUNDS):
        with served(tmp_path / "shop") as running:
            killed_while(running, learn, rng.uniform(2, 10))
        sound(shop.folder)
    with served(tmp_path / "shop") as running, running.client() as client:
        until(lambda: client.get(f"/v1/jobs/{jobs[0]}").json()["state"] in FINISHED)
        job = client.get(f"/v1/jobs/{jobs[0]}").json()
    assert (job["state"], job["result"]["added"]) == ("done", 10), job["problem"]
    left = sound(shop.folder)
    assert left.lineage.get("g2").classes[-2:] == ("lemon", "lime")
    assert len(left.lineage.generations()) == 3, "it was learned once"


def test_what_was_promoted_or_rolled_back_answers(tmp_path: Path) -> None:
    shop = copied(tmp_path)
    rng = random.Random(2)
    for _ in range(ROUNDS):
        told: list[str] = [shop.serving.read().generation or ""]
        asked: list[str] = [told[0]]

        def change(client: httpx.Client, told: list[str] = told, asked: list[str] = asked) -> None:
            while True:
                revision = client.get("/v1/generations").json()["revision"]
                name = {"g0": "g1", "g1": "g2", "g2": "g0"}[told[-1]]
                asked.append(name)
                way = "rollback" if name == "g0" else f"generations/{name}/promote"
                body = {"revision": revision, **({"generation": "g0"} if name == "g0" else {})}
                answer = client.post(f"/v1/{way}", json=body)
                assert answer.status_code == 200, answer.text
                told.append(answer.json()["serving"])

        with served(tmp_path / "shop") as running:
            killed_while(running, change, rng.uniform(0.5, 5))
        assert shop.serving.read().generation in (told[-1], asked[-1])
        with served(tmp_path / "shop") as running, running.client() as client:
            answer = client.get("/v1/status").json()
        assert answer["serving"] == shop.serving.read().generation
        sound(shop.folder)


def test_a_promotion_takes_effect_in_all_workers_and_only_one_of_two_wins(tmp_path: Path) -> None:
    copied(tmp_path)
    with served(tmp_path / "shop", "--workers", "2") as running:
        answers: dict[str, httpx.Response] = {}

        def promote(name: str) -> None:
            with running.client() as client:
                answers[name] = client.post(f"/v1/generations/{name}/promote", json={"revision": 1})

        threads = [threading.Thread(target=promote, args=(name,)) for name in ("g1", "g2")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(answer.status_code for answer in answers.values()) == [200, 409]
        (loser,) = [answer for answer in answers.values() if answer.status_code == 409]
        winner = next(name for name, answer in answers.items() if answer.status_code == 200)
        assert loser.json()["type"] == "/problems/serving-changed"
        assert f"{winner} answers now" in loser.json()["detail"]
        for _ in range(20):  # each on a connection of its own, so that both processes are asked
            assert httpx.get(f"{running.url}/v1/status").json()["serving"] == winner
