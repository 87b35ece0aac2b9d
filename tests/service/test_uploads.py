from __future__ import annotations

import io
import os
import stat
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrubjay.errors import DataError
from scrubjay.service import uploads as module
from scrubjay.service.uploads import Upload, Uploads, checked_name


def archive(*names: str, content: bytes = b"image") -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name in names:
            zipped.writestr(name, content)
    file.seek(0)
    return file


def files(*names: str) -> list[tuple[str, io.BytesIO]]:
    return [(name, io.BytesIO(b"image")) for name in names]


def nothing_left(uploads: Uploads) -> bool:
    return not uploads.folder.exists() or not list(uploads.folder.iterdir())


def test_an_archive_of_class_folders_is_unpacked(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    upload, left_out = uploads.from_zip(archive("apple/1.jpg", "apple/red/2.png", "pear/1.jpg"))
    assert sorted(upload.files()) == ["apple/1.jpg", "apple/red/2.png", "pear/1.jpg"]
    assert left_out == []
    assert uploads.get(upload.id) == upload
    assert (upload.images / "apple/red/2.png").read_bytes() == b"image"


def test_a_folder_around_the_class_folders_is_taken_off(tmp_path: Path) -> None:
    upload, _ = Uploads(tmp_path).from_zip(archive("photos/apple/1.jpg", "photos/pear/1.jpg"))
    assert sorted(upload.files()) == ["apple/1.jpg", "pear/1.jpg"]
    one_class, _ = Uploads(tmp_path).from_zip(archive("apple/red/1.jpg"))
    assert sorted(one_class.files()) == ["apple/red/1.jpg"]


def test_what_is_no_image_of_a_class_is_left_out_and_said(tmp_path: Path) -> None:
    upload, left_out = Uploads(tmp_path).from_files(
        files("apple/1.jpg", "apple/notes.txt", "loose.jpg", "__MACOSX/apple/1.jpg", "apple/.DS_Store", "pear/1.jpg")
    )
    assert sorted(upload.files()) == ["apple/1.jpg", "pear/1.jpg"]
    assert [(finding.images, finding.message) for finding in left_out] == [
        (["apple/notes.txt"], "1 left out: not an image file by its name"),
        (["loose.jpg"], "1 left out: in no folder of a class"),
    ]


@pytest.mark.parametrize(
    "name",
    ["/etc/1.jpg", "../1.jpg", "apple/../../1.jpg", "C:\\apple\\1.jpg", "apple\\..\\..\\1.jpg", "a/\0.jpg", "a//1.jpg"],
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    uploads = Uploads(tmp_path)
    with pytest.raises(DataError, match="not a relative path"):
        uploads.from_files(files("apple/1.jpg", name))
    assert nothing_left(uploads)


@given(st.text(max_size=40))
def test_a_checked_name_stays_inside(name: str) -> None:
    try:
        checked = checked_name(name)
    except DataError:
        return
    path = Path(os.path.normpath(Path("/root/images") / checked))
    assert path.is_relative_to("/root/images")
    assert path != Path("/root/images")
    assert checked_name(checked) == checked


def test_links_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        link = zipfile.ZipInfo("apple/1.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="a link"):
        Uploads(tmp_path).from_zip(file)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 1000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("apple/1.jpg", bytes(2**22))
    uploads = Uploads(tmp_path)
    with pytest.raises(DataError, match="times its size"):
        uploads.from_zip(file)
    assert nothing_left(uploads)


def test_too_many_files_or_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(tmp_path)
    monkeypatch.setattr(module, "ENTRIES", 2)
    for call in (
        lambda: uploads.from_zip(archive("a/1.jpg", "a/2.jpg", "a/3.jpg")),
        lambda: uploads.from_files(files("a/1.jpg", "a/2.jpg", "a/3.jpg")),
    ):
        with pytest.raises(DataError, match="in parts"):
            call()
    monkeypatch.setattr(module, "TOTAL", 7)
    with pytest.raises(DataError, match="in parts"):
        uploads.from_files(files("a/1.jpg", "a/2.jpg"))
    assert nothing_left(uploads)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    uploads, content = Uploads(tmp_path), archive("apple/1.jpg", "pear/1.jpg").getvalue()
    for damaged in (b"", b"not a zip", content[: len(content) // 2], content.replace(b"image", b"imago", 1)):
        with pytest.raises(DataError, match="cannot be unpacked"):
            uploads.from_zip(io.BytesIO(damaged))
    assert nothing_left(uploads)


def test_a_path_that_is_sent_twice_is_refused(tmp_path: Path) -> None:
    for second in ("apple/1.jpg", "apple/1.jpg/2.jpg"):
        with pytest.raises(DataError, match="sent twice"):
            Uploads(tmp_path).from_files(files("apple/1.jpg", second))


def test_an_upload_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in a folder of a class"):
        Uploads(tmp_path).from_files(files("loose.jpg"))


def test_images_are_left_out_and_taken_back(tmp_path: Path) -> None:
    upload, _ = Uploads(tmp_path).from_files(files("apple/1.jpg", "apple/2.jpg", "pear/1.jpg"))

    def used() -> list[str]:
        return sorted(path.relative_to(upload.images).as_posix() for path in upload.images.rglob("*.jpg"))

    upload.select(["pear/1.jpg", "apple/1.jpg"])
    assert used() == ["apple/2.jpg"]
    assert not (upload.images / "pear").exists()
    assert len(upload.files()) == 3
    upload.select(["apple/2.jpg"])
    assert used() == ["apple/1.jpg", "pear/1.jpg"]
    with pytest.raises(DataError, match="holds no image"):
        upload.select(["../../secret"])
    with pytest.raises(DataError, match="leave some"):
        upload.select(["apple/1.jpg", "apple/2.jpg", "pear/1.jpg"])


def test_an_identity_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    uploads = Uploads(tmp_path)
    for name in ("../secret", "..", "", ".", "0" * 16, "/etc"):
        assert uploads.get(name) is None


def test_old_uploads_are_deleted_unless_a_job_uses_them(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    old, used, new = (uploads.from_files(files("apple/1.jpg"))[0] for _ in range(3))
    for upload in (old, used):
        os.utime(upload.folder, (time.time() - 90_000,) * 2)
    uploads.expire({used.id})
    assert [uploads.get(upload.id) is not None for upload in (old, used, new)] == [False, True, True]
    assert isinstance(uploads.get(new.id), Upload)
