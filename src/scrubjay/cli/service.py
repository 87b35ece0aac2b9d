"""Commands that serve a catalogue over HTTP, and make and revoke its API keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from scrubjay.cli.app import Folder, Settings, app
from scrubjay.cli.terminal import say, warn
from scrubjay.errors import CatalogueError, ConfigError

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of the service.")
app.add_typer(keys_app, name="keys")


@app.command()
def serve(
    folder: Folder,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8000; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes. Default: 1.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with options of the service.")] = None,
    settings: Settings = None,
) -> None:
    """Serve a catalogue over HTTP, with a web page, until Ctrl-C.

    All options, and their names in the environment: docs/service.md.
    """
    _need_extra()
    from scrubjay.service.options import ServiceOptions
    from scrubjay.service.server import serve as run

    flags = [*(settings or []), *(f"{name}={value}" for name, value in _given(host, port, workers))]
    run(folder, ServiceOptions.read(config, os.environ, flags), lambda line: print(line, flush=True))


@keys_app.command("make")
def make_key(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[str, typer.Option(help="What it may do: read, write or admin. Each holds those before it.")] = (
        "read"
    ),
) -> None:
    """Make an API key. It is printed once and cannot be shown again; from the first key on every request needs one."""
    from scrubjay.service.keys import KeyFile

    _need_catalogue(folder)
    secret, key = KeyFile(folder).make(name, scope)
    print(secret)
    warn(f"key {key.id} ({name}, {scope}): copy it now, it is not stored.")


@keys_app.command("list")
def list_keys(folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the API keys, without the keys themselves."""
    from scrubjay.service.keys import KeyFile

    _need_catalogue(folder)
    keys = KeyFile(folder).keys()
    if as_json:
        shown = ("id", "name", "scope", "created", "last_four", "revoked")
        print(json.dumps([{name: getattr(key, name) for name in shown} for key in keys], indent=1))
        return
    for key in keys:
        state = "valid" if key.revoked is None else f"revoked {key.revoked}"
        say(f"{key.id}  {key.scope:<5}  …{key.last_four}  {key.created}  {state}  {key.name}")
    if not keys:
        say("no keys: the service answers everyone on this machine, and no other.")


@keys_app.command("revoke")
def revoke_key(folder: Folder, name: Annotated[str, typer.Argument(help="Name or id of the key.")]) -> None:
    """Revoke an API key, at once and for good, in services that are running too."""
    from scrubjay.service.keys import KeyFile

    _need_catalogue(folder)
    key = KeyFile(folder).revoke(name)
    say(f"revoked {key.id} ({key.name}).")


def _given(host: str | None, port: int | None, workers: int | None) -> list[tuple[str, str]]:
    values = {"host": None if host is None else json.dumps(host), "port": port, "workers": workers}
    return [(name, str(value)) for name, value in values.items() if value is not None]


def _need_extra() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'scrubjay[service]'.") from None


def _need_catalogue(folder: Path) -> None:
    if not (folder / "catalogue.json").is_file():
        raise CatalogueError(f"{folder}: no catalogue here; make one first: scrubjay init {folder}")
