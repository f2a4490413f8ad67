#include "report_page.h"

namespace kvlab::report_page {

// Two themes by custom properties: the system's choice, unless the button chose one. Drawings use
// mid-grey text and colours for a light page, which the page's own replace for better contrast.
const char* const kStyle = R"css(
:root {
  color-scheme: light;
  --page: #fbfbfa; --panel: #ffffff; --text: #1d2126; --soft: #59616b; --line: #dde0e4;
  --accent: #005f99; --good: #0a6b3d; --bad: #a8320a; --shade: rgb(0 0 0 / .16);
  --good-panel: #eaf5ef; --bad-panel: #fcefe9;
  --warn: #8a5a00; --best-panel: #e8f2fa; --code: #f0f1f3; --hover: #f5f6f7;
  --blue: #0072b2; --vermilion: #d55e00; --green: #009e73;
}
@media (prefers-color-scheme: dark) { :root:not([data-theme="light"]) {
  color-scheme: dark;
  --page: #14171a; --panel: #1b1f23; --text: #e6e8ea; --soft: #a3abb5; --line: #343a41;
  --accent: #6cb8ee; --good: #5fc795; --bad: #f5936d; --shade: rgb(0 0 0 / .6);
  --good-panel: #16291f; --bad-panel: #33201a;
  --warn: #e3b04b; --best-panel: #172a3a; --code: #262b31; --hover: #20252a;
  --blue: #4aa3e0; --vermilion: #f0803c; --green: #2fbd93;
} }
:root[data-theme="dark"] {
  color-scheme: dark;
  --page: #14171a; --panel: #1b1f23; --text: #e6e8ea; --soft: #a3abb5; --line: #343a41;
  --accent: #6cb8ee; --good: #5fc795; --bad: #f5936d; --shade: rgb(0 0 0 / .6);
  --good-panel: #16291f; --bad-panel: #33201a;
  --warn: #e3b04b; --best-panel: #172a3a; --code: #262b31; --hover: #20252a;
  --blue: #4aa3e0; --vermilion: #f0803c; --green: #2fbd93;
}
* { box-sizing: border-box; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: 2rem 1.5rem 5rem; }
p, li, dd { max-width: 46rem; overflow-wrap: anywhere; }
.note, figcaption { max-width: 64rem; overflow-wrap: anywhere; }
h1 { font-size: 2rem; line-height: 1.2; margin: .2rem 0 .6rem; letter-spacing: -.015em; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3rem 0 .8rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
a { color: var(--accent); text-underline-offset: .15em; }
code, pre { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; font-size: .875em; background: var(--code); border-radius: 4px; }
code { padding: .1em .3em; overflow-wrap: anywhere; }
pre { padding: .7rem .9rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  margin: .3rem 0; }
.top { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem; }
.kind { color: var(--soft); font-size: .9rem; letter-spacing: .02em; }
#theme { font: inherit; font-size: .85rem; color: var(--soft); background: none; cursor: pointer;
  border: 1px solid var(--line); border-radius: 6px; padding: .15rem .6rem; }
.question { font-size: 1.15rem; color: var(--soft); margin: 0 0 1.4rem; }
.conclusions { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  border-left: 4px solid var(--accent); padding: 1rem 1.4rem; margin: 1.2rem 0; }
.conclusions h2 { font-size: 1rem; margin: 0 0 .3rem; padding: 0; border: 0; }
.conclusions ul { margin: 0; padding-left: 1.2rem; }
.conclusions li + li { margin-top: .3rem; }
.status, .notice { border-radius: 8px; padding: .55rem 1rem; margin: 1rem 0; max-width: none; }
.status.good { background: var(--good-panel); color: var(--good); }
.status.bad, .notice { background: var(--bad-panel); color: var(--bad); }
.status a { color: inherit; }
.status strong { font-weight: 650; }
dl { display: grid; grid-template-columns: fit-content(16rem) minmax(0, 1fr);
  gap: .4rem 1.4rem; margin: 1.2rem 0; }
dt { color: var(--soft); overflow-wrap: anywhere; } dd { margin: 0; min-width: 0; }
dd ul { margin: 0; padding-left: 1.1rem; }
nav { font-size: .92rem; margin: 1.4rem 0 0; color: var(--soft); }
nav a { display: inline-block; max-width: 100%; margin-right: 1.1rem; overflow-wrap: anywhere; }
h1, h2, h3 { overflow-wrap: anywhere; }
/* The last two layers are shadows, which the first two cover at the ends: there is more to see. */
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px;
  background:
    linear-gradient(to right, var(--panel) 30%, transparent) left / 2.5rem 100%,
    linear-gradient(to left, var(--panel) 30%, transparent) right / 2.5rem 100%,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100%,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100%, var(--panel);
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll, scroll; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem;
  line-height: 1.4; }
th, td { padding: .5rem .8rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--line);
  max-width: min(26rem, 60vw); overflow-wrap: break-word; }
tbody th { font-weight: 600; white-space: nowrap; }
/* The first column stays in sight, so it must leave a narrow window room for the others. */
th:first-child, td:first-child { position: sticky; left: 0; background: var(--panel);
  max-width: min(26rem, 42vw); overflow-wrap: break-word; }
.wide th:first-child, .wide td:first-child { box-shadow: 1px 0 0 var(--line); }
.wide { font-size: .86rem; }
.wide th, .wide td { padding-left: .55rem; padding-right: .55rem; }
.wide td:not(.num) { min-width: 9rem; }
.long, .wide td.long { min-width: min(16rem, 40vw); max-width: min(26rem, 60vw);
  overflow-wrap: anywhere; }
tbody th.long { white-space: normal; }
th.long:first-child, .wide td.long:first-child { max-width: min(26rem, 42vw); }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.unit { display: block; font-weight: 400; font-size: .85em; color: var(--soft); }
.sortable thead th { cursor: pointer; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  display: inline-block; max-width: 100%; overflow-wrap: inherit; text-align: inherit;
  text-decoration: underline dotted var(--line) 2px;
  text-underline-offset: .25em; }
th button:hover { color: var(--accent); text-decoration-color: currentcolor; }
th[aria-sort="ascending"] button::after { content: "\00A0\2191"; color: var(--accent); }
th[aria-sort="descending"] button::after { content: "\00A0\2193"; color: var(--accent); }
tbody tr:hover > td:not(.best) { background: var(--hover); }
th button:focus-visible, #theme:focus-visible, a:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px; }
.best { font-weight: 700; background: var(--best-panel); }
.warning { color: var(--warn); }
.warning::before { content: "\26A0\FE0E\00A0"; }
.muted { color: var(--soft); }
.pass { color: var(--good); white-space: nowrap; font-weight: 600; }
.fail { color: var(--bad); white-space: nowrap; font-weight: 600; }
.verdict { font-weight: 650; }
.verdict.better { color: var(--good); }
.verdict.worse { color: var(--bad); }
.verdict.refused { color: var(--warn); }
.verdict.neutral { color: var(--soft); }
.note, .files, figcaption { font-size: .88rem; color: var(--soft); margin: .45rem 0 0; }
figcaption strong { color: var(--text); font-weight: 600; }
figure { margin: 1.8rem 0; }
.drawing { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: .8rem; overflow-x: auto; }
.drawing svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.drawing svg text[fill="#8a8a8a"] { fill: var(--soft); }
.drawing svg [fill="#0072b2"] { fill: var(--blue); }
.drawing svg [stroke="#0072b2"] { stroke: var(--blue); }
.drawing svg [fill="#d55e00"] { fill: var(--vermilion); }
.drawing svg [stroke="#d55e00"] { stroke: var(--vermilion); }
.drawing svg [fill="#009e73"] { fill: var(--green); }
.drawing svg [stroke="#009e73"] { stroke: var(--green); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 600px) {
  main { padding: 1.2rem 1rem 3rem; } h1 { font-size: 1.5rem; }
  .drawing svg { width: 35rem; max-width: none; }
  dl { grid-template-columns: 1fr; gap: .1rem; } dd { margin-bottom: .6rem; }
  tbody th { white-space: normal; }
}
/* Paper is white whichever theme is on the screen. */
@media print {
  :root, :root[data-theme], :root:not([data-theme="light"]) {
    color-scheme: light;
    --page: #fff; --panel: #fff; --text: #000; --soft: #444; --line: #bbb; --accent: #005f99;
    --good: #0a6b3d; --bad: #a8320a; --good-panel: #fff; --bad-panel: #fff; --warn: #8a5a00;
    --best-panel: #fff; --code: #fff; --blue: #0072b2; --vermilion: #d55e00; --green: #009e73;
  }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  nav, #theme, th button::after, .files { display: none; }
  .scroll, .drawing { overflow: visible; border: 0; padding: 0; }
  th, td { padding: .2rem .35rem; } table { font-size: 8pt; }
  th:first-child, td:first-child { position: static; }
  figure, tr, .conclusions { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
)css";

const char* const kScript = R"js(
(function () {
  "use strict";
  var root = document.documentElement, button = document.getElementById("theme");
  function stored(value) {
    try {
      if (value === undefined) return localStorage.getItem("kvlab-theme");
      localStorage.setItem("kvlab-theme", value);
    } catch (error) { /* a file opened from disk may have no storage */ }
    return null;
  }
  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function show(theme) {
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    button.textContent = isDark() ? "Light theme" : "Dark theme";
  }
  show(stored());
  button.hidden = false;
  button.addEventListener("click", function () {
    var theme = isDark() ? "light" : "dark";
    stored(theme);
    show(theme);
  });
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var body = table.tBodies[0], original = Array.from(body.rows);
    var headings = Array.from(table.tHead.rows[0].cells);
    headings.forEach(function (heading, column) {
      var click = document.createElement("button");
      var label = heading.querySelector(".label");
      click.type = "button";
      click.textContent = label.textContent;
      click.title = "Sort by this column: ascending, descending, as written";
      label.replaceWith(click);
      // The whole heading takes the click; its button is for the keyboard.
      heading.addEventListener("click", function () {
        var order = { none: "ascending", ascending: "descending", descending: "none" };
        var next = order[heading.getAttribute("aria-sort") || "none"];
        headings.forEach(function (other) { other.removeAttribute("aria-sort"); });
        var rows = original.slice();
        if (next !== "none") {
          heading.setAttribute("aria-sort", next);
          var sign = next === "ascending" ? 1 : -1;
          var numeric = heading.classList.contains("num");
          rows.sort(function (a, b) {
            var left = a.cells[column], right = b.cells[column];
            // An empty or dashed cell has nothing to be sorted by.
            var noLeft = /^[\u2013-]?$/.test(left.textContent.trim());
            var noRight = /^[\u2013-]?$/.test(right.textContent.trim());
            if (!numeric && (noLeft || noRight)) return noLeft - noRight;
            if (!numeric)
              return sign * left.textContent.localeCompare(right.textContent, "en",
                { numeric: true });
            // Cells without a number stay at the end in both directions.
            var x = parseFloat(left.dataset.value), y = parseFloat(right.dataset.value);
            if (isNaN(x) || isNaN(y)) return (isNaN(x) ? 1 : 0) - (isNaN(y) ? 1 : 0);
            return sign * (x - y);
          });
        }
        rows.forEach(function (row) { body.appendChild(row); });
      });
    });
  });
})();
)js";

}  // namespace kvlab::report_page
