"""Keys, focus and announcements; volume, long files and recordings."""

import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from .browser import complaints_of, wait_for, wait_until
from .test_service_page import (
    PLAYER,
    click,
    fake,
    generate,
    opened,
    page,
    play_to_the_end,
    press,
    says,
    slice_of,
    song,
    text,
)
from .test_service_page_bars import enter

pytestmark = pytest.mark.slow  # each opens pages; the file is begun first

__all__ = ["fake", "page", "song"]


@pytest.fixture
def made(page, fake, song):
    """The page with a take that is paused."""
    opened(page, song)
    play_to_the_end(page, generate(page, fake), 1)
    page.execute_script(f"{PLAYER}.takes.pause()")
    return page


def focused(driver):
    return driver.execute_script("return document.activeElement.outerHTML.slice(0, 60)")


# --- Keys and focus -------------------------------------------------------------------------------


def test_the_focus_goes_with_the_music(page, fake, song):
    opened(page, song)
    page.find_element(By.NAME, "description").send_keys("strings", Keys.ENTER)
    wait_for(page, "return document.activeElement.closest('.run') !== null")
    job = fake.last
    job.begin()
    job.play(3)
    wait_for(page, "return document.querySelector('.run .play').textContent === 'Pause'")
    press(page, Keys.SPACE)  # plays and pauses what was begun
    wait_for(page, "return document.querySelector('.run .play').textContent === 'Listen'")
    job.play(60)
    job.finish()
    wait_for(page, "return document.activeElement.closest('segue-player') !== null")
    assert "play" in page.switch_to.active_element.get_attribute("class")


def test_a_refusal_leaves_the_focus_where_it_was(page, fake, song):
    opened(page, song)
    fake.refusal = 429, "the queue is full"
    page.find_element(By.CSS_SELECTOR, ".generate").send_keys(Keys.ENTER)
    says(page, "The queue is full", ".go .complaint")
    assert "generate" in focused(page)


def test_keys_reach_the_player_from_anywhere_but_fields(made):
    made.execute_script(f"{PLAYER}.use(); document.querySelector('.run-head h3').tabIndex = -1")
    for selector in ("details.finer summary", "[name=variations]", "body", ".generate"):
        made.execute_script(
            "document.activeElement.blur(); document.querySelector(arguments[0]).focus()", selector
        )
        before = made.execute_script(f"return {PLAYER}.takes.loop")
        press(made, "l")
        after = made.execute_script(f"return {PLAYER}.takes.loop")
        assert before != after
    # What is typed is typed, what a control wants itself it gets.
    field = made.find_element(By.NAME, "description")
    field.send_keys("l l")
    assert field.get_attribute("value") == "l l"
    assert made.execute_script(f"return [{PLAYER}.takes.playing, {PLAYER}.takes.loop]") == [
        False,
        after,
    ]
    made.execute_script("document.querySelector('[name=variations]').focus()")
    press(made, Keys.ARROW_RIGHT)
    assert made.execute_script("return document.querySelector('[name=variations]').checked") is (
        False
    )
    assert made.execute_script(f"return {PLAYER}.currentTime") == pytest.approx(0, abs=6)


def test_after_a_click_space_is_for_the_music(made, fake):
    made.find_element(By.CSS_SELECTOR, ".take .star").click()
    wait_until(lambda: fake.last.remarks[0]["starred"])
    press(made, Keys.SPACE)
    wait_for(made, f"return {PLAYER}.takes.playing")
    press(made, Keys.SPACE)
    wait_for(made, f"return !{PLAYER}.takes.playing")
    assert fake.last.remarks[0]["starred"]
    # Who goes by keys presses the button.
    press(made, Keys.TAB)
    ActionChains(made).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    press(made, Keys.SPACE)
    wait_until(lambda: not fake.last.remarks[0]["starred"])


def test_a_loop_is_set_by_keys(made):
    made.execute_script(f"{PLAYER}.use(); document.activeElement.blur()")
    made.execute_script(f"{PLAYER}.currentTime = 7")
    press(made, "[")
    made.execute_script(f"{PLAYER}.currentTime = 9.5")
    press(made, "]")
    assert made.execute_script(f"return {PLAYER}.takes.loop") == [7, 9.5]
    shown = made.execute_script(
        "return [...document.querySelectorAll('.ends input')].map((e) => e.value)"
    )
    assert shown == ["0:07.0", "0:09.5"]
    ends = made.find_elements(By.CSS_SELECTOR, ".ends input")
    ends[1].clear()
    ends[1].send_keys("0:11.25", Keys.TAB)
    assert made.execute_script(f"return {PLAYER}.takes.loop") == [7, 11.25]


# --- What is said ---------------------------------------------------------------------------------


def test_what_happens_is_announced_and_stands_in_the_tab(page, fake, song):
    usual = page.title
    opened(page, song)
    job = generate(page, fake)
    announced = "return document.getElementById('announcements').textContent"
    assert page.execute_script(announced) == "Begun: built-in"
    role, live = page.execute_script(
        "const e = document.getElementById('announcements'); return [e.role, e.ariaLive]"
    )
    assert role == "status"  # which is polite
    assert live in (None, "polite")
    job.begin()
    job.play(6)
    wait_for(page, "return document.title.startsWith('25 %')")
    play_to_the_end(page, job, 1)
    assert page.execute_script(announced) == f"Done: built-in, seed {job.seed}"
    assert page.title == f"Done – {usual}"
    page.execute_script("dispatchEvent(new Event('focus'))")
    assert page.title == usual


def test_that_the_service_does_not_answer_goes_away(page, fake, song):
    opened(page, song)
    fake.alive = False
    click(page, ".generate")
    says(page, "The service does not answer", ".go .complaint")
    says(page, "Looking for it again", "#about")
    fake.alive = True
    wait_for(page, "return !document.body.innerText.includes('does not answer')")
    says(page, "OpenVINO on CPU", "#about")


# --- Sound ----------------------------------------------------------------------------------------


def test_there_is_one_volume_and_it_stays(made, fake):
    slider = made.find_element(By.CSS_SELECTOR, ".volume input")
    assert slider.get_attribute("value") == "100"
    slider.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 30)
    assert slider.get_attribute("aria-valuetext") == "30 %"
    gain = made.execute_async_script(
        "import('/web/shared/volume.js').then(({ volume }) => arguments[0](volume.gain))"
    )
    assert gain == pytest.approx(0.09)
    assert made.execute_script(f"return {PLAYER}.currentTime") < 6.01  # the keys were the slider's
    made.get(fake.url)
    wait_for(made, "return document.querySelector('.volume input')?.value === '30'")


def test_one_take_is_as_loud_as_itself(made, fake):
    shown = "return document.querySelector('.levelled').checkVisibility()"
    assert not made.execute_script(shown)
    click(made, ".take .retry")
    wait_until(lambda: len(fake.jobs) == 2)
    play_to_the_end(made, fake.last, 2)
    assert made.execute_script(shown)
    # They differ by their seeds alone: nothing to tell apart.
    made.execute_script(f"{PLAYER}.takes.pause(); document.querySelector('.blind').open = true")
    says(made, "Which is better, A or B?", "segue-blind")


# --- Long files, and none -------------------------------------------------------------------------


def long_file(path, seconds):
    time = np.arange(seconds * 8000) / 8000
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 220 * time) * (time % 1 < 0.3), 8000)
    return path


def test_ten_minutes_are_zoomed_and_scrolled(page, fake, tmp_path):
    fake.service["limits"]["audio_seconds"] = 600.0
    page.get(fake.url)
    wait_for(page, "return !!document.querySelector('.invitation')")
    opened(page, long_file(tmp_path / "long.wav", 600))
    view = "const v = document.querySelector('segue-slice').viewport; return [v.from, v.to]"
    # A minute of it is seen, where the slice is.
    assert page.execute_script(view) == pytest.approx([535, 600], abs=6)
    wide = page.execute_script("return document.querySelector('.strip .window').offsetWidth")
    assert wide > 60
    page.execute_script(
        "const s = document.querySelector('[aria-label=\"Scroll the waveform\"]'); s.value = 100;"
        "s.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    assert page.execute_script(view)[0] == pytest.approx(100)
    field = page.find_element(By.CSS_SELECTOR, "segue-slice .time-field input")
    field.clear()
    field.send_keys("5:00", Keys.TAB)
    assert slice_of(page)[0] == 300
    start, end = page.execute_script(view)
    assert start < 300 < end
    page.execute_script("document.querySelector('segue-slice .window').focus()")
    press(page, "+", "+")
    assert page.execute_script(f"{view.replace('return', 'return v.to - v.from; ')}") < 26
    press(page, "0")
    assert page.execute_script(view) == [0, 600]


def test_of_what_is_too_long_the_slice_is_sent(page, fake, tmp_path):
    path = long_file(tmp_path / "long.wav", 100)  # the service takes a minute
    opened(page, path)
    says(page, "It is longer than the service takes: the slice alone is sent.", ".chosen")
    enter(page, "bpm", "120")
    field = page.find_element(By.CSS_SELECTOR, "segue-slice .time-field input")
    field.clear()
    field.send_keys("1:10", Keys.TAB)
    job = generate(page, fake)
    kept = fake.inputs["input-1"]
    assert len(kept["samples"]) / kept["rate"] == pytest.approx(6, abs=1e-3)
    assert fake.asked[1][1]["prompt_start"] == 0
    play_to_the_end(page, job, 1)
    # The same slice is not sent again, another is.
    generate(page, fake)
    assert len(fake.inputs) == 1
    field.clear()
    field.send_keys("0:20", Keys.TAB)
    generate(page, fake)
    assert len(fake.inputs) == 2
    assert complaints_of(page) == []


def test_a_microphone_is_recorded(page, fake):
    click(page, ".record")
    wait_for(page, "return document.querySelector('.recording .time')?.textContent >= '0:01.2'")
    click(page, ".record")
    wait_for(page, "return !!document.querySelector('segue-slice .window')")
    says(page, "recording ", ".chosen h3")
    job = generate(page, fake)
    kept = next(iter(fake.inputs.values()))
    assert kept["facts"]["name"].startswith("recording ")
    assert len(kept["samples"]) / kept["rate"] > 1.1
    assert np.abs(kept["samples"]).max() > 0.01  # Chromium's stand-in beeps
    assert job.prompt_seconds > 1
    assert complaints_of(page) == []


def test_without_leave_to_record_it_is_said(page):
    page.execute_script(
        "navigator.mediaDevices.getUserMedia = () => Promise.reject("
        "new DOMException('no', 'NotAllowedError'))"
    )
    click(page, ".record")
    says(page, "The browser does not let this page record", "#file-complaint")
    assert text(page, ".record") == "Record"
