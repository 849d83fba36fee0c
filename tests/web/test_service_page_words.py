"""The page without a prompt, with a melody, with adapters, and with words for each take."""

import pytest
import soundfile
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segue.demo.prompt import SAMPLE_RATE, band

from .browser import complaints_of, resize, wait_for, wait_until
from .test_service_page import (
    PLAYER,
    click,
    fake,
    fits,
    generate,
    opened,
    page,
    play_to_the_end,
    press,
    says,
    song,
    text,
)

pytestmark = pytest.mark.slow  # each opens pages; the file is begun first

__all__ = ["fake", "page", "song"]

MELODY = "facebook/musicgen-melody"


@pytest.fixture
def with_adapters(driver, fake):
    """The page of a service that has adapters."""
    fake.service["adapters"] = ["lofi", "choir-v2"]
    driver.get(fake.url)
    wait_for(driver, "return !!document.querySelector('.invitation')")
    yield driver
    driver.execute_script("sessionStorage.clear()")


def alone(driver):
    click(driver, ".drop .alone")
    says(driver, "From words alone", ".chosen")


def choose_model(driver, path):
    driver.execute_script(
        "const m = document.querySelector('[name=model_name]'); m.value = arguments[0];"
        "m.dispatchEvent(new Event('input', { bubbles: true }))",
        path,
    )


def write(driver, name, words):
    field = driver.find_element(By.NAME, name)
    field.clear()
    field.send_keys(words)


def shown(driver, selector):
    return driver.execute_script(
        "return !!document.querySelector(arguments[0])?.checkVisibility()", selector
    )


def label_of(driver, name):
    return driver.execute_script(
        "return document.getElementsByName(arguments[0])[0].labels[0].innerText", name
    )


# --- Without a prompt -----------------------------------------------------------------------------


def test_words_alone_become_music(page, fake):
    alone(page)
    assert label_of(page, "description") == "In words"
    assert not shown(page, "#parameters > .timeline")
    # Without words there is nothing to begin with: nothing is sent.
    click(page, ".generate")
    assert page.execute_script("return document.querySelector(':invalid[name]').name") == (
        "description"
    )
    assert fake.asked == []
    write(page, "description", "slow piano")
    page.execute_script("document.querySelector('[name=length]').value = 4")
    job = generate(page, fake)
    assert fake.asked[0] == (
        "/api/generate",
        {
            "model_name": "built-in",
            "quantization_mode": "none",
            "description": "slow piano",
            "variations": 1,
            "top_k": 250,
            "temperature": 1,
            "cfg_coef": 3,
            "seed": -1,
            "seconds": 4,
        },
    )
    says(page, "from words alone, “slow piano”", ".run")
    job.begin()
    job.play(1)
    says(page, "Pause", ".run")  # it is heard before it is done
    play_to_the_end(page, job, 1)
    assert "There is no prompt" in text(page, ".take-group")
    assert page.execute_script(f"return [{PLAYER}.join, {PLAYER}.takes.duration]") == [None, 4]
    click(page, ".take .retry")
    wait_until(lambda: len(fake.jobs) == 2)
    assert fake.asked[1][0] == f"/api/jobs/{job.id}/retry"
    play_to_the_end(page, fake.last, 2)
    assert len(page.find_elements(By.CSS_SELECTOR, ".take-group")) == 1
    assert complaints_of(page) == []


def test_one_may_change_one_s_mind(page, fake, song):
    alone(page)
    opened(page, song)
    assert label_of(page, "description") == "In words, if you like"
    assert shown(page, "#parameters > .timeline")
    generate(page, fake)
    assert fake.asked[1][0] == "/api/jobs"
    click(page, ".chosen .alone")
    assert label_of(page, "description") == "In words"
    write(page, "description", "drums")
    generate(page, fake)
    assert fake.asked[2][0] == "/api/generate"
    assert "prompt_seconds" not in fake.asked[2][1]


def test_it_goes_by_keyboard(page, fake):
    button = page.find_element(By.CSS_SELECTOR, ".drop .alone")
    for _ in range(10):
        if page.switch_to.active_element == button:
            break
        press(page, Keys.TAB)
    press(page, Keys.ENTER)
    says(page, "From words alone", ".chosen")
    for _ in range(10):
        if page.switch_to.active_element.get_attribute("name") == "description":
            break
        press(page, Keys.TAB)
    press(page, "a calm harp", Keys.ENTER)
    wait_until(lambda: fake.jobs)
    assert fake.last.asked["description"] == "a calm harp"


# --- Words for each take --------------------------------------------------------------------------


def test_each_take_may_have_its_own_words(page, fake, song):
    opened(page, song)
    assert not shown(page, "[name=own_words]")
    write(page, "description", "strings")
    click(page, "[name=variations][value='3']")
    assert shown(page, "[name=own_words]")
    click(page, "[name=own_words]")
    assert not shown(page, "[name=description]")
    names = [f"description_{n}" for n in (1, 2, 3)]
    assert [label_of(page, name) for name in names] == [f"Words for take {n}" for n in (1, 2, 3)]
    assert not shown(page, "[name=description_4]")
    found = page.execute_script(
        "return arguments[0].map((n) => document.getElementsByName(n)[0].value)", names
    )
    assert found == ["strings"] * 3
    write(page, "description_2", "drums")
    write(page, "description_3", " ")
    job = generate(page, fake)
    asked = fake.asked[1][1]
    assert (asked["description"], asked["descriptions"]) == ("", ["strings", "drums", ""])
    play_to_the_end(page, job, 3)
    notes = page.execute_script(f"return {PLAYER}.takes.sources.map((s) => s.note)")
    assert ["“strings”" in n for n in notes] == [True, False, False]
    assert ["“drums”" in n for n in notes] == [False, True, False]
    # One take has the words that were typed for all.
    click(page, "[name=variations][value='1']")
    assert shown(page, "[name=description]")
    generate(page, fake)
    assert fake.asked[2][1]["description"] == "strings"
    assert "descriptions" not in fake.asked[2][1]


# --- A melody -------------------------------------------------------------------------------------


def test_a_melody_is_offered_by_models_that_follow_one(page, fake, song, tmp_path):
    tune = tmp_path / "tune.wav"
    soundfile.write(tune, band(2.0).samples, SAMPLE_RATE)
    opened(page, song)
    assert not shown(page, "#melody")
    choose_model(page, MELODY)
    assert shown(page, "#melody")
    says(page, "Takes a prompt, words and a melody.", "#model-note")
    page.find_element(By.ID, "melody").send_keys(str(tune))
    wait_for(page, "return document.querySelector('.melody button').checkVisibility()")
    play_to_the_end(page, generate(page, fake), 1)
    assert fake.melodies == [tune.read_bytes()]
    assert "after a melody" in text(page, ".take")
    # The same again is not sent again; without the melody, the music is.
    generate(page, fake)
    assert fake.asked[-1][0].endswith("/retry")
    click(page, ".melody button")
    generate(page, fake)
    assert (fake.asked[-1][0], len(fake.melodies)) == ("/api/jobs", 1)
    # Another model follows none.
    page.find_element(By.ID, "melody").send_keys(str(tune))
    wait_for(page, "return document.querySelector('.melody button').checkVisibility()")
    choose_model(page, "built-in")
    assert not shown(page, "#melody")
    generate(page, fake)
    assert len(fake.melodies) == 1


def test_a_melody_alone_needs_no_words(page, fake, song):
    alone(page)
    choose_model(page, MELODY)
    page.find_element(By.ID, "melody").send_keys(str(song))
    wait_for(page, "return !document.querySelector('[name=description]').required")
    generate(page, fake)
    assert fake.asked[0][0] == "/api/generate"
    assert fake.melodies == [song.read_bytes()]
    says(page, "from a melody alone", ".run")


def test_what_is_no_melody_is_said_beside_it(page, fake, song, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("la la la")
    opened(page, song)
    choose_model(page, MELODY)
    page.find_element(By.ID, "melody").send_keys(str(notes))
    says(page, "notes.txt is no audio file that can be read", "#melody-complaint")
    generate(page, fake)
    assert fake.melodies == []


# --- Adapters -------------------------------------------------------------------------------------


def test_without_adapters_there_is_nothing_to_be_seen_of_them(page, fake, song):
    opened(page, song)
    assert not shown(page, ".adapters")
    generate(page, fake)
    assert "adapters" not in fake.asked[-1][1]


def test_adapters_are_chosen_with_a_scale(with_adapters, fake, song):
    page = with_adapters
    opened(page, song)
    boxes = page.find_elements(By.NAME, "adapter")
    assert [page.execute_script("return arguments[0].labels[0].innerText", b) for b in boxes] == [
        "lofi",
        "choir-v2",
    ]
    play_to_the_end(page, generate(page, fake), 1)
    assert fake.asked[-1][1]["adapters"] == []
    for box in boxes:
        box.click()
    scale = page.find_elements(By.NAME, "adapter_scale")[1]
    assert scale.get_attribute("aria-label") == "How much of choir-v2"
    scale.clear()
    scale.send_keys("0.5")
    play_to_the_end(page, generate(page, fake), 2)
    assert fake.asked[-1][1]["adapters"] == ["lofi:1", "choir-v2:0.5"]
    assert "lofi, choir-v2:0.5" in text(page, ".take:nth-child(2)")
    page.get(fake.url)  # as the form was
    wait_for(page, "return !!document.querySelector('.invitation')")
    opened(page, song)
    generate(page, fake)
    assert fake.asked[-1][1]["adapters"] == ["lofi:1", "choir-v2:0.5"]
    assert complaints_of(page) == []


# --- All of it ------------------------------------------------------------------------------------


def test_no_screen_scrolls_sideways_and_all_controls_have_names(with_adapters, fake, song):
    page = with_adapters
    fits(page)
    alone(page)
    choose_model(page, MELODY)
    click(page, "[name=variations][value='4']")
    click(page, "[name=own_words]")
    for box in page.find_elements(By.NAME, "adapter"):
        page.execute_script("arguments[0].click()", box)
    page.find_element(By.ID, "melody").send_keys(str(song))
    wait_for(page, "return document.querySelector('.melody button').checkVisibility()")
    fits(page)
    resize(page, 1440)
    for n in range(4):
        write(page, f"description_{n + 1}", "words " * 20)
    job = generate(page, fake)
    job.begin()
    job.play(1)
    wait_for(page, "return document.querySelectorAll('.run .track').length === 4")
    fits(page)
    play_to_the_end(page, job, 4)
    fits(page)
