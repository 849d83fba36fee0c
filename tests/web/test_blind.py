"""The blind test in a real browser, by keyboard."""

import json

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from .browser import wait_for, wait_until
from .conftest import opened

BLIND = "document.querySelector('segue-blind')"


def press(driver, *keys):
    ActionChains(driver).send_keys(*keys).perform()


def shift(driver, key):
    ActionChains(driver).key_down(Keys.SHIFT).send_keys(key).key_up(Keys.SHIFT).perform()


def begin(driver, trials=10, test="ABX"):
    """Start a run with nothing but keys."""
    driver.execute_script(f"{BLIND}.querySelector('select').focus()")
    press(driver, "q4", Keys.TAB, test, Keys.TAB, str(trials), Keys.TAB, "Ann", Keys.ENTER)
    assert driver.execute_script(f"return {BLIND}.run.planned") == trials


def answer(driver, right=True):
    """Answer an ABX trial, right or wrong; only a test may look at X."""
    x = driver.execute_script(f"return {BLIND}.x")
    shift(driver, "a" if (x == "baseline") == right else "b")


def votes(driver):
    return driver.execute_script(f"return {BLIND}.votes.exported()")


def said(driver):
    return driver.find_element(By.CSS_SELECTOR, "segue-blind .status").text


def test_the_pick_is_the_first_to_be_offered(page):
    select = page.find_element(By.CSS_SELECTOR, "segue-blind select")
    names = [option.text for option in select.find_elements(By.TAG_NAME, "option")]
    assert names[:2] == ["q8-g64-decoder-linears", "float16"]


def test_ten_trials_of_abx_by_keyboard(page):
    begin(page)
    press(page, Keys.SPACE, "1", "2", "x")
    assert page.execute_script(f"return {BLIND}.takes.playing")
    for trial in range(10):
        heading = page.find_element(By.CSS_SELECTOR, "segue-blind h3").text
        assert heading.startswith(f"Trial {trial + 1} of 10")
        assert not page.find_elements(By.CSS_SELECTOR, "segue-blind .results li")
        answer(page, right=trial != 4)
    assert said(page).startswith("Told apart: 9 of 10 right, p = 0.011.")
    assert not page.execute_script(f"return {BLIND}.takes")
    (run,) = votes(page)["runs"]
    assert (run["variant"], run["listener"], run["test"]) == (
        "q4-g64-decoder-linears",
        "Ann",
        "abx",
    )
    assert len(run["votes"]) == 10


def test_x_is_random_and_so_is_the_page_that_asks(page):
    drawn = []
    begin(page, 32)
    for _ in range(31):
        drawn.append(page.execute_script(f"return {BLIND}.x"))
        shift(page, "a")
    # One draw in 1.8 million has fewer than 3 of either.
    assert 3 <= drawn.count("baseline") <= 28
    markup = page.execute_script(f"return {BLIND}.stage.outerHTML")
    page.execute_script(f"{BLIND}.x = {BLIND}.x === 'baseline' ? 'variant' : 'baseline'")
    assert page.execute_script(f"return {BLIND}.stage.outerHTML") == markup


def test_x_sounds_like_what_it_is(page):
    begin(page)
    for _ in range(5):
        press(page, "3")
        x, heard = page.execute_script(f"return [{BLIND}.x, {BLIND}.takes.selected]")
        assert heard == ["baseline", "variant"].index(x)
        press(page, "1")
        assert page.execute_script(f"return {BLIND}.takes.selected") == 0
        press(page, "b")
        assert page.execute_script(f"return {BLIND}.takes.selected") == 1
        shift(page, "b")


def test_it_plays_the_continuation_over_and_over(page):
    begin(page)
    loop = wait_for(page, f"return {BLIND}.takes?.loop")
    assert loop == pytest.approx([2.5, 6], abs=1e-3)


def test_a_run_goes_on_after_a_reload(page, report_page):
    begin(page)
    for _ in range(3):
        answer(page)
    page.get(report_page)
    opened(page)
    unfinished = page.find_element(By.CSS_SELECTOR, "segue-blind .unfinished")
    assert "stands at 3 of 10" in unfinished.text
    unfinished.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert "Trial 4 of 10" in page.find_element(By.CSS_SELECTOR, "segue-blind h3").text
    for _ in range(7):
        answer(page)
    page.get(report_page)
    opened(page)
    row = page.find_element(By.CSS_SELECTOR, "segue-blind .results li").text
    assert "10 of 10" in row
    assert "0.00098" in row


def test_a_run_that_was_ended_early_is_no_proof(page):
    begin(page)
    for _ in range(5):
        answer(page)
    page.find_element(By.CSS_SELECTOR, "segue-blind .stage .quiet").send_keys(Keys.ENTER)
    assert "Told apart: 5 of 5 right" in said(page)
    assert "p is too small if the score was what ended it" in said(page)


def test_guessing_is_told_what_it_would_take(page):
    begin(page)
    for trial in range(10):
        answer(page, right=trial < 7)
    assert said(page).startswith("Not told apart: 7 of 10 right, p = 0.17;")
    assert "3 more, all right, would have been needed" in said(page)
    assert "a new run of 37 trials" in said(page)


def test_a_preference_does_not_count_what_made_no_difference(page):
    begin(page, 5, "Preference")
    for trial in range(5):
        a = page.execute_script(f"return {BLIND}.x")
        shift(page, "n" if trial == 0 else "a" if a == "variant" else "b")
    assert said(page).startswith("No preference shown: 4 of 4 for q4-g64-decoder-linears, p = 0.13")


def test_votes_are_exported_imported_and_cleared(page, tmp_path):
    begin(page, 5)
    for _ in range(5):
        answer(page)
    kept = votes(page)
    export, _, clear = page.find_elements(By.CSS_SELECTOR, "segue-blind .file button")
    export.click()
    file = page.downloads / f"votes-{kept['report']}.json"
    wait_until(file.exists)
    assert json.loads(file.read_text()) == kept

    clear.click()
    assert votes(page)["runs"] == kept["runs"]
    clear.click()
    assert votes(page)["runs"] == []

    chooser = page.find_element(By.CSS_SELECTOR, "segue-blind input[type=file]")
    other = kept["runs"][0] | {"id": "of somebody else", "listener": "Bo <b>"}
    both = tmp_path / "both.json"
    both.write_text(json.dumps(kept | {"runs": [*kept["runs"], other]}))
    for added in ("2 new runs", "0 new runs"):
        chooser.send_keys(str(both))
        says(page, added)
    assert len(votes(page)["runs"]) == 2
    assert "Bo <b>" in page.find_element(By.CSS_SELECTOR, "segue-blind .results").text


def test_a_file_that_holds_no_votes_says_so(page, tmp_path):
    file = tmp_path / "votes.json"
    good = votes(page)
    run = {"id": "1", "test": "abx", "planned": 5, "votes": [{"x": "nobody"}]}
    for text, complaint in (
        ("not json", "no JSON"),
        ("[]", "no votes of this version"),
        (json.dumps(good | {"report": "x"}), "another report"),
        (json.dumps(good | {"runs": [run]}), "damaged"),
    ):
        file.write_text(text)
        page.find_element(By.CSS_SELECTOR, "segue-blind input[type=file]").send_keys(str(file))
        says(page, complaint)
    assert votes(page)["runs"] == []


def test_without_storage_votes_last_as_long_as_the_page(driver, report_page):
    script = driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {"source": "Storage.prototype.setItem = () => { throw new Error('denied'); };"},
    )
    try:
        driver.get(report_page)
        opened(driver)
        assert "keeps nothing" in said(driver)
        begin(driver, 5)
        for _ in range(5):
            answer(driver)
        assert "5 of 5 right" in said(driver)
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def says(driver, text):
    wait_until(lambda: text in said(driver))
