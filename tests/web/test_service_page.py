"""The service's page in a real browser, beside a service whose jobs do what a test says."""

import base64
import io
import json

import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from segue.demo.prompt import SAMPLE_RATE, band

from .browser import complaints_of, requests_of, resize, wait_for, wait_until
from .fake_service import FakeService

pytestmark = pytest.mark.slow  # each opens pages; the file is begun first

PLAYER = "document.querySelector('segue-player')"


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """Ten seconds of stereo."""
    path = tmp_path_factory.mktemp("songs") / "my song.wav"
    soundfile.write(path, band(10.0).samples, SAMPLE_RATE)
    return path


@pytest.fixture
def fake():
    service = FakeService().start()
    yield service
    service.alive = False
    service.stop()


@pytest.fixture
def page(driver, fake):
    driver.get(fake.url)
    wait_for(driver, "return !!document.querySelector('.invitation')")
    yield driver
    driver.execute_script("sessionStorage.clear(); localStorage.clear()")
    driver.get("about:blank")


def text(driver, selector="body"):
    return driver.execute_script(
        "return document.querySelector(arguments[0])?.innerText ?? ''", selector
    )


def says(driver, line, selector="body"):
    wait_for(
        driver,
        f"return (document.querySelector({json.dumps(selector)})?.innerText ?? '')"
        f".includes({json.dumps(line)})",
    )


def choose(driver, path):
    driver.find_element(By.ID, "file").send_keys(str(path))


def opened(driver, path):
    choose(driver, path)
    wait_for(driver, "return !!document.querySelector('segue-slice .window')")


def press(driver, *keys):
    ActionChains(driver).send_keys(*keys).perform()


def click(driver, selector):
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def generate(driver, fake):
    before = len(fake.jobs)
    click(driver, ".generate")
    wait_until(lambda: len(fake.jobs) > before)
    wait_for(driver, "return !!document.querySelector('.run')")
    return fake.last


def play_to_the_end(driver, job, takes):
    """Let a job run, until so many takes are on the page."""
    job.begin()
    job.play(60)
    job.finish()
    ready(driver, takes)


def ready(driver, takes):
    wait_for(
        driver,
        f"const p = {PLAYER}; return p?.takes?.buffers.length === {takes} "
        "&& p.querySelectorAll('.after[d]').length === "
        f"{takes} && !document.querySelector('.run')",
    )


def slider(driver, name):
    return driver.find_element(By.CSS_SELECTOR, f"segue-slice .{name}")


def drag(driver, name, x):
    """Pull a part of the slice to a place in the window."""
    held = slider(driver, name)
    middle = held.rect["x"] + held.rect["width"] // 2
    ActionChains(driver).drag_and_drop_by_offset(held, int(x - middle), 0).perform()


def slice_of(driver):
    return driver.execute_script(
        "const s = document.querySelector('segue-slice'); return [s.start, s.seconds]"
    )


def test_from_a_file_to_takes_and_another(page, fake, song):
    opened(page, song)
    assert slice_of(page) == [4, 6]
    drag(page, "window", 2)
    assert slice_of(page) == [0, 6]
    page.execute_script(
        """
        document.querySelector("[name=length]").value = 4;
        document.querySelector("[name=variations][value='2']").click();
        document.querySelector("[name=model_name]").value = "facebook/musicgen-small";
        document.querySelector("[name=quantization_mode]").value = "q4_decoder_linears";
        document.querySelector("[name=description]").value = "slow “strings”";
        """
    )
    job = generate(page, fake)
    assert fake.asked[0] == ("/api/inputs", {"file_name": "my song.wav"})
    path, asked = fake.asked[1]
    assert path == "/api/jobs"
    assert fake.inputs["input-1"]["audio"] == song.read_bytes()
    assert asked == {
        "model_name": "facebook/musicgen-small",
        "quantization_mode": "q4_decoder_linears",
        "description": "slow “strings”",
        "variations": 2,
        "top_k": 250,
        "temperature": 1,
        "cfg_coef": 3,
        "seed": -1,
        "prompt_start": 0,
        "prompt_seconds": 6,
        "seconds": 4,
    }

    job.state["queue_status"] = {"position": 2, "estimated_seconds": 45}
    says(page, "Waiting, number 2 in the queue about 45 s to go", ".run")
    fetched = {"downloaded_bytes": 12e8, "total_bytes": 33e8, "speed_bps": 35e6}
    download = {"phase": "download", "repo_id": "facebook/musicgen-small"} | fetched
    job.state = {"status": "warming", "queue_status": download}
    says(page, "Downloading musicgen-small 1.2 GB of 3.3 GB, 35 MB a second", ".run")
    job.state = {"status": "warming", "queue_status": {"message": "loading the model"}}
    says(page, "Loading the model", ".run")
    job.begin()
    job.play(1.5)
    says(page, "Playing on 38 %", ".run")
    # It is heard before it is done, from the prompt on.
    wait_for(page, "return !document.querySelector('.run .playhead').hidden")
    says(page, "Pause", ".run")
    job.play(60)
    job.finish()
    ready(page, 2)

    # What was heard goes on in the player.
    assert page.execute_script(f"return {PLAYER}.takes.playing")
    assert 0 < page.execute_script(f"return {PLAYER}.currentTime") < 6
    names = page.execute_script(f"return {PLAYER}.takes.sources.map((s) => s.name)")
    assert names == [f"musicgen-small, 4 bits, seed {job.seed + n}" for n in range(2)]
    assert page.execute_script(f"return {PLAYER}.takes.duration") == pytest.approx(10, abs=0.01)

    page.execute_script(f"{PLAYER}.querySelector('input[type=radio]').focus()")
    where = page.execute_script(f"return [{PLAYER}.currentTime, performance.now()]")
    press(page, "2")
    there = page.execute_script(
        f"return [{PLAYER}.currentTime, performance.now(), {PLAYER}.takes.selected]"
    )
    assert there[0] - where[0] == pytest.approx((there[1] - where[1]) / 1000, abs=0.03)
    assert there[2] == 1

    click(page, ".take:nth-child(2) a[download]")
    file = page.downloads / f"my song-seed{job.seed + 1}.wav"
    wait_until(file.exists)
    heard, rate = soundfile.read(io.BytesIO(file.read_bytes()))
    assert (rate, len(heard)) == (SAMPLE_RATE, 10 * SAMPLE_RATE)
    assert np.allclose(heard[: 6 * rate], band(10.0).samples[: 6 * rate], atol=1e-4)

    position = page.execute_script(f"{PLAYER}.takes.pause(); return {PLAYER}.currentTime")
    click(page, ".take .retry")
    wait_until(lambda: len(fake.jobs) == 2)
    assert fake.asked[2] == (f"/api/jobs/{job.id}/retry", {})
    play_to_the_end(page, fake.last, 4)
    assert "seed 1002" in text(page, ".take:nth-child(3)")
    # It stays where it was, unless the second run could be heard already: that goes on.
    playing, time = page.execute_script(f"return [{PLAYER}.takes.playing, {PLAYER}.currentTime]")
    assert playing or time >= position
    assert complaints_of(page) == []
    assert all(address.startswith((fake.url, "blob:")) for address in requests_of(page))


def test_everything_goes_by_keyboard(page, fake, song):
    opened(page, song)
    page.execute_script("document.querySelector('segue-slice .window').focus()")
    press(page, Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert slice_of(page) == pytest.approx([0.2, 6])
    press(page, Keys.TAB, Keys.END, Keys.TAB, Keys.PAGE_DOWN, Keys.ARROW_UP)
    # Its start came as near to its end as may be; its end tried the same, and went a step back.
    assert slice_of(page) == pytest.approx([5.7, 0.6])
    press(page, Keys.TAB, "1.5", Keys.TAB)
    press(page, "2", Keys.TAB)
    assert slice_of(page) == [1.5, 2]
    for _ in range(12):
        press(page, Keys.TAB)
        if page.switch_to.active_element.text == "Hear the slice":
            break
    press(page, Keys.SPACE)
    says(page, "Pause", ".chosen")
    press(page, Keys.SPACE)
    for _ in range(12):
        press(page, Keys.TAB)
        if page.switch_to.active_element.text == "Generate":
            break
    press(page, Keys.ENTER)
    wait_until(lambda: fake.jobs)
    wait_for(page, "return !!document.querySelector('.run')")
    play_to_the_end(page, fake.last, 1)
    for _ in range(12):
        if page.switch_to.active_element.get_attribute("class") == "play":
            break
        press(page, Keys.TAB)
    page.execute_script(f"{PLAYER}.takes.pause()")
    press(page, Keys.SPACE)
    wait_for(page, f"return {PLAYER}.takes.playing")
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
    assert outline == "3px"


def test_handles_cannot_leave_what_may_be_heard(page, fake, tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((50 * 8000, 1)), 8000)
    opened(page, path)
    drag(page, "left", 2)
    assert slice_of(page) == pytest.approx([21, 29])
    drag(page, "left", 1270)
    assert slice_of(page) == pytest.approx([49.5, 0.5])
    drag(page, "window", 2)
    assert slice_of(page) == pytest.approx([0, 0.5])
    aria = slider(page, "right").get_attribute
    assert [aria(f"aria-value{name}") for name in ("min", "now", "max")] == ["0.5", "0.5", "29.0"]


def test_what_cannot_be_taken_is_said_before_it_is_sent(page, fake, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("la la la")
    choose(page, notes)
    says(page, "notes.txt is no audio file that can be read", ".complaint")
    empty = tmp_path / "empty.wav"
    empty.touch()
    choose(page, empty)
    says(page, "empty.wav is empty", ".complaint")
    large = tmp_path / "large.wav"
    large.write_bytes(b"RIFF" + bytes(13 << 20))
    choose(page, large)
    says(page, "large.wav has 14 MB; the service takes 13 MB at most", ".complaint")
    long = tmp_path / "long.flac"
    soundfile.write(long, np.zeros((4000 * 8000, 1), "int16"), 8000)
    choose(page, long)
    says(page, "long.flac is 67 min long; 60 min are taken at most", ".complaint")
    assert page.execute_script("return document.getElementById('parameters').hidden")
    assert fake.asked == []


def test_what_no_browser_decodes_may_still_be_sent(page, fake, tmp_path):
    path = tmp_path / "song.aiff"
    soundfile.write(path, band(4.0).samples, SAMPLE_RATE)
    choose(page, path)
    says(page, "This browser cannot draw this file", ".chosen")
    generate(page, fake)
    assert fake.asked[1][1]["prompt_start"] == 0


def test_a_refusal_and_a_failure_are_said_in_their_place(page, fake, song):
    opened(page, song)
    fake.refusal = 429, "the queue is full"
    click(page, ".generate")
    says(page, "The queue is full. Try again in about 20 s.", ".go .complaint")
    fake.refusal = None
    job = generate(page, fake)
    assert text(page, ".go .complaint") == ""
    job.finish(status="failed", error="the model does not fit into memory")
    says(page, "The model does not fit into memory", ".run")
    click(page, ".run .buttons button")
    wait_until(lambda: len(fake.jobs) == 2)
    play_to_the_end(page, fake.last, 1)


def test_a_run_outlives_the_service_and_a_reload(page, fake, song):
    opened(page, song)
    job = generate(page, fake)
    fake.alive = False
    says(page, "The service does not answer. Trying again", ".run")
    fake.alive = True
    job.begin()
    job.play(2)
    says(page, "Playing on", ".run")
    # The stream is cut off, and begins again from its start.
    fake.alive = False
    wait_until(lambda: not fake.streams)
    fake.alive = True
    job.play(2)
    wait_for(page, "return document.querySelector('.run progress').value > 16")
    page.get(fake.url)
    says(page, "Playing on", ".run")
    job.play(60)
    job.finish()
    ready(page, 1)
    page.get(fake.url)
    ready(page, 1)
    # The input need not be chosen again for another one.
    click(page, ".take .retry")
    wait_until(lambda: len(fake.jobs) == 2)
    play_to_the_end(page, fake.last, 2)
    page.execute_script(f"{PLAYER}.takes.pause()")
    click(page, ".take .remove")
    wait_for(page, f"return {PLAYER}.takes.sources.length === 1")
    page.get(fake.url)
    ready(page, 1)
    assert "seed 1002" in text(page, ".take")
    fake.jobs.clear()
    click(page, ".take .retry")
    says(page, "There is no such job", ".take-group .complaint")


def test_a_cancelled_run_is_gone(page, fake, song):
    opened(page, song)
    job = generate(page, fake)
    buttons = page.find_elements(By.CSS_SELECTOR, ".run button")
    next(button for button in buttons if button.text == "Cancel").click()
    wait_for(page, "return !document.querySelector('.run')")
    assert job.state["status"] == "cancelled"


def test_the_same_file_is_sent_once(page, fake, song):
    opened(page, song)
    play_to_the_end(page, generate(page, fake), 1)
    page.execute_script("document.querySelector('segue-slice .window').focus()")
    press(page, Keys.HOME)
    generate(page, fake)
    assert [path for path, _ in fake.asked] == ["/api/inputs", "/api/jobs", "/api/jobs"]
    assert fake.asked[-1][1]["prompt_start"] == 0
    # Gone from the service: sent anew.
    fake.inputs["other"] = fake.inputs.pop("input-1")
    generate(page, fake)
    assert [path for path, _ in fake.asked[3:]] == ["/api/jobs", "/api/inputs", "/api/jobs"]


def test_a_prompt_of_the_service_takes_one_click(driver, fake, song):
    fake.service["prompts"] = [{"name": "band", "title": "Band", "url": "/api/prompts/band.wav"}]
    fake.prompts["/api/prompts/band.wav"] = song.read_bytes()
    driver.get(fake.url)
    says(driver, "Band", ".ready")
    click(driver, ".ready button")
    wait_for(driver, "return !!document.querySelector('segue-slice .window')")
    job = generate(driver, fake)
    assert job.input["name"] == "band.wav"
    assert fake.inputs["input-1"]["audio"] == song.read_bytes()
    driver.execute_script("sessionStorage.clear()")


def test_a_file_is_dropped_anywhere(page, fake, song):
    data = base64.b64encode(song.read_bytes()).decode()
    page.execute_script(
        """
        const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "dropped.wav", { type: "audio/wav" }));
        document.body.dispatchEvent(
          new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        """,
        data,
    )
    says(page, "dropped.wav", ".chosen")


def test_takes_that_are_alike_can_be_told_apart_blind(page, fake, song):
    opened(page, song)
    click(page, "[name=variations][value='2']")
    play_to_the_end(page, generate(page, fake), 2)
    page.execute_script(f"{PLAYER}.takes.pause(); document.querySelector('.blind').open = true")
    says(page, "Which is better, A or B?", "segue-blind")
    assert complaints_of(page) == []


def test_a_name_is_only_a_name(page, fake, tmp_path):
    path = tmp_path / "<img src=x onerror=hacked=1>.wav"
    soundfile.write(path, band(2.0).samples, SAMPLE_RATE)
    opened(page, path)
    page.execute_script("document.querySelector('[name=description]').value = '<b>loud</b>'")
    play_to_the_end(page, generate(page, fake), 1)
    assert "<img src=x" in text(page, ".take-group h3")
    assert "<b>loud</b>" in text(page, ".take")
    assert page.execute_script("return [document.images.length, window.hacked]") == [0, None]
    assert complaints_of(page) == []


def test_no_screen_scrolls_sideways_and_all_controls_have_names(page, fake, song):
    fits(page)
    opened(page, song)
    page.execute_script("document.querySelector('details.finer').open = true")
    fits(page)
    resize(page, 1440)
    click(page, "[name=variations][value='4']")
    job = generate(page, fake)
    job.begin()
    job.play(1)
    wait_for(page, "return document.querySelectorAll('.run .track').length === 4")
    fits(page)
    play_to_the_end(page, job, 4)
    fits(page)


def fits(page):
    for width in (360, 820, 1440):
        resize(page, width)
        page.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )
        wide, room = page.execute_script(
            "const { scrollWidth, clientWidth } = document.documentElement;"
            "return [scrollWidth, clientWidth]"
        )
        assert wide == room
    unnamed = page.execute_script(
        """
        const usable = "button, input, select, a, summary, progress, [role=slider]";
        return [...document.querySelectorAll(usable)]
          .filter((e) => e.checkVisibility())
          .filter((e) => !(e.ariaLabel || e.labels?.length || e.textContent.trim()))
          .map((e) => e.outerHTML);
        """
    )
    assert unnamed == []
    headings = page.execute_script("return [...document.querySelectorAll('h1')].length")
    assert headings == 1


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_its_ground(page, fake, song, dark):
    resize(page, 1440, dark=dark)
    opened(page, song)
    ratios = page.execute_script(
        """
        const style = getComputedStyle(document.body);
        const probe = document.body.appendChild(document.createElement("i"));
        const light = (name) => {
          probe.style.color = `var(--${name})`;
          const rgb = getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).map((c) => c / 255);
          const [r, g, b] = rgb.map((c) => (c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
        };
        const ratio = (a, b) => Math.max(light(a) / light(b), light(b) / light(a));
        return [
          ["ink", "soft", "accent", "warn"].flatMap((t) => [ratio(t, "paper"), ratio(t, "raised")]),
          [ratio("on-accent", "accent")],
          [ratio("new", "raised"), ratio("new", "paper"), ratio("edge", "raised") * 1.05],
        ];
        """
    )
    assert min(ratios[0] + ratios[1]) >= 4.5
    assert min(ratios[2]) >= 3


def test_music_that_comes_in_pieces_is_heard_as_one(page, fake):
    """Rendered offline: the prompt, then a tone in pieces of odd lengths, to the sample."""
    worst, bent, before, gap = page.execute_async_script(
        """
        const done = arguments[0];
        (async () => {
          const { StreamPlayer } = await import("/web/service/stream_player.js");
          const rate = 44100;
          const context = new OfflineAudioContext(1, 4 * rate, rate);
          const tone = (t) => 0.5 * Math.sin((2 * Math.PI * 441 * t) / rate);
          const length = 2 * rate;
          const prompt = new AudioBuffer({ length, numberOfChannels: 1, sampleRate: rate });
          prompt.copyToChannel(Float32Array.from({ length }, (_, t) => tone(t)), 0);
          // Asked for a little more than whole frames; the stream says where they end.
          const live = new StreamPlayer({ prompt, start: 1, seconds: 1.013, from: 2, context });
          live.format({ sample_rate: rate, channels: 1, takes: 1, join_seconds: 3 });
          live.play();
          const pieces = [1, 997, 4410, 12345, 20000];
          let start = 0;
          for (const length of pieces) {
            const samples = Float32Array.from({ length }, (_, n) => tone(start + n));
            live.add(0, start, [samples]);
            // A stream that begins again brings what is known already.
            live.add(0, Math.max(0, start - 10), [samples.slice(0, Math.min(10, length))]);
            start += length;
          }
          const heard = (await context.startRendering()).getChannelData(0);
          const begin = heard.findIndex((s) => Math.abs(s) > 1e-3);
          let [worst, bent] = [0, 0];
          const from = Math.round(live.origin * rate);
          for (let t = 0; t < rate + start; t++) {
            const off = Math.abs(heard[from + t] - tone(t));
            if (t >= rate && t < 1.005 * rate) bent = Math.max(bent, off);
            else worst = Math.max(worst, off);
          }
          const after = heard.slice(from + rate + start).some((s) => s !== 0);
          done([worst, bent, begin - from, after]);
        })().catch((error) => done([String(error), 0, 0, 0]));
        """
    )
    assert worst < 1e-3
    # Right after the join, a step between two samples is bent away.
    assert bent < 0.04
    assert before <= 3
    assert gap is False


def test_music_that_comes_too_slowly_waits_and_goes_on(page):
    page.execute_script(
        """
        window.add = (seconds) => {
          const length = Math.round(seconds * 8000);
          live.add(0, start, [new Float32Array(length)]);
          start += length;
        };
        window.start = 0;
        """
    )
    page.execute_async_script(
        """
        import("/web/service/stream_player.js").then(({ StreamPlayer }) => {
          window.live = new StreamPlayer({ seconds: 6 });
          live.format({ sample_rate: 8000, channels: 1, takes: 1 });
          live.play();
          arguments[0]();
        });
        """
    )
    assert not page.execute_script("return live.playing")
    page.execute_script("add(0.3)")
    wait_for(page, "live.check(); return live.waiting")
    assert page.execute_script("return live.currentTime") == pytest.approx(6.3)
    page.execute_script("add(0.5)")
    assert page.execute_script("return live.waiting")
    page.execute_script("add(2)")
    wait_for(page, "live.check(); return !live.waiting && live.currentTime > 6.4")
    page.execute_script("live.pause()")
    where = page.execute_script("return live.currentTime")
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    assert page.execute_script("return [live.currentTime, live.playing]") == [where, False]
    # Cut off before its end, it does not play for ever.
    page.execute_script("live.end(); live.currentTime = 8.7; live.play()")
    wait_for(page, "live.check(); return !live.playing && live.currentTime === 6")


def test_a_token_is_asked_for_once(driver, fake):
    fake.token = "sesame"
    driver.get(fake.url)
    wait_for(driver, "return !!document.querySelector('.token input')")
    press(driver, "wrong", Keys.ENTER)
    wait_for(driver, "return document.querySelector('.token input')?.value === ''")
    press(driver, "sesame", Keys.ENTER)
    wait_for(driver, "return !!document.querySelector('.invitation')")
    driver.get(fake.url)
    wait_for(driver, "return !!document.querySelector('.invitation')")
    driver.execute_script("sessionStorage.clear()")


@pytest.mark.parametrize("kept", ["{", "null", "5", '"text"', '{"id": 1}', "[null, 5, []]"])
def test_a_damaged_storage_is_left_out_and_the_page_works(page, fake, song, kept):
    page.execute_script(
        """
        for (const storage of [sessionStorage, localStorage])
          for (const key of ["segue.wishes", "segue.export", "segue.volume"])
            storage.setItem(key, arguments[0]);
        """,
        kept,
    )
    page.get(fake.url)
    wait_for(page, "return !!document.querySelector('.invitation')")
    opened(page, song)
    generate(page, fake)
    page.execute_script("localStorage.clear()")
