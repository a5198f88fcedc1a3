"""Find a model by its name: inside the package, in a folder, on the Hub or under an s3:// prefix."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import UserError, to_one_line
from pipeline.models.builtin import BUILTIN, builtin_folder, builtin_names
from pipeline.models.checkpoint import is_hub_name, read_checkpoint, training_info, weights_fingerprint

S3 = "s3://"


def check_model(name: str) -> None:
    """Check a model on this machine without loading its weights; names of the Hub and of s3:// pass unchecked.

    Raises:
        UserError: the model does not exist or is not a checkpoint.
    """
    if name.startswith(BUILTIN):
        builtin_folder(name)
    elif not name.startswith(S3) and not is_hub_name(name):
        read_checkpoint(name)


def find_model(name: str, revision: str | None = None) -> Path:
    """Return the local folder of a model; one from the Hub or an s3:// prefix is downloaded to the cache first.

    Args:
        name: `builtin:NAME`, a folder, an s3:// prefix or a Hub ID.
        revision: branch, tag or commit on the Hub.

    Raises:
        UserError: the model does not exist, or it can neither be reached nor found in the cache.
    """
    if name.startswith(BUILTIN):
        return builtin_folder(name)
    if Path(name).is_dir():
        return Path(name)
    if name.startswith(S3):
        return _from_s3(name)
    if not is_hub_name(name):
        raise UserError(
            f"no model {name}: it is neither a folder nor a Hub ID of the form owner/name. "
            f"Name one, or {BUILTIN}chronos2-synth"
        )
    return _from_hub(name, revision)


def find_base(model: str | Path) -> Path | None:
    """Return the folder of the base that a model was trained from, None if it is unknown or cannot be found.

    The folder has the weights that the model was trained from, by their hash.
    """
    _, info = training_info(model)
    if info.config is None or info.identity is None:
        return None
    saved, name, revision = info.config.base_model.output_path, info.base_model, info.config.base_model.revision
    for find in (lambda: Path(saved or ""), lambda: find_model(name or "", revision)):
        with suppress(UserError, OSError):
            folder = find()
            if weights_fingerprint(read_checkpoint(folder).path) == info.identity.weights:
                return folder
    return None


def _from_s3(prefix: str) -> Path:
    bucket, _, key = prefix.removeprefix(S3).partition("/")
    if not bucket or not key:
        raise UserError(f"no model at {prefix}. Write s3://BUCKET/PREFIX")
    try:
        from chronos.boto_utils import cache_model_from_s3

        folder = Path(cache_model_from_s3(prefix, force_download=False))
    except ImportError as error:
        raise UserError(f"loading {prefix} needs boto3. Install it with: pip install boto3") from error
    except Exception as error:  # botocore's errors, without importing it
        raise UserError(f"cannot load {prefix}: {to_one_line(error)}") from error
    if not (folder / "config.json").is_file():
        raise UserError(f"no model at {prefix}: it has no config.json. Correct the bucket or the prefix")
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    label = f"{name} at revision {revision}" if revision else name
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.bin"]))
        return folder
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated. Ask for access on its page and log in with: hf auth login") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name} has no revision {revision}. Correct base_model.revision") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"no model {name} on the Hub, or it is private. Correct its name or log in") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"{label} is not a local folder, is not in the cache, and the Hub cannot be reached. Check the network and "
            f"HF_ENDPOINT, or use a local folder or {' or '.join(builtin_names())}"
        ) from error
    except Exception as error:  # errors of the client's HTTP library, which differs between its versions
        raise UserError(f"cannot download {label}: {to_one_line(error)}. Try again") from error
