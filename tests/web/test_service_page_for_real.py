"""The page on a real service with a model of toy size: from a file to music."""

import io

import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segue.demo.prompt import SAMPLE_RATE, band
from segue.demo.toy import MELODY_CONFIG, write_checkpoint
from tests.service.http.test_generate import write_adapter
from tests.service.server import Server, encoded
from tests.service.server import song as noise

from .browser import complaints_of, wait_for, wait_until
from .test_service_page import PLAYER, click, opened, press, ready, says
from .test_service_page_bars import BAR, enter, loop
from .test_service_page_takes import groups, select

__all__ = ["loop"]


@pytest.fixture(scope="module")
def served(tmp_path_factory, toy):
    folder = tmp_path_factory.mktemp("served")
    melody = write_checkpoint(folder / "toy-melody", config=MELODY_CONFIG)
    write_adapter(folder / "adapters" / "warm")
    models = ("--models", str(toy), "--models", str(melody))
    adapters = ("--adapters", str(folder / "adapters"))
    options = (*models, "--default-model", f"local/{toy.name}", *adapters)
    with Server(folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_kept(driver, served):
    """Every test begins without takes, and without what the page stored."""
    yield
    driver.execute_async_script(
        """
        const done = arguments[0];
        (async () => {
          const { jobs } = await (await fetch("/api/jobs?limit=100")).json();
          for (const { job_id } of jobs)
            await fetch(`/api/jobs/${job_id}?remove=true`, { method: "DELETE" });
          sessionStorage.clear();
          localStorage.clear();
        })().finally(done);
        """
    )
    driver.get("about:blank")


@pytest.mark.slow
def test_a_file_becomes_music(driver, served, tmp_path):
    path = tmp_path / "my song.wav"
    soundfile.write(path, band(5.0).samples, SAMPLE_RATE)
    driver.get(served.url)
    says(driver, "Drop a piece of music here")
    opened(driver, path)
    driver.execute_script(
        """
        const slice = document.querySelector("segue-slice");
        for (const [field, value] of [["start", 1], ["seconds", 2]]) {
          slice[`${field}Input`].value = value;
          slice[`${field}Input`].dispatchEvent(new Event("change"));
        }
        document.querySelector("[name=length]").value = 3;
        document.querySelector("[name=variations][value='2']").click();
        """
    )
    click(driver, ".generate")
    wait_for(driver, f"return {PLAYER}?.takes?.buffers.length === 2")
    ready(driver, 2)
    seconds, join, prompt, names = driver.execute_script(
        f"""
        const {{ takes, join }} = {PLAYER};
        const prompt = [...takes.buffers[1].getChannelData(0).slice(0, 2 * {SAMPLE_RATE})];
        return [takes.duration, join, prompt, takes.sources.map((s) => s.note)];
        """
    )
    assert (seconds, join) == (pytest.approx(5, abs=0.05), 2)
    wanted = band(5.0).samples[SAMPLE_RATE : 3 * SAMPLE_RATE, 0]
    assert np.allclose(prompt, wanted, atol=2 / 32768)
    assert len(set(names)) == 2
    click(driver, ".take .retry")
    wait_for(driver, f"return {PLAYER}.takes.buffers.length === 4")
    assert complaints_of(driver) == []


def test_whoever_has_no_music_takes_a_prompt_that_is_there(driver, served):
    driver.get(served.url)
    says(driver, "Band", ".ready")
    click(driver, ".ready button")
    wait_for(driver, "return !!document.querySelector('segue-slice .window')")
    driver.execute_script("document.querySelector('[name=length]').value = 3")
    click(driver, ".generate")
    wait_for(driver, f"return {PLAYER}?.takes?.buffers.length === 1")
    assert complaints_of(driver) == []


@pytest.mark.slow
def test_words_a_melody_and_an_adapter_become_music(driver, served, tmp_path):
    tune = tmp_path / "tune.wav"
    soundfile.write(tune, band(2.0).samples, SAMPLE_RATE)
    driver.get(served.url)
    says(driver, "Begin without music, from words")
    click(driver, ".drop .alone")
    driver.execute_script(
        """
        const model = document.querySelector("[name=model_name]");
        model.value = "local/toy-melody";
        model.dispatchEvent(new Event("input", { bubbles: true }));
        document.querySelector("[name=length]").value = 2;
        document.querySelector("[name=variations][value='2']").click();
        document.querySelector("[name=own_words]").click();
        document.querySelector("[name=description_1]").value = "drums";
        document.querySelector("[name=description_2]").value = "slow piano";
        document.querySelector("[name=adapter]").click();
        """
    )
    driver.find_element("id", "melody").send_keys(str(tune))
    wait_for(driver, "return document.querySelector('.melody button').checkVisibility()")
    click(driver, ".generate")
    wait_for(driver, f"return {PLAYER}?.takes?.buffers.length === 2")
    ready(driver, 2)
    seconds, names, different = driver.execute_script(
        f"""
        const {{ takes }} = {PLAYER};
        const [one, other] = takes.buffers.map((buffer) => buffer.getChannelData(0));
        const names = takes.sources.map((s) => s.note);
        return [takes.duration, names, one.some((s, t) => s !== other[t])];
        """
    )
    assert seconds == pytest.approx(2, abs=0.05)
    assert different
    assert [("“drums”" in name, "“slow piano”" in name) for name in names] == [
        (True, False),
        (False, True),
    ]
    assert all("after a melody, warm" in name for name in names)
    # Once more, with the melody that the service has.
    click(driver, ".take .retry")
    wait_for(driver, f"return {PLAYER}.takes.buffers.length === 4")
    assert complaints_of(driver) == []


def downloaded(driver):
    """The samples of what the first take's link downloads, as floats, and their rate."""
    link = driver.find_element(By.CSS_SELECTOR, ".take a[download]")
    file = driver.downloads / link.get_attribute("download")
    file.unlink(missing_ok=True)
    link.click()
    wait_until(file.exists)
    return soundfile.read(io.BytesIO(file.read_bytes()))


@pytest.mark.slow
def test_a_loop_is_continued_in_bars_chained_and_taken_out(driver, served, loop):
    driver.get(served.url)
    says(driver, "Drop a piece of music here")
    opened(driver, loop)
    enter(driver, "bpm", "93")
    driver.find_element(By.CSS_SELECTOR, "segue-slice .window").send_keys(Keys.HOME)
    driver.find_element(By.CSS_SELECTOR, "segue-slice .right").send_keys(Keys.END)
    enter(driver, "length", "2")
    click(driver, ".generate")
    groups(driver, 1)
    ready(driver, 1)
    driver.execute_script(f"{PLAYER}.takes.pause()")
    select(driver, "Format of downloads", "wav32f")
    select(driver, "What is downloaded", "loop")
    heard, rate = downloaded(driver)
    # Whole bars, to the sample, and one's own music as it was.
    assert len(heard) == round(6 * BAR * rate)
    own, _ = soundfile.read(loop)
    assert np.array_equal(heard[: len(own)], own)
    driver.execute_script("document.activeElement.blur()")
    click(driver, ".take .play-on")
    wait_for(driver, "return document.activeElement.textContent === 'Generate'")
    press(driver, Keys.ENTER)
    groups(driver, 2)
    driver.execute_script(f"{PLAYER}.takes.pause()")
    assert driver.execute_script("return document.querySelectorAll('.tree ul ul li').length") == 1
    select(driver, "What is downloaded", "whole")
    chain, _ = downloaded(driver)
    assert len(chain) == round(8 * BAR * rate)
    assert np.array_equal(chain[: len(own)], own)
    select(driver, "What is downloaded", "new")
    new, _ = downloaded(driver)
    assert np.array_equal(new, chain[-len(new) :])
    # After a reload, both are there again.
    driver.get(served.url)
    groups(driver, 2)
    ready(driver, 1)
    assert driver.execute_script("return document.querySelectorAll('.tree ul ul li').length") == 1
    click(driver, ".take .star")
    wait_for(driver, "return document.querySelector('.star').ariaPressed === 'true'")
    click(driver, ".take .remove")
    wait_for(driver, "return !!document.querySelector('.undo button')")
    driver.get(served.url)
    groups(driver, 1)
    says(driver, "Removed lately: ", ".undo")
    click(driver, ".undo button")
    groups(driver, 2)
    assert complaints_of(driver) == []


@pytest.mark.slow
def test_what_the_plugin_made_is_gone_on_from_in_parts(driver, served):
    """`process_audio` on two seconds of which one is the prompt: what the plugin makes is kept."""
    asked = {"prompt_duration": 1, "audio_data": encoded(noise(2.0)), "seed": 3}
    session = served.post("/api/juce/process_audio", **asked).json()["session_id"]
    assert served.finished(session)["status"] == "completed"
    driver.get(served.url)
    ready(driver, 1)
    says(driver, "music from the plugin", ".take-group h3")
    seconds, join = driver.execute_script(f"return [{PLAYER}.takes.duration, {PLAYER}.join]")
    assert (seconds, join) == (pytest.approx(30, abs=0.05), 1)
    click(driver, ".take .play-on")
    wait_for(driver, "return document.activeElement.textContent === 'Generate'")
    driver.find_element(By.XPATH, "//button[text()='Then something else…']").click()
    press(driver, "drums drop out", Keys.TAB, "2")
    enter(driver, "length", "1.5")
    click(driver, ".generate")
    groups(driver, 2)
    ready(driver, 1)
    assert driver.execute_script(f"return {PLAYER}.takes.duration - {PLAYER}.join") == (
        pytest.approx(3.5, abs=0.05)
    )
    says(driver, "“drums drop out”", ".take")
    assert complaints_of(driver) == []
