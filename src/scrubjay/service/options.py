"""Options of the service: from a TOML file, the environment and the command line, later ones before earlier ones."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from scrubjay.config import Config, override, read_toml
from scrubjay.errors import ConfigError

PREFIX = "SCRUBJAY_SERVICE_"
"""What the names of environment variables begin with; the name of the option follows in capitals."""


class ServiceOptions(Config):
    """How a catalogue is served. None of these options changes the catalogue."""

    host: str = "127.0.0.1"
    """Address to listen on. Other addresses than those of this machine itself need API keys."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    workers: int = Field(1, ge=1, le=64)
    """Number of processes that answer requests; each holds the model in memory."""
    threads: int = Field(4, ge=1, le=64)
    """Threads of each process for work beside searching, such as lists of items."""
    body_mb: int = Field(64, ge=1, le=4096)
    """Largest body of a request, in MiB."""
    upload_mb: int = Field(2048, ge=1, le=1_048_576)
    """Largest body of a request that adds or uploads images, in MiB."""
    image_mb: int = Field(32, ge=1, le=1024)
    """Largest image file, in MiB."""
    image_pixels: int = Field(50_000_000, ge=1, le=178_956_970)
    """Largest number of pixels of an image."""
    image_ratio: int = Field(32, ge=1, le=10_000)
    """Largest ratio of the long side of an image to its short side."""
    decode_processes: int = Field(2, ge=1, le=64)
    """Processes that decode images, for each worker."""
    decode_seconds: float = Field(10, gt=0, le=600)
    """Time limit for decoding an image; the process that exceeds it is ended."""
    decode_memory_mb: int = Field(2048, ge=256, le=1_048_576)
    """Address space of a process that decodes images, in MiB."""
    batch_images: int = Field(16, ge=1, le=1024)
    """Largest number of query images that are embedded together."""
    batch_ms: float = Field(3, ge=0, le=1000)
    """How long a query waits for others that are being decoded, in milliseconds; alone it does not wait."""
    queue_images: int = Field(256, ge=1, le=100_000)
    """Largest number of query images that wait; beyond it the answer is 429."""
    request_seconds: float = Field(60, gt=0, le=3600)
    """Time limit for a search; beyond it the answer is 503 if it was still waiting, and else 504."""
    requests_in_flight: int = Field(128, ge=1, le=100_000)
    """Largest number of requests that are handled at a time in each process; beyond it the answer is 503."""
    rate: float = Field(100, gt=0, le=1_000_000)
    """Requests a second of each key, or of each address where there are no keys; in each process."""
    rate_burst: int = Field(400, ge=1, le=1_000_000)
    """Requests that a key or address may send at once before `rate` applies."""
    origins: tuple[str, ...] = ()
    """Web sites whose pages may use the API from a browser, such as https://shop.example; by default none but its
    own page."""
    keep_unknown: int = Field(500, ge=0, le=100_000)
    """Number of query images that matched nothing and are kept, to be taught as new classes; 0 keeps none."""
    thumbnails_mb: int = Field(64, ge=0, le=65_536)
    """Memory for thumbnails in each process, in MiB."""
    log: Literal["plain", "json"] = "plain"
    """Format of the log: a line of text or of JSON for each request."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages that are logged."""
    shutdown_seconds: int = Field(30, ge=1, le=3600)
    """How long requests that were accepted may take to finish when the service is ended."""

    @field_validator("origins", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        """One origin may be given as text, as in the environment; several are separated by commas."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest or "*" in rest:
                raise ValueError(f"{origin!r} is not an origin; write it as https://shop.example, without a path")
        return value

    @property
    def loopback(self) -> bool:
        """Whether only this machine itself can reach the address."""
        return is_loopback(self.host)

    @classmethod
    def read(cls, config: Path | None, environment: Mapping[str, str], settings: Sequence[str] = ()) -> Self:
        """Options from a file, then the environment, then settings, each before those that were read earlier.

        Args:
            config: a TOML file with options by name.
            environment: variables; those whose name begins with `PREFIX` are options.
            settings: `key=value` from the command line.

        Raises:
            ConfigError: an option is unknown or out of range; the message says where it was given.
        """
        values: dict[str, Any] = {}
        if config is not None:
            values = read_toml(config)
            cls.parse(values, str(config))
        for name, text in sorted(environment.items()):
            if name.startswith(PREFIX):
                option = name.removeprefix(PREFIX).lower()
                if option not in cls.model_fields:
                    raise ConfigError(f"{name}: there is no such option; there are: {', '.join(cls.model_fields)}.")
                values = override(values, [f"{option}={text}"])
                cls.parse(values, name)
        return cls.parse(override(values, settings), "serve")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is one of this machine itself.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
