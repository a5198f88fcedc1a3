"""A model by its name: in a folder, inside the package, on the Hub or behind an s3:// prefix."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import UserError, one_line
from pipeline.models.builtin import PREFIX, builtin_folder, builtin_names
from pipeline.models.checkpoint import read_checkpoint

S3 = "s3://"


def check_model(name: str) -> None:
    """Look at a model that lies on this machine, without reading its weights; one that lies elsewhere is not looked for.

    Raises:
        UserError: there is no such model here, or it is no checkpoint.
    """
    if name.startswith(PREFIX):
        builtin_folder(name)
    elif not name.startswith(S3) and (Path(name).exists() or name.count("/") != 1):
        read_checkpoint(name)


def find_model(name: str, revision: str | None = None) -> Path:
    """Return the local folder of a model: one inside the package, the folder itself, or the cached copy of an s3:// prefix
    or a Hub repository.

    Raises:
        UserError: nothing is there, or it cannot be reached and is not in the cache.
    """
    if name.startswith(PREFIX):
        return builtin_folder(name)
    if Path(name).is_dir():
        return Path(name)
    if name.startswith(S3):
        return _from_s3(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"no folder {name}, and it is no Hub id of the form owner/name")
    return _from_hub(name, revision)


def _from_s3(prefix: str) -> Path:
    bucket, _, key = prefix.removeprefix(S3).partition("/")
    if not bucket or not key:
        raise UserError(f"no model at {prefix}; write s3://BUCKET/PREFIX")
    try:
        from chronos.boto_utils import cache_model_from_s3

        folder = Path(cache_model_from_s3(prefix, force_download=False))
    except ImportError as error:
        raise UserError("loading from s3:// needs boto3; install it with: pip install boto3") from error
    except Exception as error:  # botocore's errors, without importing it
        raise UserError(f"cannot load {prefix}: {one_line(error)}") from error
    if not (folder / "config.json").is_file():
        raise UserError(f"no model at {prefix}: it has no config.json; mend the bucket or the prefix")
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    at = f" at revision {revision}" if revision else ""
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.bin"]))
        return folder
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated; ask for access on its page and log in with: hf auth login") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision}; mend base_model.revision") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"no model {name} on the Hub, or it is private; mend its name or log in") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{name} is no folder here,{at} not in the cache, and the Hub cannot be reached; "
            f"check the network and HF_ENDPOINT, or start from a local folder or from {' or '.join(builtin_names())}, inside"
        ) from error
    except Exception as error:  # the errors of the client's HTTP library, which differs between its versions
        raise UserError(f"cannot download {name}{at}: {one_line(error)}; try again") from error
