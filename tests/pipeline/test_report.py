"""The report stands alone, and a browser shows it."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from atrouscaffe.data.dataset import find_samples
from atrouscaffe.pipeline.evaluate import evaluate, run_settings
from atrouscaffe.pipeline.ledger import ledger
from atrouscaffe.pipeline.paper import paper_numbers
from atrouscaffe.pipeline.report import confusion_svg, html_report, to_csv, trimap_svg
from atrouscaffe.pipeline.segment import Segmenter
from atrouscaffe.pipeline.sources import NetSource
from atrouscaffe.pipeline.store import RunStore

from . import nets, voc


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    samples = find_samples(voc.folder(path / "data", count=3), "val")
    net = Segmenter(nets.finite(), nets.weights(nets.finite(), path / "w.caffemodel"), mean=100, scale=0.02, crf=True)
    source = NetSource(net)
    report = evaluate(source, samples, store=RunStore(path / "run", run_settings(source)))
    report.failed.append("x.jpg: <b>bad</b> & gone")
    figures = {"model": "a <net>", "list": "val", "ledger": ledger(net, samples)} | report.as_dict()
    folders = {kind: path / "run" / kind for kind in ("plain", "crf")}
    file = path / "report.html"
    file.write_text(html_report("Title & <more>", [figures], samples, [folders]), encoding="utf-8")
    return file, figures, samples


def test_page_needs_no_network_and_hides_no_markup(page):
    text = page[0].read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert "url(" not in text and "@import" not in text and "<script" not in text
    assert "&lt;b&gt;bad&lt;/b&gt; &amp; gone" in text and "<b>bad</b>" not in text
    assert "a &lt;net&gt;" in text and "<net>" not in text


def test_page_holds_every_part(page):
    text, figures, samples = page[0].read_text(), page[1], page[2]
    for kind in ("plain", "crf"):
        assert f"<td>{figures[kind]['pixel_accuracy']:.2f}</td>" in text
        assert f"Confusion: a &lt;net&gt;, {kind}" in text
    assert text.count("data:image/jpeg") == 2 * len(samples)  # worst and best
    assert text.count("data:image/png") == 2 * 3 * len(samples)  # truth, plain, crf
    assert "corner alignment" in text and "class 6" in text


def test_confusion_picture_has_the_matrix_in_it():
    counts = np.array([[90, 10], [25, 75]])
    text = confusion_svg(counts, ["one", "two"])
    for told in ("one taken for two: 10.00 % (10 pixels)", "two taken for one: 25.00 % (25 pixels)"):
        assert told in text


def test_trimap_curves_bear_different_names(page):
    alone = trimap_svg([page[1]], paper_numbers()["figure5_trimap_val"]["curves"])
    assert {"ours, plain", "ours, crf", "MSc-CRF (paper)", "DeepLab (paper)"} <= names(alone)
    assert "DeepLab-MSc-CRF" not in alone
    several = trimap_svg([page[1], page[1]], None, "distance")
    assert {"1 a &lt;net&gt; plain", "2 a &lt;net&gt; crf"} <= names(several)


def names(svg):
    """Return the names at the ends of the lines, without the values behind them."""
    return {text.rpartition(" ")[0] for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)}


def test_csv_has_one_figure_a_line(page):
    lines = to_csv([page[1]]).splitlines()
    assert lines[0] == "model,kind,figure,of,value"
    assert len(lines) == 1 + 2 * (6 + 1 + 2 * 7 + 2 * 2 * 40) + 3 * 2 * 2


def test_headless_chromium_shows_the_page(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs Chromium")
    import cv2

    shot = tmp_path / "shot.png"
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,3200",
             f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    subprocess.run([*words, f"--screenshot={shot}", page[0].as_uri()], check=True, capture_output=True, timeout=120)
    picture = cv2.imread(str(shot))
    assert picture.shape == (3200, 1100, 3)
    blue = np.all(picture == (168, 95, 31), axis=2)  # bars of the table of classes, and of the confusion matrix
    assert blue.sum() > 500
    assert (picture[:80] < 128).any()  # the title
