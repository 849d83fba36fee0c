"""What axe-core finds on the pages, light and dark, wide and narrow: nothing."""

import pytest
from selenium.webdriver.common.by import By

from .axe import violations
from .browser import resize, wait_for
from .test_service_page import (
    PLAYER,
    click,
    fake,
    generate,
    opened,
    page,
    play_to_the_end,
    ready,
    song,
)
from .test_service_page_bars import enter

__all__ = ["fake", "page", "song"]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False)])
def test_nothing_is_wrong_with_the_page(page, fake, song, width, dark):
    resize(page, width, dark=dark)
    assert violations(page) == []
    opened(page, song)
    enter(page, "bpm", "93")
    page.find_element(By.XPATH, "//button[text()='Then something else…']").click()
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert violations(page) == []
    page.execute_script("document.querySelector('.part button').click()")
    click(page, "[name=variations][value='2']")
    job = generate(page, fake)
    job.begin()
    job.play(1)
    wait_for(page, "return document.querySelectorAll('.run .track').length === 2")
    assert violations(page) == []
    play_to_the_end(page, job, 2)
    page.execute_script(f"{PLAYER}.takes.pause(); {PLAYER}.viewport.zoom(4)")
    page.execute_script(f"{PLAYER}.controls.mark(1, 2); document.querySelector('.blind').open = 1")
    click(page, ".take [aria-expanded]")
    click(page, ".take:nth-child(2) .play-on")
    wait_for(page, "return document.querySelector('.chosen h3').textContent.includes('seed')")
    click(page, "[name=variations][value='1']")
    chained = generate(page, fake)
    chained.begin()
    chained.play(60)
    chained.finish()
    wait_for(page, "return !!document.querySelector('.tree li')")
    ready(page, 1)
    click(page, ".take .remove")
    wait_for(page, "return !!document.querySelector('.undo button')")
    assert violations(page) == []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (360, False)])
def test_nothing_is_wrong_with_the_report(driver, report_page, width, dark):
    resize(driver, width, dark=dark)
    driver.get(report_page)
    wait_for(driver, f"return {PLAYER}?.takes?.buffers.length === 5")
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert violations(driver) == []
