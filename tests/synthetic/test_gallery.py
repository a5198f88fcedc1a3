from dataclasses import replace

from pipeline.synthetic.bank import default_bank
from pipeline.synthetic.gallery import draw_gallery


def test_the_gallery_is_a_png_file(tmp_path):
    bank = replace(default_bank(), weights={"growth": 1.0, "sarima": 1.0}, probabilities={"unit": 1.0})
    draw_gallery(bank, 40, 0, tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes()[:4] == b"\x89PNG"
