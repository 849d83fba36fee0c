"""Takes on the page: played on from, named, starred, removed and restored, taken out of it."""

import io

import numpy as np
import pytest
import soundfile
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
    ready,
    says,
    slice_of,
    song,
    text,
)
from .test_service_page_bars import BAR, enter, loop

pytestmark = pytest.mark.slow

__all__ = ["fake", "loop", "page", "song"]


@pytest.fixture
def made(page, fake, song):
    """The page with two takes of four seconds on six."""
    opened(page, song)
    click(page, "[name=variations][value='2']")
    page.execute_script("document.querySelector('[name=length]').value = 4")
    play_to_the_end(page, generate(page, fake), 2)
    page.execute_script(f"{PLAYER}.takes.pause()")
    fake.asked.clear()
    return page


def groups(driver, count):
    wait_for(
        driver,
        f"return document.querySelectorAll('.take-group').length === {count} "
        "&& !document.querySelector('.run')",
    )


def select(driver, label, value):
    driver.execute_script(
        "const s = document.querySelector(`[aria-label='${arguments[0]}']`);"
        "s.value = arguments[1]; s.dispatchEvent(new Event('change', { bubbles: true }))",
        label,
        value,
    )


# --- Play on --------------------------------------------------------------------------------------


def test_a_loop_is_continued_chained_and_taken_out(page, fake, loop):
    opened(page, loop)
    enter(page, "bpm", "93")
    page.find_element(By.CSS_SELECTOR, "segue-slice .window").send_keys(Keys.HOME)
    page.find_element(By.CSS_SELECTOR, "segue-slice .right").send_keys(Keys.END)
    enter(page, "length", "4")
    first = generate(page, fake)
    play_to_the_end(page, first, 1)
    page.execute_script(f"{PLAYER}.takes.pause()")
    fake.asked.clear()

    # One click, and the take is the prompt, in the same bars; the next key generates.
    click(page, ".take .play-on")
    says(page, f"loop.wav, seed {first.seed}", ".chosen h3")
    assert slice_of(page) == pytest.approx([4 * BAR, 4 * BAR], abs=1e-4)
    wait_for(page, "return document.activeElement.textContent === 'Generate'")
    press(page, Keys.ENTER)
    wait_until(lambda: len(fake.jobs) == 2)
    (path, asked), second = fake.asked[0], fake.last
    assert path == "/api/jobs"  # nothing is sent again
    assert second.parent["until_seconds"] == pytest.approx(8 * BAR, abs=1e-4)
    assert (second.parent["job"], second.parent["take"]) == (first.id, 1)
    assert (asked["bpm"], asked["bars"], asked["downbeat"]) == (93, 4, 0)
    wait_for(page, "return !!document.querySelector('.run')")
    second.begin()
    second.play(60)
    second.finish()
    groups(page, 2)
    says(page, f"On from built-in, seed {first.seed}", ".take-group h3")
    tree = text(page, ".tree")
    assert f"seed {first.seed}, 4 bars at 93 BPM" in tree
    assert f"seed {second.seed}, 4 bars at 93 BPM" in tree
    assert "from 0:20.645 on" in tree
    assert page.execute_script("return document.querySelectorAll('.tree ul ul li').length") == 1

    # The whole chain, to the sample, as one file.
    click(page, ".take a[download]")
    file = page.downloads / f"music-seed{second.seed}.wav"
    wait_until(file.exists)
    heard, rate = soundfile.read(io.BytesIO(file.read_bytes()))
    assert len(heard) / rate == pytest.approx(12 * BAR, abs=1e-3)
    assert np.allclose(heard[: len(first.prompt)], first.prompt, atol=1e-4)
    assert complaints_of(page) == []


def test_any_position_in_a_take_can_be_gone_on_from(made, fake):
    made.execute_script(f"{PLAYER}.currentTime = 8")
    says(made, "Play on from 0:08.0", ".group-foot")
    click(made, ".here")
    says(made, "seed 1001", ".chosen h3")
    # The first four seconds of the song lie before the prompt, and are in the take.
    assert slice_of(made) == [6, 6]
    generate(made, fake)
    assert fake.last.parent == {"job": "job-1", "take": 1, "until_seconds": 12}
    # By a key, wherever the focus is, from the other take's end.
    made.execute_script(f"{PLAYER}.querySelectorAll('input[type=radio]')[1].focus()")
    press(made, "2", "p")
    says(made, "seed 1002", ".chosen h3")


# --- Kept by the service --------------------------------------------------------------------------


def test_names_notes_and_stars_outlive_the_tab(made, fake):
    click(made, ".take:nth-child(2) .star")
    wait_until(lambda: fake.last.remarks[1]["starred"])
    star = made.find_element(By.CSS_SELECTOR, ".take:nth-child(2) .star")
    wait_for(made, "return arguments[0].getAttribute('aria-pressed') === 'true'", star)
    click(made, ".take:nth-child(2) [aria-expanded]")
    press(made, "Chorus", Keys.TAB, "too bright", Keys.TAB)
    wait_until(lambda: fake.last.remarks[1]["note"])
    assert fake.last.remarks[1] == {"name": "Chorus", "note": "too bright", "starred": True}
    says(made, "Chorus", ".take:nth-child(2) .name")
    made.execute_script("sessionStorage.clear(); localStorage.clear()")
    made.get(fake.url)
    ready(made, 2)
    shown = text(made, ".take:nth-child(2)")
    assert "Chorus" in shown
    assert "too bright" in shown
    assert "★" in shown


def test_a_reload_needs_no_file_again(made, fake):
    fake.inputs["input-1"]["facts"]["name"] = "my song.wav"
    made.get(fake.url)
    ready(made, 2)
    says(made, "my song.wav", ".take-group h3")
    assert made.execute_script(f"return [{PLAYER}.join, {PLAYER}.takes.duration]") == [6, 10]
    click(made, ".take .play-on")
    says(made, "seed 1001", ".chosen h3")
    generate(made, fake)
    assert [path for path, _ in fake.asked] == ["/api/jobs"]


def test_another_slice_of_the_same_music_needs_no_file(made, fake):
    made.get(fake.url)
    ready(made, 2)
    click(made, ".reopen")
    says(made, "my song.wav", ".chosen h3")
    assert slice_of(made) == [4, 6]
    made.execute_script("document.querySelector('segue-slice .window').focus()")
    press(made, Keys.HOME)
    generate(made, fake)
    assert [path for path, _ in fake.asked] == ["/api/jobs"]
    assert fake.last.input["input_id"] == "input-1"
    assert fake.last.start == 0


def test_older_takes_are_fetched_when_they_are_wanted(made, fake):
    made.execute_script("document.querySelector('segue-slice .window').focus()")
    press(made, Keys.HOME)
    job = generate(made, fake)
    job.begin()
    job.play(60)
    job.finish()
    groups(made, 2)
    made.get(fake.url)
    groups(made, 2)
    ready(made, 2)  # the newest is open
    older = made.find_elements(By.CSS_SELECTOR, ".take-group")[1]
    assert len(older.find_elements(By.CSS_SELECTOR, ".take")) == 0
    older.find_element(By.XPATH, ".//button[text()='Show 2 takes']").click()
    wait_until(lambda: len(older.find_elements(By.CSS_SELECTOR, ".take .after[d]")) == 2)


def test_what_is_removed_comes_back(made, fake):
    click(made, ".take:nth-child(1) .remove")
    wait_for(made, f"return {PLAYER}.takes.sources.length === 1")
    says(made, "Removed: built-in, seed 1001.", ".undo")
    assert fake.last.removed == {0}
    click(made, ".undo button")
    wait_for(made, f"return {PLAYER}.takes.sources.length === 2")
    assert text(made, ".undo") == ""
    # The last one, too, with which its job goes.
    click(made, ".take .remove")
    wait_for(made, f"return {PLAYER}.takes.sources.length === 1")
    click(made, ".take .remove")
    wait_for(made, "return !document.querySelector('.take-group')")
    assert not fake.jobs
    says(made, "Removed: built-in, seed 1001.", ".undo")
    click(made, ".undo button")
    ready(made, 1)
    # After a reload, too.
    click(made, ".take .remove")
    wait_for(made, "return !document.querySelector('.take-group')")
    made.get(fake.url)
    says(made, "Removed lately: built-in, seed 1001.", ".undo")
    click(made, ".undo button")
    ready(made, 2)
    assert complaints_of(made) == []


# --- Get it out -----------------------------------------------------------------------------------


def test_a_take_is_downloaded_in_parts_and_formats(made, fake):
    seed = fake.last.seed
    for part, kind, name, seconds, subtype in (
        ("new", "flac", f"my song-seed{seed}-new.flac", 4, "PCM_24"),
        ("loop", "wav32f", f"my song-seed{seed}-loop.wav", 10, "FLOAT"),
        ("whole", "mp3", f"my song-seed{seed}.mp3", 14, "MPEG_LAYER_III"),
    ):
        select(made, "What is downloaded", part)
        select(made, "Format of downloads", kind)
        made.find_element(By.CSS_SELECTOR, ".take a[download]").click()
        file = made.downloads / name
        wait_until(file.exists)
        found = soundfile.info(io.BytesIO(file.read_bytes()))
        assert found.subtype == subtype
        assert found.frames / found.samplerate == pytest.approx(seconds, abs=0.1)
    # The choice stays.
    made.get(fake.url)
    ready(made, 2)
    chosen = made.execute_script("return document.querySelector('.take a[download]').href")
    assert chosen.endswith("/takes/1/audio?part=whole&format=mp3")


def test_a_take_is_dragged_out(made, fake):
    select(made, "What is downloaded", "new")
    data = made.execute_script(
        """
        const dataTransfer = new DataTransfer();
        document.querySelector(".take a[download]").dispatchEvent(
          new DragEvent("dragstart", { dataTransfer, bubbles: true }));
        return ["DownloadURL", "text/uri-list"].map((type) => dataTransfer.getData(type));
        """
    )
    url = f"{fake.url}api/jobs/job-1/takes/1/audio?part=new&format=wav24"
    name = f"my song-seed{fake.last.seed}-new.wav"
    assert data == [f"audio/wav:{name}:{url}", url]


# --- Tempo, parts, models -------------------------------------------------------------------------


def test_the_service_finds_the_tempo(page, fake, song):
    opened(page, song)
    page.find_element(By.XPATH, "//button[text()='Find it']").click()
    wait_for(page, "return document.querySelector('[name=bpm]').value === '93'")
    grid = page.execute_script(
        "return document.querySelector('.grid-fields .time-field input').value"
    )
    assert grid == "0:00.250"
    generate(page, fake)
    assert [path for path, _ in fake.asked] == ["/api/inputs", "/api/jobs"]  # sent once
    assert fake.asked[1][1]["downbeat"] == 0.25


def test_parts_have_words_and_lengths_of_their_own(page, fake, song):
    opened(page, song)
    page.find_element(By.XPATH, "//button[text()='Then something else…']").click()
    press(page, "drums drop out", Keys.TAB, "5")
    assert text(page, ".sum") == "6 s of yours, then 29 s new"
    enter(page, "bpm", "120")
    job = generate(page, fake)
    asked = fake.asked[-1][1]
    assert asked["bars"] == 16
    assert asked["parts"] == [{"description": "drums drop out", "bars": 2}]
    play_to_the_end(page, job, 1)
    says(page, "“drums drop out”", ".take")
    page.find_element(By.CSS_SELECTOR, ".part button").click()
    generate(page, fake)
    assert "parts" not in fake.asked[-1][1]


def test_a_model_is_downloaded_with_pause(page, fake, song):
    opened(page, song)
    page.execute_script(
        "const m = document.querySelector('[name=model_name]'); m.value = arguments[0];"
        "m.dispatchEvent(new Event('input', { bubbles: true }))",
        "thepatch/bleeps-medium",
    )
    says(page, "3.3 GB to download; 120.0 GB are free.", ".model")
    page.find_element(By.XPATH, "//button[text()='Download']").click()
    wait_until(lambda: fake.downloads)
    (state,) = fake.downloads.values()
    state["queue_status"]["downloaded_bytes"] = 11e8
    says(page, "Downloading bleeps-medium: 1.1 GB of 3.3 GB", ".model")
    page.find_element(By.XPATH, "//button[text()='Pause']").click()
    says(page, "Paused: 1.1 GB of 3.3 GB", ".model")
    # It is found again after a reload, and goes on.
    page.get(fake.url)
    wait_for(page, "return !!document.querySelector('.invitation')")
    opened(page, song)
    page.execute_script(
        "const m = document.querySelector('[name=model_name]'); m.value = arguments[0];"
        "m.dispatchEvent(new Event('input', { bubbles: true }))",
        "thepatch/bleeps-medium",
    )
    says(page, "Paused: 1.1 GB of 3.3 GB", ".model")
    page.find_element(By.XPATH, "//button[text()='Go on']").click()
    wait_until(lambda: state["status"] == "warming")
    state["status"] = "completed"
    for model in fake.service["models"]:
        model["downloaded"] = True
    says(page, "On this machine.", ".model")
    assert complaints_of(page) == []
