"""--plot: the picture holds what the histograms hold."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from libbpf_ctypes.cli.histogram import Scale, read_scale
from libbpf_ctypes.cli.plot import Plot
from libbpf_ctypes.cli.rows import Row
from libbpf_ctypes.errors import BpfError

from ..conftest import lacking
from .test_reports import row, times

SVG = "{http://www.w3.org/2000/svg}"
#: The bars' colour, of plot.py.
BAR = "#2f6690"


@pytest.fixture(autouse=True)
def _matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        lacking("needs matplotlib: pip install 'libbpf-ctypes[plot]'")


def draw(path: Path, scale: Scale, *rows: Row, intervals: int = 0) -> str:
    """The picture of these groups, as text; of intervals in which all of them were again."""
    plot = Plot(str(path), scale)
    for number in range(intervals):
        plot.add(10**9 * (number + 1), 10**9 * (number + 2), list(rows))
    plot.draw(("comm",), list(rows))
    return path.read_text(encoding="utf-8")


def texts(svg: str) -> list[str]:
    root = xml.etree.ElementTree.fromstring(svg)
    return ["".join(each.itertext()).strip() for each in root.iter(f"{SVG}text")]


def heights(svg: str) -> list[float]:
    """Of the bars, in the order they were drawn."""
    found = []
    for path in xml.etree.ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if f"fill: {BAR}" in path.get("style", ""):
            numbers = [float(text) for text in re.findall(r"-?[0-9.]+", path.get("d", ""))]
            found.append(max(numbers[1::2]) - min(numbers[1::2]))
    return found


def test_bars_are_as_high_as_their_counts(tmp_path: Path) -> None:
    shown = row("cat", tally=times(70, 9 * 10**5, 10**5, s10=40, s11=0, s12=20, s13=10))
    svg = draw(tmp_path / "x.svg", Scale(), shown)
    bars = heights(svg)
    assert [round(bar / bars[0], 3) for bar in bars] == [1, 0, 0.5, 0.25]
    found = texts(svg)
    for bound in ("1.02us", "2.05us", "4.1us", "8.19us", "16.4us"):
        assert bound in found
    assert any(text.startswith("comm=cat: 70 calls, 900us in all") for text in found)


def test_groups_are_below_each_other_the_longest_first(tmp_path: Path) -> None:
    rows = [row(f"p{n}", tally=times(1, 10**n, 10**n, s20=1)) for n in range(10)]
    found = texts(draw(tmp_path / "x.svg", read_scale("0:10ms:1ms"), *rows))
    titles = [text.partition(":")[0] for text in found if text.startswith("comm=")]
    assert titles == [f"comm=p{n}" for n in range(9, 1, -1)]
    assert "and 2 more groups" in found


def test_groups_of_stacks_are_told_apart(tmp_path: Path) -> None:
    shown = row("cat", tally=times(1, 900, 900, s9=1))
    one = shown._replace(kernel=("vfs_read+0x1",), user=("read+0xd (libc.so.6)", "main+0x1 (x)"))
    other = shown._replace(user=("write+0xd (libc.so.6)",))
    shown_texts = texts(draw(tmp_path / "x.svg", Scale(), one, other))
    assert "vfs_read < read < main" in " ".join(shown_texts)
    assert "write" in " ".join(shown_texts)


def test_intervals_are_drawn_over_time(tmp_path: Path) -> None:
    shown = row("cat", tally=times(5, 9000, 5000, s10=4, s14=1))
    found = texts(draw(tmp_path / "x.svg", Scale(), shown, intervals=3))
    assert "all groups, over time" in found
    assert "seconds" in found
    one = texts(draw(tmp_path / "y.svg", Scale(), shown, intervals=1))
    assert "all groups, over time" not in one


def test_of_very_many_intervals_some_are_drawn_as_one(tmp_path: Path) -> None:
    plot = Plot(str(tmp_path / "x.svg"), Scale())
    shown = row("cat", tally=times(1, 1, 1, s10=1))
    for number in range(1000):
        plot.add(number + 1, number + 2, [shown])
    columns = plot._columns
    assert len(columns) <= 480
    assert sum(sum(slots) for _end, slots in columns) == 1000
    assert columns[-1][0] == 1001
    plot.close()


@pytest.mark.parametrize("intervals", [0, 3])
def test_nothing_is_a_picture_too(tmp_path: Path, intervals: int) -> None:
    assert "no calls" in texts(draw(tmp_path / "x.svg", Scale(), intervals=intervals))


def test_the_same_numbers_make_the_same_file_and_odd_names_are_text(tmp_path: Path) -> None:
    shown = row("$a^<&>\\x1b日本", tally=times(1, 5, 5, s2=1))
    one, other = (draw(tmp_path / name, Scale(), shown) for name in ("x.svg", "y.svg"))
    assert one == other
    assert any("$a^<&>\\x1b日本" in text for text in texts(one))


def test_what_cannot_be_written_is_told_before_the_trace(tmp_path: Path) -> None:
    with pytest.raises(BpfError, match="write to"):
        Plot(str(tmp_path / "no" / "x.svg"), Scale())


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # or one that fails, as of old
    with pytest.raises(BpfError, match=r"draw a plot: .*pip install 'libbpf-ctypes\[plot\]'"):
        Plot(str(tmp_path / "x.svg"), Scale())
    assert not (tmp_path / "x.svg").exists()
