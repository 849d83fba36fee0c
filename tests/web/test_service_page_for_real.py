"""The page on a real service with a model of toy size: from a file to music."""

import numpy as np
import pytest
import soundfile

from segue.demo.prompt import SAMPLE_RATE, band
from tests.service.server import Server

from .browser import complaints_of, wait_for
from .test_service_page import PLAYER, click, opened, ready, says


@pytest.fixture(scope="module")
def served(tmp_path_factory, toy):
    folder = tmp_path_factory.mktemp("served")
    options = ("--models", str(toy), "--default-model", f"local/{toy.name}")
    with Server(folder / "state", *options, environment={"HF_HUB_OFFLINE": "1"}) as server:
        yield server


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
    click(driver, ".take button")
    wait_for(driver, f"return {PLAYER}.takes.buffers.length === 4")
    assert complaints_of(driver) == []
    driver.execute_script("sessionStorage.clear()")


def test_whoever_has_no_music_takes_a_prompt_that_is_there(driver, served):
    driver.get(served.url)
    says(driver, "Band", ".ready")
    click(driver, ".ready button")
    wait_for(driver, "return !!document.querySelector('segue-slice .window')")
    driver.execute_script("document.querySelector('[name=length]').value = 3")
    click(driver, ".generate")
    wait_for(driver, f"return {PLAYER}?.takes?.buffers.length === 1")
    assert complaints_of(driver) == []
    driver.execute_script("sessionStorage.clear()")
