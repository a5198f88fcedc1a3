"""Upload trained checkpoints to the Hub."""

import shlex
from pathlib import Path

from pipeline.core.errors import UserError, to_one_line

_LOG_IN = "Log in with `hf auth login`, or set HF_TOKEN"


def check_upload(repository: str) -> None:
    """Check before training that an upload can succeed.

    Raises:
        UserError: the repository name is invalid, the Hub cannot be reached, or there is no valid token.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"training.push_to_hub: {to_one_line(error)}. Write it as owner/name") from error
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise UserError(f"training.push_to_hub: there is no token. {_LOG_IN}") from error
    except HfHubHTTPError as error:
        raise UserError(
            f"training.push_to_hub: cannot write to {repository}: {to_one_line(error)}. {_LOG_IN}"
        ) from error
    except Exception as error:  # errors of the client's HTTP library, which differs between its versions
        raise UserError(
            f"training.push_to_hub: the Hub cannot be reached ({to_one_line(error)}). Check the network and HF_ENDPOINT"
        ) from error


def upload(files: Path, repository: str, saved: Path) -> str:
    """Upload the files of a trained checkpoint; a new repository is private.

    Args:
        files: a folder with nothing but these files.
        saved: the folder that has them later, beside the files of the run, for the message.

    Returns:
        the address of the commit.

    Raises:
        UserError: the Hub refused the upload or could not be reached.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(repository, private=True, exist_ok=True)
        commit = hub.upload_folder(repo_id=repository, folder_path=files, commit_message="Trained checkpoint")
    except Exception as error:  # as above
        command = ["hf", "upload", repository, str(saved), "--private"]
        names = [f"{entry.name}/*" if entry.is_dir() else entry.name for entry in sorted(files.iterdir())]
        command += [word for name in names for word in ("--include", name)]
        raise UserError(
            f"training.push_to_hub: {saved} is saved but not uploaded to {repository}: {to_one_line(error)}. "
            f"To upload it later, run: {shlex.join(command)}"
        ) from error
    return str(commit.commit_url)
