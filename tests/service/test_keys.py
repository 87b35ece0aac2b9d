"""API keys: stored as hashes, valid until they are revoked, in every process at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import application

from scrubjay.catalogue import Catalogue
from scrubjay.errors import CatalogueError, ConfigError, StorageError
from scrubjay.service.keys import KeyFile
from shops import METRIC, metric_shop
from tiny import Call


def test_key_is_found_until_it_is_revoked(tmp_path: Path) -> None:
    file, elsewhere = KeyFile(tmp_path), KeyFile(tmp_path)
    assert not file.required
    secret, key = file.make("till", "write")
    assert elsewhere.find(secret) == key
    assert key.scopes == ("read", "write")
    assert secret[-4:] == key.last_four
    assert file.revoke("till").id == key.id
    assert elsewhere.find(secret) is None
    assert elsewhere.required  # else revoking the last key would open the service to everyone


def test_file_holds_no_key_and_is_for_its_owner_only(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    secret, _ = file.make("till", "read")
    assert secret not in file.path.read_text()
    assert file.path.stat().st_mode & 0o077 == 0


@given(st.text())
def test_nothing_else_is_a_key(tmp_path_factory: pytest.TempPathFactory, presented: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "keys"
    file = KeyFile(folder)
    secret = file.make("till", "admin")[0] if not file.required else ""
    assert presented == secret or file.find(presented) is None


@pytest.mark.parametrize(("name", "scope", "part"), [("a", "root", "'root'"), (" ", "read", "empty")])
def test_keys_that_cannot_be_made(tmp_path: Path, name: str, scope: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        KeyFile(tmp_path).make(name, scope)


def test_names_are_unique_among_valid_keys(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.make("till", "read")
    with pytest.raises(ConfigError, match="already"):
        file.make("till", "read")
    file.revoke("till")
    file.make("till", "read")
    with pytest.raises(CatalogueError, match="'shop'; there are: till"):
        file.revoke("shop")


def test_damaged_file_lets_nobody_in(tmp_path: Path) -> None:
    file = KeyFile(tmp_path)
    file.path.write_text("{")
    with pytest.raises(StorageError, match="cannot be read"):
        file.find("anything")


def test_scopes_at_the_routes(tmp_path: Path) -> None:
    shop = metric_shop(tmp_path)
    file = KeyFile(shop.folder)
    with application(shop.folder) as client:
        assert client.get("/v1/status").json()["scopes"] == ["read", "write", "admin"]
        secret, _ = file.make("till", "read")
        refused = client.get("/v1/status")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200
        assert client.get("/docs").status_code == 200
        headers = {"Authorization": f"Bearer {secret}"}
        status = client.get("/v1/status", headers=headers).json()
        assert (status["scopes"], status["keys_required"]) == (["read"], True)
        assert client.get("/metrics", headers=headers).status_code == 200
        file.revoke("till")
        assert client.get("/v1/status", headers=headers).status_code == 401


def test_commands(call: Call, tmp_path: Path) -> None:
    Catalogue.init(tmp_path / "own", METRIC)
    assert "no keys" in call("keys", "list", "own")[1]
    code, secret, said = call("keys", "make", "own", "till", "--scope", "write")
    assert (code, "not stored" in said) == (0, True)
    key = KeyFile(tmp_path / "own").find(secret.strip())
    assert key is not None
    (listed,) = json.loads(call("keys", "list", "own", "--json")[1])
    assert (listed["name"], listed["scope"], listed["revoked"]) == ("till", "write", None)
    assert "hash" not in listed
    assert call("keys", "revoke", "own", key.id)[0] == 0
    assert "revoked" in call("keys", "list", "own")[1]
    assert call("keys", "revoke", "own", "till")[0] == 2
    assert call("keys", "make", "nowhere", "till")[0] == 2
    assert call("keys", "make", "own", "x", "--scope", "all")[0] == 2
