"""A report's page in a real browser: on its own, whatever is in it, on any screen."""

from selenium.webdriver.common.keys import Keys

from segue.lab.report.write import write_report
from tests.lab import matrix_folder

from .browser import complaints_of, requests_of, resize
from .conftest import opened

HOSTILE = '</script><img src=x onerror="window.hacked=1"><!-- \'"`${window.hacked=1} &lt;'


def test_it_opens_without_a_complaint_and_asks_for_nothing(driver, report_page):
    driver.get(report_page)
    opened(driver)
    assert complaints_of(driver) == []
    assert requests_of(driver) == [report_page]


def test_its_policy_lets_nothing_out(page):
    assert (
        page.execute_async_script(
            """
        const done = arguments[0];
        const image = new Image();
        image.onload = () => done("loaded");
        document.onsecuritypolicyviolation = (event) => done(event.violatedDirective);
        image.src = "https://example.invalid/x.png";
        """
        )
        == "img-src"
    )


def test_no_screen_scrolls_sideways(page):
    for width in (360, 768, 1280):
        _does_not_scroll(page, width)
    page.execute_script("document.querySelectorAll('details').forEach((e) => (e.open = true))")
    _does_not_scroll(page, 360)


def _does_not_scroll(page, width):
    resize(page, width)
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    page_width, room = page.execute_script(
        "const { scrollWidth, clientWidth } = document.documentElement;"
        "return [scrollWidth, clientWidth];"
    )
    assert page_width == room


def test_hostile_names_are_only_names(driver, tmp_path):
    found = matrix_folder.matrix(model=HOSTILE, prompt=HOSTILE, seed=HOSTILE, created=HOSTILE)
    found["machine"] = {HOSTILE: HOSTILE}
    found["pick"] = {"name": HOSTILE, "why": HOSTILE, "environment": [HOSTILE], "command": HOSTILE}
    for row in found["rows"]:
        row["name"] = f"{HOSTILE} {row['name']}"
        row["variant"]["recipe"] = {"scope": HOSTILE, "bits": HOSTILE, "mode": HOSTILE}
        row["bench"]["notes"] = [HOSTILE]
    found["rows"].append(matrix_folder.failed(HOSTILE, HOSTILE))
    page = write_report(matrix_folder.write(tmp_path, found))[1].as_uri()
    driver.get(page)
    opened(driver)
    assert driver.execute_script("return window.hacked") is None
    assert driver.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert driver.execute_script("return document.querySelector('.pick h2').textContent") == HOSTILE
    assert HOSTILE in driver.execute_script(
        "return document.querySelector('segue-player .take .name').textContent"
    )
    assert complaints_of(driver) == []
    assert requests_of(driver) == [page]


def test_what_is_missing_is_a_dash(driver, tmp_path):
    found = matrix_folder.matrix(pick=None, max_kl=None, machine=None, versions=None, request=None)
    for row in found["rows"][2:4]:
        row["bench"] = row["quality"] = None
    found["rows"][4]["quality"]["kl"]["overall"] = {"mean": float("nan"), "ci95": None}
    found["rows"][4]["bench"]["speed"] = {"real_time_factor": "fast"}
    found["rows"].append({"status": "missing"})
    driver.get(write_report(matrix_folder.write(tmp_path, found))[1].as_uri())
    opened(driver)
    body = driver.execute_script("return document.body.innerText")
    assert not any(word in body for word in ("NaN", "undefined", "null", "None", "Infinity"))
    assert "No variant was picked" in body
    assert "not run yet" in body
    assert "–" in body
    assert complaints_of(driver) == []


def test_a_matrix_without_sound_or_figures_still_makes_a_page(driver, tmp_path):
    found = matrix_folder.matrix(rows=[matrix_folder.failed()], pick=None)
    driver.get(write_report(matrix_folder.write(tmp_path, found))[1].as_uri())
    body = driver.execute_script("return document.body.innerText")
    assert "out of memory" in body
    assert "saved no audio" in body
    assert "Nothing was measured" in body
    assert complaints_of(driver) == []


def test_charts_follow_the_width_and_name_the_front(page):
    resize(page, 360)
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    label, width, dots, limit = page.execute_script(
        """
        const drawing = document.querySelector("[data-chart=speed] .drawing");
        const count = (what) => drawing.querySelectorAll(what).length;
        return [drawing.ariaLabel, drawing.firstChild.clientWidth, count(".dot"), count(".limit")];
        """
    )
    assert "baseline, float16, q8" in label
    assert width <= 328
    assert (dots, limit) == (5, 1)


def test_everything_that_can_be_used_has_a_name_and_shows_its_focus(page):
    unnamed = page.execute_script(
        """
        const usable = "button, input:not([hidden]), select, img, [role=img]";
        return [...document.querySelectorAll(usable)]
          .filter((e) => !(e.ariaLabel || e.alt || e.labels?.length || e.textContent.trim()))
          .map((e) => e.outerHTML);
        """
    )
    assert unnamed == []
    outline = page.execute_script(
        """
        document.querySelector(".copy").focus({ focusVisible: true });
        return getComputedStyle(document.activeElement).outlineWidth;
        """
    )
    assert outline == "3px"


def test_the_command_is_copied(page):
    page.find_element("css selector", ".copy").click()
    # Pasted as a person does it: a script may not read the clipboard of a page that is a file.
    page.execute_script("document.body.append(document.createElement('textarea'))")
    field = page.find_element("css selector", "body > textarea")
    field.send_keys(Keys.CONTROL, "v")
    assert field.get_property("value") == matrix_folder.matrix()["pick"]["command"]
