"""The page in bars: a typed tempo, a grid that things snap to, lengths in bars, times to the ms."""

import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segue.demo.prompt import SAMPLE_RATE, band

from .browser import complaints_of, wait_for
from .test_service_page import (
    PLAYER,
    drag,
    fake,
    generate,
    opened,
    page,
    play_to_the_end,
    press,
    says,
    slice_of,
    slider,
    song,
    text,
)

pytestmark = pytest.mark.slow

__all__ = ["fake", "page", "song"]

BAR = 4 * 60 / 93


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """Four bars at 93 BPM, 455,226 samples."""
    path = tmp_path_factory.mktemp("loops") / "loop.wav"
    soundfile.write(path, band(12.0).samples[: round(4 * BAR * SAMPLE_RATE)], SAMPLE_RATE)
    return path


def enter(driver, name, value):
    field = driver.find_element(By.NAME, name)
    field.clear()
    field.send_keys(value, Keys.TAB)


def field(driver, name):
    return driver.execute_script(f"return document.querySelector('segue-slice').{name}Input.value")


def type_into(driver, name, value):
    element = driver.execute_script(f"return document.querySelector('segue-slice').{name}Input")
    element.clear()
    element.send_keys(value, Keys.TAB)
    return element


def test_four_bars_become_eight_more(page, fake, loop):
    opened(page, loop)
    enter(page, "bpm", "93")
    # Six seconds are 2.3 bars: two of them, at the file's end.
    assert slice_of(page) == pytest.approx([2 * BAR, 2 * BAR], abs=1e-5)
    slider(page, "window").send_keys(Keys.HOME)
    slider(page, "right").send_keys(Keys.END)
    assert slice_of(page) == pytest.approx([0, 4 * BAR], abs=1e-5)
    assert field(page, "seconds") == "0:10.323"
    enter(page, "length", "4")
    assert page.execute_script("return document.querySelector('[name=length_unit]').value") == (
        "bars"
    )
    assert text(page, ".sum") == "4 bars (10.32 s) of yours, then 4 bars (10.32 s) new"
    job = generate(page, fake)
    asked = fake.asked[1][1]
    assert (asked["bpm"], asked["beats_per_bar"], asked["downbeat"]) == (93, 4, 0)
    assert (asked["bars"], asked["snap"]) == (4, "off")
    assert asked["prompt_seconds"] == pytest.approx(4 * BAR, abs=1e-5)
    play_to_the_end(page, job, 1)
    lines = page.execute_script(
        "return document.querySelector('.take .bars').getAttribute('d').match(/M/g).length"
    )
    assert lines == 9
    page.execute_script(f"{PLAYER}.takes.pause()")
    page.find_element(By.CSS_SELECTOR, ".take [aria-expanded]").click()
    page.find_element(By.XPATH, "//button[text()='Are its beats on the grid?']").click()
    says(page, "16 beats lie 12 ms from the grid in the median, 40 ms at worst", ".remarks")
    assert complaints_of(page) == []


def test_what_is_dragged_snaps_unless_alt_is_held(page, fake, song):
    opened(page, song)  # ten seconds
    enter(page, "bpm", "120")
    assert slice_of(page) == [4, 6]
    drag(page, "left", 700)
    start, seconds = slice_of(page)
    assert start % 2 == 0
    assert start + seconds == 10
    page.execute_script(
        "const s = document.querySelector('[name=snap]'); s.value = 'beat';"
        "s.dispatchEvent(new Event('change', { bubbles: true }))"
    )
    drag(page, "left", 830)
    assert slice_of(page)[0] % 0.5 == 0
    ActionChains(page).key_down(Keys.ALT).perform()
    drag(page, "left", 815)
    ActionChains(page).key_up(Keys.ALT).perform()
    assert slice_of(page)[0] % 0.5 > 0.01
    # A step of a key is a beat; with Alt it is a hundredth of a second.
    page.execute_script("document.querySelector('segue-slice .window').focus()")
    press(page, Keys.HOME, Keys.ARROW_RIGHT)
    assert slice_of(page)[0] == 0.5
    ActionChains(page).key_down(Keys.ALT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.ALT).perform()
    assert slice_of(page)[0] == pytest.approx(0.51)


def test_bars_begin_where_one_says(page, fake, song):
    opened(page, song)
    enter(page, "bpm", "120")
    downbeat = page.find_element(By.CSS_SELECTOR, ".grid-fields .time-field input")
    downbeat.clear()
    downbeat.send_keys("0.3", Keys.TAB)
    assert slice_of(page) == pytest.approx([2.3, 6])
    type_into(page, "start", "1.123")
    assert slice_of(page)[0] == pytest.approx(1.123)
    page.find_elements(By.CSS_SELECTOR, ".grid-fields button")[0].click()
    assert downbeat.get_attribute("value") == "0:01.123"


@pytest.mark.parametrize(
    ("typed", "seconds", "shown"),
    [
        ("1:05", 65, "1:05.0"),
        ("65", 65, "1:05.0"),
        ("65,5 s", 65.5, "1:05.5"),
        ("1:05.25", 65.25, "1:05.250"),
        ("0:01:05", 65, "1:05.0"),
        ("10.3226", 10.3226, "0:10.323"),
    ],
)
def test_times_are_read_as_people_write_them(page, fake, tmp_path, typed, seconds, shown):
    path = tmp_path / "two minutes.wav"
    soundfile.write(path, np.zeros((2 * 60 * 8000 // 2, 1)), 4000)
    fake.service["limits"]["audio_seconds"] = 600.0
    page.get(fake.url)
    wait_for(page, "return !!document.querySelector('.invitation')")
    opened(page, path)
    type_into(page, "start", typed)
    assert slice_of(page)[0] == pytest.approx(seconds)
    assert field(page, "start") == shown


def test_what_is_no_time_is_said_and_changes_nothing(page, fake, song):
    opened(page, song)
    for typed in ("1:75", "soon", "-3", "1:2:3:4"):
        element = type_into(page, "start", typed)
        line = page.execute_script("return arguments[0].validationMessage", element)
        assert line == "Type seconds, or minutes and seconds: 65, or 1:05, or 1:05.25."
        assert slice_of(page) == [4, 6]


def test_a_length_is_typed_in_minutes_and_does_not_clip(page, fake, song):
    opened(page, song)
    enter(page, "length", "1:40")
    assert text(page, ".sum") == "6 s of yours, then 100 s new"
    enter(page, "length", "100.25")
    box = page.find_element(By.NAME, "length")
    assert page.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", box)
    enter(page, "length", "200")
    page.find_element(By.CSS_SELECTOR, ".generate").click()
    assert box.get_property("validationMessage") == "At most 1:54.0."
    assert not fake.asked


def test_without_music_there_may_be_bars_too(page, fake):
    page.find_element(By.CSS_SELECTOR, ".drop .alone").click()
    says(page, "From words alone", ".chosen")
    enter(page, "bpm", "100")
    page.find_element(By.NAME, "description").send_keys("drums")
    enter(page, "length", "4")
    assert text(page, ".sum") == "4 bars (9.60 s) new"
    generate(page, fake)
    asked = fake.asked[0][1]
    assert (asked["bpm"], asked["bars"]) == (100, 4)


def test_a_marked_part_of_a_take_is_repeated_from_beat_to_beat(page, fake, loop):
    opened(page, loop)
    enter(page, "bpm", "93")
    play_to_the_end(page, generate(page, fake), 1)
    page.execute_script(f"{PLAYER}.takes.pause()")
    lane = page.find_element(By.CSS_SELECTOR, "segue-player .lane")
    wide = lane.rect["width"]
    ActionChains(page).move_to_element_with_offset(
        lane, int(-wide / 4), 0
    ).click_and_hold().move_by_offset(int(wide / 4), 0).release().perform()
    start, end = page.execute_script(f"return {PLAYER}.takes.loop")
    assert (start / (60 / 93)) % 1 == pytest.approx(0, abs=1e-6) or (start / (60 / 93)) % 1 > 0.999
    assert end > start
    assert page.execute_script("return !document.querySelector('.take .region').hidden")
