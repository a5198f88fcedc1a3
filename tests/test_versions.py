import re
import tomllib

import pytest
from packaging.version import Version
from support import ROOT

from tools.oldest_versions import oldest_versions

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lock_has_no_older_version_than_pyproject_admits():
    lines = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    locked = {re.sub("[._]", "-", name).lower(): Version(version) for name, version in lines}
    oldest = {re.sub("[._]", "-", name).lower(): Version(bound) for name, bound in oldest_versions(PROJECT).items()}
    assert len(oldest) > 30 and len(oldest.keys() & locked.keys()) > 30
    assert not {name for name in oldest.keys() & locked.keys() if locked[name] < oldest[name]}


def test_a_requirement_of_users_needs_a_lower_bound():
    extras = {"s3": ["s3fs[x]>=2025.10,<3"], "dev": ["black", "chronos-native[s3]"]}
    assert oldest_versions({"dependencies": ["numpy>=2"], "optional-dependencies": extras}) == {
        "numpy": "2", "s3fs": "2025.10"
    }  # fmt: skip
    with pytest.raises(ValueError, match="s3fs has no lower bound"):
        oldest_versions({"dependencies": ["numpy>=2"], "optional-dependencies": {"s3": ["s3fs"]}})
