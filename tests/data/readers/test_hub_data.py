import datasets
from support.hub import REPOSITORY, Hub, connect
from support.series import long_frame

from pipeline.data.source import open_source


def test_a_data_set_of_the_hub_is_a_source(tmp_path, monkeypatch):
    (tmp_path / "repository").mkdir()
    long_frame(n_series=2).to_parquet(tmp_path / "repository" / "train.parquet")
    hub = Hub(tmp_path / "repository", kind="datasets")
    connect(monkeypatch, hub, tmp_path / "hub")
    for name, value in {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": False, "HF_DATASETS_OFFLINE": False}.items():
        monkeypatch.setattr(datasets.config, name, value)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    try:
        assert len(open_source(REPOSITORY, tmp_path / "store")) == 2
    finally:
        hub.close()
