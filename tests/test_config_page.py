import re

import yaml

from pipeline.config import Config
from tools.document_config import PAGE, configuration_page, main


def test_the_configuration_page_is_not_stale():
    """If this fails, run: python tools/document_config.py"""
    assert PAGE.read_text(encoding="utf-8") == configuration_page()


def test_the_page_has_every_key_with_its_default():
    def leaves(section, prefix):
        for key, value in section.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    rows = re.findall(r"^\| `(horizon|\w+\.[\w.]+)` \| `(.*?)` \| \S", configuration_page(), re.MULTILINE)
    assert {key: yaml.safe_load(default) for key, default in rows} == dict(leaves(Config().as_dict(), ""))


def test_check_exits_with_1_until_the_page_is_written(tmp_path, capsys):
    path = tmp_path / "configuration.md"
    assert main(["--check"], path) == 1 and str(path) in capsys.readouterr().err
    assert main([], path) == 0
    assert main(["--check"], path) == 0
