"""The report and the page of `complete` in a real browser: playing, stepping, the overlay, sorting, and no errors.

Needs Chromium with its driver (Debian: `chromium` and `chromium-driver`), or Chrome with the same driver.
"""

import os
import shutil
import time

import numpy as np
import pytest

from tests.support.made_up_scores import make_report
from vidcomp_jax.media.player import Player, Row, write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip(
        "no browser: the pages are not tested in one; install chromium and chromedriver", allow_module_level=True
    )

from selenium import webdriver  # noqa: E402 - only where there is a browser
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--disable-gpu", "--window-size=1200,900", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp("report"), ['"><img src=x onerror=alert(1)>', *map(str, range(5))])


@pytest.fixture
def opened(browser, report):
    """The report, freshly opened and paused at its first frame."""
    browser.get(report.as_uri())
    button(browser, "play").click()
    slide_to(browser, 0)
    yield browser
    assert errors(browser) == []


def errors(browser):
    """Return the messages of errors, which include everything that the page was kept from loading."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def button(browser, identifier):
    return browser.find_element(By.ID, identifier)


def slide_to(browser, frame):
    script = "const s = document.getElementById('slider'); s.value = arguments[0]; s.oninput({target: s});"
    browser.execute_script(script, frame)


def where(browser):
    return button(browser, "where").text


def wait_for(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def pixels(browser, canvas):
    """The picture that a canvas shows, [h, w, 4]."""
    script = """const c = document.querySelectorAll('#players canvas')[arguments[0]];
        return [c.height, c.width, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)];"""
    height, width, values = browser.execute_script(script, canvas)
    return np.array(values).reshape(height, width, 4)


def bright_columns(browser, canvas):
    bright = np.flatnonzero((pixels(browser, canvas)[..., 0] > 100).any(0))
    return bright.min() / pixels(browser, canvas).shape[1] * 16


def test_it_plays_and_pauses(opened):
    assert where(opened) == "frame 1 of 5"
    button(opened, "play").click()
    assert button(opened, "play").text == "Pause"
    wait_for(lambda: where(opened) != "frame 1 of 5")
    button(opened, "play").click()
    stopped = where(opened)
    time.sleep(0.4)  # four frames at normal speed
    assert where(opened) == stopped and button(opened, "play").text == "Play"


def test_it_steps_by_buttons_keys_and_the_slider_with_all_clips_in_step(opened):
    button(opened, "forward").click()
    assert where(opened) == "frame 2 of 5"
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_RIGHT)
    assert where(opened) == "frame 3 of 5"
    assert [bright_columns(opened, i) for i in (0, 1, 3, 9)] == [4, 4, 4, 4]  # the square moves 2 pixels a frame
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.ARROW_LEFT)
    button(opened, "back").click()
    button(opened, "back").click()
    assert where(opened) == "frame 5 of 5"  # the frame before the first is the last
    slide_to(opened, 1)
    assert where(opened) == "frame 2 of 5" and bright_columns(opened, 0) == 2


def test_space_presses_a_button_that_has_the_focus_and_otherwise_plays(opened):
    button(opened, "forward").send_keys(Keys.SPACE)
    assert where(opened) == "frame 2 of 5" and button(opened, "play").text == "Play"
    opened.execute_script("document.activeElement.blur()")
    opened.find_element(By.TAG_NAME, "body").send_keys(Keys.SPACE)
    assert button(opened, "play").text == "Pause"
    button(opened, "play").click()


def test_the_overlay_shows_keypoints_of_the_methods_that_have_them(opened):
    def colorful(canvas):
        found = pixels(opened, canvas)[..., :3]
        return (np.ptp(found, axis=-1) > 60).sum()

    assert colorful(0) == 0
    button(opened, "points").click()
    assert colorful(0) > 20 and colorful(3) == 0  # the truth has keypoints, the blend has none
    button(opened, "points").click()
    assert colorful(0) == 0


def test_the_table_sorts_by_a_column_the_best_first(opened):
    def column(place):
        cells = opened.find_elements(By.CSS_SELECTOR, f"#scores tbody tr > :nth-child({place})")
        return [cell.get_attribute("data-value") for cell in cells]

    heads = opened.find_elements(By.CSS_SELECTOR, "#scores thead th")
    names = [head.text.split()[0] for head in heads]
    for name, order in (("L1", 1), ("PSNR", -1)):
        place = names.index(name)
        heads[place].find_element(By.TAG_NAME, "button").click()
        assert column(place + 1) == sorted(column(place + 1), key=lambda value: order * float(value))
        heads[place].find_element(By.TAG_NAME, "button").click()
        assert column(place + 1) == sorted(column(place + 1), key=lambda value: -order * float(value))
    heads[names.index("s/clip")].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    found = column(names.index("s/clip") + 1)
    assert "" in found and found == sorted(found, key=lambda value: value == "")  # rows without a value stay last
    heads[0].find_element(By.TAG_NAME, "button").click()
    assert column(1) == sorted(column(1), key=str.lower)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_in_either_scheme(opened, scheme):
    size = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        width = opened.execute_script("return document.documentElement.scrollWidth")
        ground, ink = (
            sum(map(int, opened.execute_script(f"return getComputedStyle(document.body).{name}")[4:-1].split(",")))
            for name in ("backgroundColor", "color")
        )
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert width == 360
    assert (ground > ink) == (scheme == "light") and abs(ground - ink) > 400


def test_the_page_of_complete_is_the_same_player(browser, tmp_path):
    frames = np.zeros((3, 16, 16, 3), np.float32)
    frames[2] = 1
    write_page(tmp_path / "index.html", [Row("a", [Player("b", frames)])], title="Completed clips", fps=25.0)
    browser.get((tmp_path / "index.html").as_uri())
    button(browser, "play").click()
    slide_to(browser, 2)
    assert where(browser) == "frame 3 of 3" and pixels(browser, 0)[..., :3].min() == 255
    assert errors(browser) == []
