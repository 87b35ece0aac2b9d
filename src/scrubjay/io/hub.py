"""Files of the Hugging Face Hub. Its errors become one line that names the repository and the cure.

Tokens are read by huggingface_hub alone: from `HF_TOKEN`, or as `hf auth login` stored them.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scrubjay.errors import HubError


@contextmanager
def hub(repository: str, file: str = "the file") -> Iterator[Any]:
    """A client of the Hub for the block; what goes wrong in it becomes a `HubError`.

    Args:
        repository: what is asked for, `owner/name`, for messages.
        file: name of the file that is asked for, for messages.

    Raises:
        HubError: the repository or a file of it does not exist, access is refused, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi, errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(library_name="scrubjay")
    # The library that sends the requests differs between versions of huggingface_hub; its base error is named here.
    transport: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    try:
        yield api
    except errors.HFValidationError:
        raise HubError(f"{repository!r} is not the id of a repository: write it as owner/name.") from None
    except errors.GatedRepoError:
        raise HubError(
            f"{repository}: its owner has to grant access: ask for it on {api.endpoint}/{repository}, and log in with "
            "`hf auth login` or set HF_TOKEN."
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{repository}: there is no such repository on {api.endpoint}, or it is private: check the id, or log in "
            "with `hf auth login` or set HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{repository}: has no such revision: name a branch, tag or commit that it has.") from None
    except errors.RemoteEntryNotFoundError:
        raise HubError(f"{repository}: it has no {file}; name a repository that holds such a model.") from None
    except (OSError, RuntimeError, ValueError, errors.EntryNotFoundError, transport) as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, errors.HfHubHTTPError):
            cause = cause.__cause__
        failed = _refused if isinstance(cause, errors.HfHubHTTPError) else _unreachable
        raise failed(api.endpoint, repository, cause) from None


def download(repository: str, name: str, revision: str | None = None) -> Path:
    """Path of a file of a repository, in the cache of huggingface_hub; it is downloaded unless it is there.

    An interrupted download leaves no file of this name; the next call continues it.

    Args:
        repository: `owner/name`.
        name: path of the file in the repository.
        revision: branch, tag or commit; None: the main branch.

    Raises:
        HubError: see `hub`.
    """
    with hub(repository, name) as api:
        return Path(api.hf_hub_download(repository, name, revision=revision))


def download_first(repository: str, names: Sequence[str], revision: str | None = None) -> Path:
    """Path of the first of several files that a repository holds; see `download`.

    Raises:
        HubError: it holds none of them; see also `hub`.
    """
    from huggingface_hub.errors import EntryNotFoundError

    missing: EntryNotFoundError | None = None
    with hub(repository, " or ".join(names)) as api:
        for name in names:
            try:
                return Path(api.hf_hub_download(repository, name, revision=revision))
            except EntryNotFoundError as error:
                missing = error
        assert missing is not None
        raise missing


def sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _refused(endpoint: str, repository: str, error: BaseException) -> HubError:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        return HubError(
            f"{repository}: {endpoint} refuses access (status {status}): log in with `hf auth login`, or set HF_TOKEN "
            "to a token that may do this."
        )
    return HubError(f"{repository}: {endpoint} failed (status {status}): give the same command again later.")


def _unreachable(endpoint: str, repository: str, error: BaseException) -> HubError:
    return HubError(
        f"{repository}: {endpoint} could not be reached ({_line(error)}): check the network and HF_ENDPOINT, then give "
        "the same command again."
    )


def _line(error: BaseException) -> str:
    """The first line of a message that says what is wrong, and not more than 160 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160].rstrip(".")
