"""Upload of a trained checkpoint to the Hub."""

import shlex
from pathlib import Path

from pipeline.core.errors import UserError, one_line

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_NOT_UPLOADED = ("checkpoints/*", "logs/*", "refit/*", ".lock", ".finished/*")


def check_upload(repository: str) -> None:
    """Refuse, before anything is trained, an upload that cannot succeed.

    Raises:
        UserError: the Hub knows no such names, cannot be reached, or there is no valid token.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"training.push_to_hub: {one_line(error)}; write it as owner/name") from error
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise UserError(f"training.push_to_hub: there is no token; {_LOG_IN}") from error
    except HfHubHTTPError as error:
        raise UserError(f"training.push_to_hub: cannot write to {repository}: {one_line(error)}; {_LOG_IN}") from error
    except Exception as error:  # of the client's transport, which differs between its versions
        raise UserError(
            f"training.push_to_hub: the Hub cannot be reached ({one_line(error)}); check the network and HF_ENDPOINT"
        ) from error


def upload(folder: Path, repository: str) -> str:
    """Upload a trained checkpoint, without its run's own files, to a repository that is made private where it is new.

    Returns:
        the address of the commit.

    Raises:
        UserError: the Hub refused it, or could not be reached.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    command = ["hf", "upload", repository, str(folder), "--private"]
    command += [word for pattern in _NOT_UPLOADED for word in ("--exclude", pattern)]
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            ignore_patterns=list(_NOT_UPLOADED),
            commit_message="Trained checkpoint",
        )
    except Exception as error:  # as above
        raise UserError(
            f"training.push_to_hub: {folder} is saved but not uploaded to {repository}: {one_line(error)}; "
            f"when that is mended: {shlex.join(command)}"
        ) from error
    return str(commit.commit_url)
