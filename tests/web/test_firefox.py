"""The service's page and the report in Firefox: less than in Chromium, and the same."""

import io

import pytest
import soundfile

from segue.demo.prompt import SAMPLE_RATE, band

from .browser import wait_for, wait_until
from .fake_service import FakeService
from .firefox import FIREFOX, firefox

PLAYER = "document.querySelector('segue-player')"
BAR = 4 * 60 / 93


@pytest.fixture(scope="module")
def fox(tmp_path_factory):
    if FIREFOX is None:
        pytest.skip("no Firefox here: apt-get install firefox-esr")
    downloads = tmp_path_factory.mktemp("downloads")
    with firefox(tmp_path_factory.mktemp("profile"), downloads) as driver:
        driver.downloads = downloads
        yield driver


@pytest.fixture
def fake():
    service = FakeService().start()
    yield service
    service.alive = False
    service.stop()


def enter(driver, name, value):
    driver.execute_script(
        "const e = document.getElementsByName(arguments[0])[0]; e.value = arguments[1];"
        "for (const t of ['input', 'change']) e.dispatchEvent(new Event(t, { bubbles: true }))",
        name,
        value,
    )


@pytest.mark.slow
def test_a_loop_is_continued_chained_and_taken_out(fox, fake, tmp_path):
    path = tmp_path / "loop.wav"
    soundfile.write(path, band(12.0).samples[: round(4 * BAR * SAMPLE_RATE)], SAMPLE_RATE)
    fox.get(fake.url)
    wait_for(fox, "return !!document.querySelector('.invitation')")
    fox.find_element("css selector", "#file").send_keys(str(path))
    wait_for(fox, "return !!document.querySelector('segue-slice .window')")
    enter(fox, "bpm", "93")
    enter(fox, "length", "4")
    slice_ = "const s = document.querySelector('segue-slice'); return [s.start, s.seconds]"
    assert fox.execute_script(slice_) == pytest.approx([2 * BAR, 2 * BAR], abs=1e-5)
    fox.drag("segue-slice .strip", 0.75, 0.05)  # the slice by its middle, to the start
    assert fox.execute_script(slice_) == pytest.approx([0, 2 * BAR], abs=1e-5)
    fox.find_element("css selector", ".generate").click()
    wait_until(lambda: fake.jobs)
    first = fake.last
    first.begin()
    first.play(60)
    first.finish()
    wait_for(fox, f"return {PLAYER}?.takes?.buffers.length === 1")
    wait_for(fox, "return !document.querySelector('.run')")
    assert fox.execute_script(f"return {PLAYER}.takes.duration") == pytest.approx(6 * BAR, abs=1e-3)
    # Space plays and pauses, with the focus on no field.
    fox.execute_script(f"{PLAYER}.takes.pause(); document.activeElement.blur()")
    fox.press(" ")
    wait_for(fox, f"return {PLAYER}.takes.playing")
    fox.press(" ")
    wait_for(fox, f"return !{PLAYER}.takes.playing")
    fox.find_element("css selector", ".take .star").click()
    wait_until(lambda: first.remarks[0]["starred"])
    fox.press(" ")
    wait_for(fox, f"return {PLAYER}.takes.playing")
    fox.execute_script(f"{PLAYER}.takes.pause()")
    assert first.remarks[0]["starred"]  # the space was not the button's
    fox.drag("segue-player .lane", 0.3, 0.6)
    start, end = fox.execute_script(f"return {PLAYER}.takes.loop")
    assert (start * 93 / 60, end * 93 / 60) == (
        pytest.approx(round(start * 93 / 60), abs=1e-6),
        pytest.approx(round(end * 93 / 60), abs=1e-6),
    )
    fox.find_element("css selector", ".take .play-on").click()
    wait_for(fox, "return document.querySelector('.chosen h3').textContent.includes('seed')")
    wait_for(fox, "return document.activeElement.textContent === 'Generate'")
    fox.press("\ue007")
    wait_until(lambda: len(fake.jobs) == 2)
    second = fake.last
    assert second.parent["until_seconds"] == pytest.approx(6 * BAR, abs=1e-4)
    second.begin()
    second.play(60)
    second.finish()
    wait_for(fox, "return document.querySelectorAll('.tree ul ul li').length === 1")
    wait_for(fox, "return !document.querySelector('.run')")
    fox.find_element("css selector", ".take a[download]").click()
    file = fox.downloads / f"music-seed{second.seed}.wav"
    wait_until(lambda: file.exists() and file.stat().st_size > 0)
    wait_until(lambda: not list(fox.downloads.glob("*.part")))
    heard, rate = soundfile.read(io.BytesIO(file.read_bytes()))
    assert len(heard) / rate == pytest.approx(10 * BAR, abs=1e-3)


def test_the_report_opens_and_plays(fox, report_page):
    fox.get(report_page)
    wait_for(fox, f"return {PLAYER}?.takes?.buffers.length === 5")
    fox.execute_script(f"{PLAYER}.querySelector('input[type=radio]').focus()")
    fox.press("3", " ")
    wait_for(fox, f"return {PLAYER}.takes.playing && {PLAYER}.takes.selected === 2")
    fox.execute_script(f"{PLAYER}.takes.pause()")
