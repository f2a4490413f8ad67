#!/usr/bin/env python3
"""Opens a report in a real browser without a network and tries what a reader does.

Usage: check_report.py REPORT/index.html SCREENSHOT_FOLDER [--names NAMES.json]

Drives Debian's chromium through its chromedriver (the WebDriver protocol, standard library only).
Looks at: console, requests, sorting by click and by key, both themes and the contrast of every text,
sizes of figures, widths, printing. NAMES.json is a list of texts that the first column of the table
`names` must show, letter by letter.

Exit code 0: all is well; 1: what is wrong stands on stderr; 2: wrong usage; 77: no browser here.
"""
import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

NO_BROWSER = 77
START_SECONDS = 60
REQUEST_SECONDS = 60
MOST_COLUMNS = 12  # of a table that are tried
ENTER = "\ue007"
ELEMENT_KEY = "element-6066-11e4-a52e-4f735466cecf"

# Everything on the page that has text of its own, with the contrast against what lies behind it.
CONTRASTS = r"""
function channels(text) { return (text.match(/[\d.]+/g) || []).map(Number); }
function luminance(c) {
  const parts = c.slice(0, 3).map(v => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
}
function behind(element) {
  for (let e = element; e; e = e.parentElement) {
    const c = channels(getComputedStyle(e).backgroundColor);
    if (c.length >= 3 && (c.length < 4 || c[3] > 0.99)) return c;
  }
  return [255, 255, 255];
}
const found = [];
for (const element of document.querySelectorAll("body *")) {
  if (element.closest("script, style")) continue;
  const own = Array.from(element.childNodes).some(
    n => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
  if (!own || element.getClientRects().length === 0) continue;
  const drawn = element.namespaceURI.endsWith("svg");
  const style = getComputedStyle(element);
  const colour = channels(drawn ? style.fill : style.color);
  if (colour.length < 3) continue;
  // A label on a coloured cell of a drawing has that cell behind it, which this cannot see.
  if (drawn && element.getAttribute("fill") === "#1c1c1c") continue;
  const pair = [luminance(colour), luminance(behind(element))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < (drawn ? 3 : 4.5))
    found.push(element.tagName + " '" + element.textContent.slice(0, 40) + "': " +
      ratio.toFixed(2));
}
return found;
"""

# The tables that can be sorted: per column whether numeric, per row and cell number and text.
TABLES = r"""
return Array.from(document.querySelectorAll("table.sortable")).map(table => ({
  sort: Array.from(table.tHead.rows[0].cells).map(h => h.getAttribute("aria-sort")),
  numeric: Array.from(table.tHead.rows[0].cells).map(h => h.classList.contains("num")),
  rows: Array.from(table.tBodies[0].rows).map(row => Array.from(row.cells).map(cell => ({
    text: cell.textContent, value: cell.dataset.value === undefined ? null : cell.dataset.value,
  }))),
}));
"""


class Browser:
    """One session of a headless chromium, gone at the end with its profile."""

    def __init__(self, chromium, driver):
        self.profile = tempfile.TemporaryDirectory(prefix="kvlab-browser-", ignore_cleanup_errors=True)
        environment = dict(os.environ, HOME=self.profile.name, NO_PROXY="127.0.0.1,localhost")
        self.log = open(os.path.join(self.profile.name, "driver.log"), "wb+")
        self.process = subprocess.Popen([driver, "--port=0"], stdout=self.log, stderr=self.log,
                                        env=environment)
        try:
            self.address = f"http://127.0.0.1:{self._port()}"
            # Chromium cannot wrap a process of root in its sandbox.
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            options = {
                "binary": chromium,
                "args": sandbox + [
                    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage",
                    "--no-first-run", "--force-prefers-reduced-motion",
                    "--disable-background-networking", "--disable-sync",
                    "--disable-component-update", "--force-device-scale-factor=1",
                    f"--user-data-dir={self.profile.name}/profile",
                    # No network: no name is resolved, and what needs none meets a closed port.
                    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9",
                ],
            }
            answer = self._request("POST", "/session", {"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }}})
            self.session = f"/session/{answer['sessionId']}"
        except BaseException:
            self.close()
            raise

    def _port(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.log.seek(0)
            found = re.search(rb"started successfully on port (\d+)", self.log.read())
            if found:
                return int(found.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.log.seek(0)
        raise RuntimeError("chromedriver did not start: " +
                           self.log.read().decode("utf-8", "replace"))

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, method=method,
                                         headers={"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=REQUEST_SECONDS) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode('utf-8', 'replace')[:600]}")

    def post(self, path, **body):
        return self._request("POST", self.session + path, body)

    def get(self, path):
        return self._request("GET", self.session + path)

    def run(self, script, *arguments):
        return self.post("/execute/sync", script=script, args=list(arguments))

    def devtools(self, command, **parameters):
        return self.post("/goog/cdp/execute", cmd=command, params=parameters)

    def element(self, script, *arguments):
        return self.run(script, *arguments)[ELEMENT_KEY]

    def click(self, element):
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})",
                 {ELEMENT_KEY: element})
        self.post(f"/element/{element}/click")

    def press(self, element, key):
        self.post(f"/element/{element}/value", text=key)

    def resize(self, width, height):
        self.post("/window/rect", width=width, height=height)

    def screenshot(self, path):
        """Of the whole page, not only of the window."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip={
            "x": 0, "y": 0, "width": width, "height": min(height, 16000), "scale": 1})
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        try:
            if hasattr(self, "session"):
                self._request("DELETE", self.session)
        except (OSError, RuntimeError):
            pass
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.profile.cleanup()


class Check:
    def __init__(self):
        self.failures = []
        self.made = 0

    def that(self, holds, message):
        self.made += 1
        if not holds:
            self.failures.append(message)


def check_console_and_requests(browser, check, address):
    for entry in browser.post("/se/log", type="browser"):
        check.that(False, f"console: {entry['level']} {entry['message']}")
    requests = []
    for entry in browser.post("/se/log", type="performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(message["params"]["request"]["url"])
    # The browser's own first page is the browser's business.
    outside = sorted({url for url in requests
                      if url.split("#")[0] != address and not url.startswith(("chrome", "data:"))})
    check.that(address in requests,
               "the page itself was not requested: the log of requests is not read")
    check.that(not outside, f"the page asks for more than itself: {outside[:5]}")


def is_dash(text):
    return text.strip() in ("", "-", "\u2013")


def sorted_as_expected(cells, numeric, ascending):
    """Whether a column stands in order, with empty cells last in both directions."""
    missing = [cell["value"] is None if numeric else is_dash(cell["text"]) for cell in cells]
    if missing != sorted(missing):
        return False
    if not numeric:
        return True  # the order of words is the browser's own
    values = [float(cell["value"]) for cell in cells if cell["value"] is not None]
    return values == sorted(values, reverse=not ascending)


def check_sorting(browser, check):
    """Sorts the columns of every table by clicks and the first one by the keyboard too."""
    count = len(browser.run(TABLES))
    moved = numeric_columns = 0
    for number in range(count):
        before = browser.run(TABLES)[number]
        for column, numeric in enumerate(before["numeric"][:MOST_COLUMNS]):
            # Real clicks and keys on the first table; each costs a round trip.
            heading = ("const heading = document.querySelectorAll('table.sortable')[arguments[0]]"
                       ".tHead.rows[0].cells[arguments[1]];")
            if number == 0:
                cell = browser.element(heading + "return heading", number, column)
                button = browser.element(heading + "return heading.querySelector('button')",
                                         number, column)
            for direction in ("ascending", "descending", None):
                if number > 0:
                    table = browser.run(heading + "heading.querySelector('button').click();" +
                                        TABLES, number, column)[number]
                else:
                    if column == 0:
                        browser.press(button, ENTER)
                    else:
                        browser.click(cell)
                    table = browser.run(TABLES)[number]
                where = f"table {number + 1}, column {column + 1}, {direction or 'as written'}"
                check.that(table["sort"][column] == direction, f"{where}: aria-sort")
                check.that(table["sort"].count(None) >= len(table["sort"]) - 1,
                           f"{where}: several columns say they are sorted")
                key = lambda row: json.dumps(row)
                check.that(sorted(map(key, table["rows"])) == sorted(map(key, before["rows"])),
                           f"{where}: rows were lost or changed")
                if direction is None:
                    check.that(table["rows"] == before["rows"], f"{where}: not the first order")
                    continue
                cells = [row[column] for row in table["rows"]]
                check.that(sorted_as_expected(cells, numeric, direction == "ascending"),
                           f"{where}: {[cell['text'] for cell in cells][:8]}")
                moved += table["rows"] != before["rows"]
                numeric_columns += numeric
    check.that(count > 0, "the report has no table to sort")
    check.that(moved > 0, "no click changed the order of any table")
    check.that(numeric_columns > 0, "no column holds numbers")


def background(browser):
    colour = browser.run("return getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 765


def check_themes(browser, check, address, folder):
    def prefer(scheme):
        browser.devtools("Emulation.setEmulatedMedia",
                         features=[{"name": "prefers-color-scheme", "value": scheme}])

    def look(name, dark):
        light = background(browser)
        check.that(light < 0.25 if dark else light > 0.75,
                   f"theme {name}: the page's background has lightness {light:.2f}")
        for text in browser.run(CONTRASTS)[:10]:
            check.that(False, f"theme {name}: contrast too low: {text}")

    prefer("dark")
    look("dark by the system", True)
    browser.screenshot(folder / "dark.png")
    prefer("light")
    look("light by the system", False)
    browser.screenshot(folder / "light.png")
    button = browser.element("return document.getElementById('theme')")
    browser.click(button)
    look("dark by the button", True)
    browser.post("/url", url=address)
    look("dark, remembered", True)
    button = browser.element("return document.getElementById('theme')")
    browser.click(button)
    look("light by the button", False)
    prefer("dark")
    look("light by the button on a dark system", False)
    prefer("light")


def check_figures(browser, check):
    figures = browser.run(
        "return Array.from(document.querySelectorAll('figure')).map(f => {"
        " const drawing = f.querySelector('svg');"
        " const box = drawing ? drawing.getBoundingClientRect() : null;"
        " return {id: f.id, width: box ? box.width : 0, height: box ? box.height : 0,"
        "  texts: drawing ? drawing.querySelectorAll('text').length : 0}; })")
    check.that(figures, "the report has no figure")
    for figure in figures:
        check.that(figure["width"] > 150 and figure["height"] > 40,
                   f"{figure['id']}: drawn at {figure['width']} x {figure['height']}")
        check.that(figure["texts"] > 0, f"{figure['id']}: no text in the drawing")


def check_widths(browser, check, folder):
    for width in (1200, 420):
        browser.resize(width, 1000)
        sizes = browser.run("const e = document.documentElement;"
                            "return [e.scrollWidth, e.clientWidth]")
        check.that(sizes[0] <= sizes[1],
                   f"window of {width}: the page is {sizes[0]} wide, the window {sizes[1]}")
    browser.screenshot(folder / "narrow.png")
    # The heading of a row stays in sight while the rest of a wide table scrolls, and leaves it room.
    boxes = browser.run(
        "return Array.from(document.querySelectorAll('.scroll')).filter("
        "  b => b.scrollWidth > b.clientWidth + 20).map(box => {"
        "    box.scrollLeft = box.scrollWidth;"
        "    const cell = box.querySelector('tbody th, tbody td').getBoundingClientRect();"
        "    const found = {moved: Math.abs(cell.left - box.getBoundingClientRect().left),"
        "      share: cell.width / box.clientWidth,"
        "      heading: box.previousElementSibling ? box.previousElementSibling.textContent : ''};"
        "    box.scrollLeft = 0;"
        "    return found; })")
    for box in boxes:
        where = f"{box['heading'][:60]}: the first column"
        check.that(box["moved"] < 4, f"{where} scrolled away by {box['moved']} pixels")
        check.that(box["share"] < 0.6, f"{where} fills {box['share']:.0%} of a narrow window")
    browser.resize(1200, 1000)
    printed = base64.b64decode(browser.post("/print"))
    check.that(printed.startswith(b"%PDF") and len(printed) > 5000, "printing gives no pages")


def check_structure(browser, check):
    counts = browser.run(
        "const n = s => document.querySelectorAll(s).length;"
        "return {script: n('script'), h1: n('h1'), main: n('main'),"
        " foreign: n('img, iframe, object, embed, form, input, base, link, svg a, foreignObject'),"
        " handlers: Array.from(document.querySelectorAll('*')).filter(e =>"
        "   Array.from(e.attributes).some(a => a.name.startsWith('on'))).length,"
        " nasty: typeof window.nasty}")
    check.that(counts == {"script": 1, "h1": 1, "main": 1, "foreign": 0, "handlers": 0,
                          "nasty": "undefined"}, f"elements that no report has: {counts}")
    links = browser.run("return Array.from(document.querySelectorAll('a')).map("
                        "a => a.getAttribute('href'))")
    strange = [link for link in links
               if not re.match(r"(#|data/|fig/|\.\./|report\.md$|document\.json$|https?://)", link)]
    check.that(not strange, f"links to somewhere else: {strange[:5]}")
    targets = [link[1:] for link in links if link.startswith("#")]
    lost = browser.run("return arguments[0].filter(id => !document.getElementById(id))", targets)
    check.that(not lost, f"contents name what is not there: {lost}")


def check_names(browser, check, names):
    shown = browser.run(
        "const table = document.getElementById('table-names').nextElementSibling"
        "  .querySelector('table');"
        "return Array.from(table.tBodies[0].rows).map(row => row.cells[0].textContent)")
    check.that(len(shown) == len(names), f"{len(shown)} rows for {len(names)} names")
    for name, text in zip(names, shown):
        check.that(text == name, f"name {name!r} is shown as {text!r}")
    labels = browser.run("return Array.from(document.querySelectorAll('svg text'))"
                         ".map(t => t.textContent)")
    for name in names:
        if len(name) <= 16 and "\n" not in name and "\t" not in name and "  " not in name:
            check.that(any(name.strip() in label for label in labels),
                       f"name {name!r} is in no drawing")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--names", type=pathlib.Path)
    arguments = parser.parse_args()
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        print("no chromium or no chromedriver: run tools/setup --test-tools", file=sys.stderr)
        return NO_BROWSER
    arguments.folder.mkdir(parents=True, exist_ok=True)
    address = arguments.report.resolve().as_uri()
    check = Check()
    browser = Browser(chromium, driver)
    try:
        browser.resize(1200, 1000)
        browser.post("/url", url=address)
        check.that(browser.get("/title"), "the page has no title")
        check_structure(browser, check)
        check_figures(browser, check)
        if arguments.names:
            check_names(browser, check, json.loads(arguments.names.read_text(encoding="utf-8")))
        check_sorting(browser, check)
        check_themes(browser, check, address, arguments.folder)
        check_widths(browser, check, arguments.folder)
        check_console_and_requests(browser, check, address)
    finally:
        browser.close()
    for failure in check.failures:
        print(failure, file=sys.stderr)
    print(f"{check.made} checks, {len(check.failures)} failed")
    return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
