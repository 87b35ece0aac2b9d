from __future__ import annotations

import asyncio
import io
import json
import re
import socket
from collections.abc import Callable
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from scripted import Asked, Reply, Scripted, server

from scrubjay import AsyncClient, Client, ServiceError, ServiceProblem
from scrubjay.errors import ConfigError, DataError
from scrubjay.service.schemas.jobs import JobRecord
from scrubjay.service.schemas.search import QueryImage, SearchAnswer

ANSWER = {
    "hits": [{"id": "1", "label": "fig", "score": 0.5, "match": None, "generation": "g0", "metadata": {"shelf": 3}}],
    "generation": "g0",
    "matched": True,
    "match_score": 0.7,
    "threshold": 0.6,
    "match_basis": "classes",
    "meaning": "it means this",
    "unembedded": 0,
    "query": "abc",
}
SEARCHED = Reply({"answers": [ANSWER]})
NONE = Reply({"items": [], "cursor": None})


def problem(status: int, **headers: str) -> Reply:
    body = {
        "type": "/problems/busy",
        "title": "The service is busy",
        "status": status,
        "detail": "Too many queries wait.",
        "instance": "/v1/search",
        "request_id": "r1",
        "errors": [{"field": "body.k", "message": "too large"}],
    }
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def form(asked: Asked) -> list[tuple[str, str | None, bytes]]:
    """The parts of a multipart body: field, file name, content."""
    head = f"Content-Type: {asked.headers['Content-Type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + asked.body)
    parts: Any = message.get_payload()
    return [
        (part.get_param("name", header="content-disposition"), part.get_filename(), part.get_payload(decode=True))
        for part in parts
    ]


def test_files_contents_and_open_files_are_sent_as_one_form(tmp_path: Path) -> None:
    path = tmp_path / "fig.jpg"
    path.write_bytes(b"from a path")
    with server(SEARCHED) as script, Client(script.url) as client, path.open("rb") as opened:
        found = client.search([path, b"bytes", io.BytesIO(b"file"), opened], k=3, labels=["fig"], where={"shelf": 3})
    assert isinstance(found, SearchAnswer)
    assert found.answers[0].hits[0].metadata == {"shelf": 3}
    (asked,) = script.asked
    assert (asked.method, asked.path) == ("POST", "/v1/search/upload")
    *images, (field, name, settings) = form(asked)
    assert images == [
        ("images", "fig.jpg", b"from a path"),
        ("images", "image-1", b"bytes"),
        ("images", "image-2", b"file"),
        ("images", "fig.jpg", b"from a path"),
    ]
    assert (field, name) == ("settings", None)
    assert json.loads(settings) == {
        "k": 3,
        "labels": ["fig"],
        "where": {"shelf": 3},
        "combine": False,
        "generation": None,
    }


def test_a_crop_is_sent_with_one_file() -> None:
    with server(SEARCHED) as script, Client(script.url) as client:
        client.search(b"content", crop=(1, 2, 30, 40))
    assert [content for field, _, content in form(script.asked[0]) if field == "crop"] == [b"[1,2,30,40]"]


def test_items_and_files_are_searched_with_in_json() -> None:
    with server(SEARCHED) as script, Client(script.url) as client:
        client.search([QueryImage(item="7", crop=(0, 0, 5, 5)), b"\xff"], combine=True)
    body = json.loads(script.asked[0].body)
    assert script.asked[0].path == "/v1/search"
    assert body["combine"] is True
    assert body["images"][0]["item"] == "7"
    assert body["images"][0]["crop"] == [0, 0, 5, 5]
    assert body["images"][1]["base64"] == "/w=="


def test_a_name_in_a_path_is_one_segment() -> None:
    with server(Reply({"name": "b", "items": 2})) as script, Client(script.url) as client:
        assert client.rename_class("../a/ü?#", "b").items == 2
    assert script.asked[0].path == "/v1/classes/%2E%2E%2Fa%2F%C3%BC%3F%23"
    assert json.loads(script.asked[0].body) == {"name": "b"}


def test_what_is_not_changed_is_not_sent() -> None:
    item = {"id": "1", "label": "fig", "metadata": {}}
    with server(Reply(item)) as script, Client(script.url) as client:
        client.change_item("1", metadata={})
        client.change_item("1", label="fig")
    assert [json.loads(asked.body) for asked in script.asked] == [{"metadata": {}}, {"label": "fig"}]


def test_the_key_is_sent_as_a_header_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRUBJAY_KEY", "from-environment")
    with server(NONE) as script:
        for key in (None, "given", ""):
            with Client(script.url, key) as client:
                client.items()
    sent = [asked.headers.get("Authorization") for asked in script.asked]
    assert sent == ["Bearer from-environment", "Bearer given", None]


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://shop", "http://", "http://shop:port", ""])
def test_another_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a service"):
        Client(url)


def test_another_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="holds characters that no key has"):
        Client("http://shop", "two words\n")


def test_a_problem_is_an_error_with_all_that_was_said() -> None:
    with server(problem(422)) as script, Client(script.url) as client, pytest.raises(ServiceProblem) as caught:
        client.search(b"content")
    error = caught.value
    assert (error.status, error.type, error.title) == (422, "/problems/busy", "The service is busy")
    assert (error.detail, error.request_id, error.retry_after) == ("Too many queries wait.", "r1", None)
    assert error.errors == (("body.k", "too large"),)
    assert str(error) == "Too many queries wait. (status 422, request r1)"
    assert error.exit_code == 2
    assert len(script.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", {"detail": 3}, [1], None])
def test_an_answer_of_another_program_is_an_error_too(body: Any) -> None:
    with (
        server(Reply(body, 502)) as script,
        Client(script.url) as client,
        pytest.raises(ServiceProblem, match="answered 502 Bad Gateway") as caught,
    ):
        client.items()
    assert caught.value.exit_code == 1


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    with (
        server(Reply({"items": 3})) as script,
        Client(script.url) as client,
        pytest.raises(ServiceError, match="is not a ItemPage"),
    ):
        client.items()


def test_a_refusal_for_the_moment_is_tried_again() -> None:
    with (
        server(problem(429, Retry_After="0"), problem(503, Retry_After="0"), NONE) as script,
        Client(script.url) as client,
    ):
        assert client.items().items == []
    assert len(script.asked) == 3


def test_attempts_are_bounded() -> None:
    with (
        server(problem(429, Retry_After="0")) as script,
        Client(script.url, retries=1) as client,
        pytest.raises(ServiceProblem) as caught,
    ):
        client.items()
    assert caught.value.retry_after == 0
    assert caught.value.exit_code == 1
    assert len(script.asked) == 2


def test_a_longer_wait_than_allowed_is_not_begun() -> None:
    with (
        server(problem(429, Retry_After="3600")) as script,
        Client(script.url) as client,
        pytest.raises(ServiceProblem) as caught,
    ):
        client.items()
    assert caught.value.retry_after == 3600
    assert len(script.asked) == 1


CALLS: dict[str, tuple[Callable[[Client], object], Reply]] = {
    "search": (lambda client: client.search(b"content"), SEARCHED),
    "add": (lambda client: client.add_items([b"content"]), Reply({"added": [], "known": 1, "refused": []})),
    "teach": (lambda client: client.teach("fig", [b"content"]), Reply({})),
    "promote": (lambda client: client.promote("g1", revision=1), Reply({})),
    "remove": (lambda client: client.remove_item("1"), Reply({})),
}


@pytest.mark.parametrize("name", CALLS)
def test_only_what_does_no_harm_is_repeated_when_its_fate_is_unknown(name: str) -> None:
    call, reply = CALLS[name]
    for first in (Reply(drop=True), problem(503, Retry_After="0")):
        with server(first, reply) as script, Client(script.url) as client:
            if name in ("search", "add"):
                call(client)
                assert len(script.asked) == 2
                assert script.asked[0].path == script.asked[1].path
                assert sorted(map(repr, form(script.asked[0]))) == sorted(map(repr, form(script.asked[1])))
            else:
                with pytest.raises(ServiceError):
                    call(client)
                assert len(script.asked) == 1


def test_a_refused_promotion_is_tried_again_because_it_was_not_carried_out() -> None:
    served = Reply({"serving": "g1", "revision": 2})
    with server(problem(429, Retry_After="0"), served) as script, Client(script.url) as client:
        assert client.promote("g1", revision=1).revision == 2
    assert len(script.asked) == 2


def test_no_service_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}", retries=1) as client,
        pytest.raises(ServiceError, match=f"127.0.0.1:{port} cannot be reached.*scrubjay serve"),
    ):
        client.status()


def test_a_service_that_does_not_answer_is_given_up() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1) as client,
        pytest.raises(ServiceError, match="did not answer in time"),
    ):
        client.items()


def test_a_missing_file_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    with server(SEARCHED) as script, Client(script.url) as client:
        for call in (
            lambda: client.search(tmp_path / "none.jpg"),
            lambda: client.compare(tmp_path / "none.jpg", "g0", "g1"),
            lambda: client.upload(tmp_path / "none"),
            lambda: client.upload(tmp_path),
        ):
            with pytest.raises(DataError):
                call()
    assert not script.asked


def test_a_folder_is_uploaded_with_its_relative_names(tmp_path: Path) -> None:
    for name in ("fig/1.jpg", "fig/sub/2.jpg", "plum/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    checked = {"upload": "u", "images": 3, "classes": {}, "new_classes": [], "known_classes": [], "findings": []}
    with server(Reply(checked)) as script, Client(script.url) as client:
        client.upload(tmp_path)
        names = [(field, name, content.decode()) for field, name, content in form(script.asked[0])]
        assert names == [("images", name, name) for name in ("fig/1.jpg", "fig/sub/2.jpg", "plum/1.jpg")]
        archive = tmp_path / "shop.zip"
        archive.write_bytes(b"PK")
        client.upload(archive)
    assert form(script.asked[1]) == [("archive", "shop.zip", b"PK")]


def test_a_file_larger_than_a_block_is_sent_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "large.jpg").write_bytes(content)
    with server(problem(429, Retry_After="0"), SEARCHED) as script, Client(script.url) as client:
        client.search(tmp_path / "large.jpg")
    assert all(form(asked)[0] == ("images", "large.jpg", content) for asked in script.asked)


def test_an_argument_out_of_range_is_an_error_before_anything_is_sent() -> None:
    with server(SEARCHED) as script, Client(script.url) as client:
        with pytest.raises(ConfigError, match=r"search: k = 0: Input should be greater than or equal to 1\."):
            client.search(b"content", k=0)
        with pytest.raises(ConfigError, match=r"remove_items: ids = \[\]"):
            client.remove_items([])
    assert not script.asked


def item(number: int) -> dict[str, Any]:
    return {"id": str(number), "label": None, "metadata": {}}


PAGES = (Reply({"items": [item(1), item(2)], "cursor": "a b"}), Reply({"items": [item(3)], "cursor": None}))


def test_all_items_come_page_by_page() -> None:
    with server(*PAGES) as script, Client(script.url) as client:
        assert [each.id for each in client.all_items(labels=["fig"], where={"a": 1})] == ["1", "2", "3"]
    assert script.asked[0].path == "/v1/items?label=fig&where=%7B%22a%22%3A+1%7D"
    assert script.asked[1].path.startswith("/v1/items?cursor=a+b&label=fig")


def job(done: int, state: str = "running") -> JobRecord:
    return JobRecord(
        id="j", kind="learn", state=state, created="", started=None, ended=None, step=None, done=done, total=9,
        result=None, problem=None,
    )  # type: ignore[arg-type]  # fmt: skip


def event(name: str, record: JobRecord) -> bytes:
    return f"event: {name}\ndata: {record.model_dump_json()}\n\n".encode()


STREAMS = (
    Reply(b": hello\n\n" + event("progress", job(1)) + b"event: progress\ndata: {", headers={"Content-Length": "999"}),
    problem(503, Retry_After="0"),
    Reply(event("progress", job(2)) + b"retry: 5\n\n" + event("end", job(3, "done"))),
)


def cut(script: Scripted) -> None:
    """Lets the first reply end in the middle: its connection closes before the length that it states."""
    script.replies[0].headers = {"Content-Length": "999", "Connection": "close"}


def test_progress_goes_on_after_a_broken_connection() -> None:
    with server(*STREAMS) as script, Client(script.url) as client:
        cut(script)
        assert [record.done for record in client.job_progress("j")] == [1, 2, 3]


def test_a_stream_without_an_end_is_given_up() -> None:
    with (
        server(Reply(b": nothing\n\n")) as script,
        Client(script.url, retries=1) as client,
        pytest.raises(ServiceError, match="ended before the job"),
    ):
        list(client.job_progress("j"))
    assert len(script.asked) == 2


def test_waiting_for_a_job_returns_its_end() -> None:
    end = Reply(event("end", job(3, "failed")))
    with server(Reply(job(0).model_dump()), end) as script, Client(script.url) as client:
        assert client.wait_for_job("j").state == "failed"


def test_the_asynchronous_client_does_the_same() -> None:
    async def ask(*replies: Reply, act: Callable[[AsyncClient], Any]) -> Any:
        with server(*replies) as script:
            if replies is STREAMS:
                cut(script)
            async with AsyncClient(script.url) as client:
                return await act(client)

    async def listed(client: AsyncClient) -> list[str]:
        return [each.id async for each in client.all_items()]

    async def progress(client: AsyncClient) -> list[int | None]:
        return [record.done async for record in client.job_progress("j")]

    async def all_of_it() -> None:
        again = (problem(429, Retry_After="0"), SEARCHED)
        found = await ask(*again, act=lambda client: client.search([b"a"] * 2))
        assert found.answers[0].query == "abc"
        assert await ask(*PAGES, act=listed) == ["1", "2", "3"]
        assert await ask(*STREAMS, act=progress) == [1, 2, 3]
        end = Reply(event("end", job(3, "cancelled")))
        waited = await ask(Reply(job(0).model_dump()), end, act=lambda client: client.wait_for_job("j"))
        assert waited.state == "cancelled"
        with pytest.raises(ServiceProblem, match="r1"):
            await ask(problem(404), act=lambda client: client.item("1"))
        with pytest.raises(ServiceError):
            await ask(Reply(drop=True), act=lambda client: client.promote("g1", revision=1))

    asyncio.run(all_of_it())


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Client" in block]
    (tmp_path / "photo.jpg").write_bytes(b"content")
    (tmp_path / "new classes" / "fig").mkdir(parents=True)
    (tmp_path / "new classes" / "fig" / "1.jpg").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    checked = {"upload": "u", "images": 1, "classes": {}, "new_classes": [], "known_classes": [], "findings": []}
    end = Reply(event("end", job(9, "done")))
    with server(SEARCHED, Reply(checked), Reply(job(0).model_dump()), end) as script:
        example = example.replace("http://127.0.0.1:8000", script.url).replace("sj_…", "sj_1")
        exec(compile(example, "docs/service.md", "exec"), {})
    assert capsys.readouterr().out == "[('fig', None)]\ndone None 9 9\n"
    assert json.loads(script.asked[2].body) == {"kind": "learn", "upload": "u"}
