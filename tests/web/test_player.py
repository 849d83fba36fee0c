"""The player in a real browser: several takes, one position."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segue.demo.prompt import band
from tests.lab.matrix_folder import JOIN_SECONDS

from .browser import wait_for

PLAYER = "document.querySelector('segue-player')"

STOPPED_CLOCK = """
    const found = Object.getOwnPropertyDescriptor(BaseAudioContext.prototype, "currentTime");
    const get = function () { return window.now ??= found.get.call(this); };
    Object.defineProperty(BaseAudioContext.prototype, "currentTime", { ...found, get });
"""
"""Stops the clock of the sound, for the page, where it is looked at next; then it is `now`."""


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
    wait_for(player, f"return {PLAYER}.currentTime > 0")  # it is really heard
    player.execute_script(STOPPED_CLOCK)
    player.execute_script(f"window.sound = {PLAYER}.takes.running")
    before = player.execute_script(f"return {PLAYER}.currentTime")
    for key, take in (("3", 2), ("5", 4), (Keys.ARROW_UP, 3), ("2", 1)):
        press(player, key)
        where, selected, same = player.execute_script(
            f"const {{ takes }} = {PLAYER};"
            "return [takes.currentTime, takes.selected, takes.running === sound]"
        )
        # Nothing was started anew: what sounds is what sounded.
        assert (where, selected, same) == (before, take, True)
    player.execute_script("now += 0.25")
    after = player.execute_script(f"return {PLAYER}.currentTime")
    assert after == pytest.approx(before + 0.25)


def test_space_plays_and_pauses_where_it_was(player):
    press(player, Keys.SPACE)
    player.execute_script(STOPPED_CLOCK)
    before = player.execute_script(f"return {PLAYER}.currentTime")
    player.execute_script("now += 0.5")
    press(player, Keys.SPACE)
    where = player.execute_script(f"return {PLAYER}.currentTime")
    assert before + 0.4 < where <= before + 0.5 + 1e-6  # a start is a moment ahead
    player.execute_script("now += 1")
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
    where = wait_for(player, f"const at = {PLAYER}.currentTime; return at < 5.8 && at")
    assert where >= JOIN_SECONDS - 1e-3
    loop = player.execute_script(f"return {PLAYER}.takes.loop")
    assert loop == pytest.approx([JOIN_SECONDS, 6], abs=1e-3)


def test_only_one_take_is_loud_and_all_are_level(player):
    press(player, Keys.SPACE, "4")
    wanted = player.execute_script(f"return {PLAYER}.takes.sources.map((s) => s.gain)")
    wait_for(  # they fade
        player,
        f"const gains = {PLAYER}.takes.running.nodes.map(({{ gain }}) => gain.gain.value);"
        "return gains.every((gain, n) => Math.abs(gain - arguments[0][n]) < 1e-3)",
        [0, 0, 0, wanted[3], 0],
    )
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
