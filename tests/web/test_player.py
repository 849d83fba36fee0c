"""The player in a real browser: several takes, one position."""

import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segue.demo.prompt import band
from tests.lab.matrix_folder import JOIN_SECONDS

PLAYER = "document.querySelector('segue-player')"


def press(driver, *keys):
    ActionChains(driver).send_keys(*keys).perform()


@pytest.fixture
def player(page):
    """The page, with the focus on the first take; silent again afterwards."""
    page.find_element(By.CSS_SELECTOR, "segue-player input[type=radio]").send_keys(Keys.NULL)
    page.execute_script(f"{PLAYER}.querySelector('input[type=radio]').focus()")
    yield page
    page.execute_script(f"{PLAYER}.takes.pause()")


def test_takes_are_decoded_as_they_were_written(player):
    wanted = band(6.0).samples[20_000:20_500, 1]
    found, alike, rate, count = player.execute_script(
        f"""
        const [first, last] = [{PLAYER}.takes.buffers[0], {PLAYER}.takes.buffers.at(-1)];
        const prompt = first.getChannelData(0).slice(0, {JOIN_SECONDS} * first.sampleRate);
        const alike = prompt.every((x, n) => x === last.getChannelData(0)[n]);
        const found = [...first.getChannelData(1).slice(20000, 20500)];
        return [found, alike, first.sampleRate, {PLAYER}.takes.buffers.length];
        """
    )
    # Chromium scales positive samples by 32767, negative ones by 32768.
    assert found == pytest.approx(wanted, abs=1.5 / 32768)
    assert (alike, rate, count) == (True, 44_100, 5)


def test_switching_keeps_the_position(player):
    press(player, Keys.SPACE)
    time.sleep(0.4)
    player.execute_script(
        f"""
        window.times = [];
        const note = () => times.push({PLAYER}.currentTime);
        document.addEventListener("keydown", note, true);
        document.addEventListener("keydown", note);
        window.started = [{PLAYER}.currentTime, performance.now() / 1000];
        """
    )
    for key in ("3", "5", Keys.ARROW_UP, "2"):
        press(player, key)
        time.sleep(0.1)
    times, selected, drift = player.execute_script(
        f"""
        const [position, clock] = started;
        const passed = performance.now() / 1000 - clock;
        return [times, {PLAYER}.takes.selected, {PLAYER}.currentTime - position - passed];
        """
    )
    assert len(times) == 8
    gone = [times[n + 1] - times[n] for n in range(0, 8, 2)]
    assert all(0 <= seconds < 0.02 for seconds in gone)
    assert selected == 1
    # The clock of the sound went on all the while.
    assert abs(drift) < 0.05


def test_space_plays_and_pauses_where_it_was(player):
    press(player, Keys.SPACE)
    time.sleep(0.3)
    press(player, Keys.SPACE)
    where = player.execute_script(f"return {PLAYER}.currentTime")
    assert 0.1 < where < 1.5
    time.sleep(0.2)
    assert player.execute_script(f"return [{PLAYER}.currentTime, {PLAYER}.takes.playing]") == [
        where,
        False,
    ]


def test_arrows_seek_and_stay_inside(player):
    press(player, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert player.execute_script(f"return {PLAYER}.currentTime") == pytest.approx(1)
    ActionChains(player).key_down(Keys.SHIFT).send_keys(
        Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT
    ).key_up(Keys.SHIFT).perform()
    assert player.execute_script(f"return {PLAYER}.currentTime") == pytest.approx(6, abs=1e-3)
    press(player, "9")
    assert player.execute_script(f"return {PLAYER}.takes.selected") == 0


def test_a_loop_over_the_continuation_comes_back_to_the_join(player):
    press(player, "l")
    player.execute_script(f"{PLAYER}.currentTime = 5.8")
    press(player, Keys.SPACE)
    time.sleep(0.7)
    loop, where = player.execute_script(f"return [{PLAYER}.takes.loop, {PLAYER}.currentTime]")
    assert loop == pytest.approx([JOIN_SECONDS, 6], abs=1e-3)
    assert JOIN_SECONDS < where < JOIN_SECONDS + 1.5


def test_only_one_take_is_loud_and_all_are_level(player):
    press(player, Keys.SPACE, "4")
    time.sleep(0.3)
    gains = player.execute_script(
        f"return {PLAYER}.takes.running.nodes.map(({{gain}}) => gain.gain.value)"
    )
    wanted = player.execute_script(f"return {PLAYER}.takes.sources.map((s) => s.gain)")
    assert gains == pytest.approx([0, 0, 0, wanted[3], 0], abs=1e-3)
    # Later rows of the fixture are quieter, so it is the first ones that are turned down.
    assert wanted == sorted(wanted)
    assert wanted[-1] == pytest.approx(1)


def test_a_take_is_chosen_and_sought_by_its_waveform(player):
    lane = player.find_elements(By.CSS_SELECTOR, "segue-player .lane")[2]
    ActionChains(player).move_to_element(lane).click().perform()
    where, selected = player.execute_script(
        f"return [{PLAYER}.currentTime, {PLAYER}.takes.selected]"
    )
    assert where == pytest.approx(3, abs=0.05)
    assert selected == 2
