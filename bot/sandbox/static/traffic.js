// The traffic inspector: what Slack told the app and how fast it acknowledged, and what the app called.

import { single } from "/static/server.js";
import { el, sync } from "/static/text.js";

const $ = (id) => document.getElementById(id);
const rows = new Map();
let told = null;

export const isOpen = () => !$("traffic").hidden;

export function toggle(open = !isOpen()) {
  $("traffic").hidden = !open;
  $("inspect").setAttribute("aria-expanded", String(open));
  sessionStorage.setItem("traffic", open ? "open" : "");
  if (open) refresh();
}

export const refresh = single(async () => {
  if (!isOpen()) return;
  try {
    const response = await fetch("/page/traffic");
    if (!response.ok) return;
    told = await response.json();
    render();
  } catch {
    // The sandbox is gone; the head of the sidebar says so, and what was shown stays.
  }
});

const ms = (n) => (n === null ? "–" : `${n < 10 ? n.toFixed(1) : Math.round(n)} ms`);
const two = (n, width = 2) => String(n).padStart(width, "0");

function clock(text) {
  const at = new Date(text);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
}

function render() {
  figures(told.summary);
  const words = $("traffic-text").value.trim().toLowerCase();
  const kind = document.querySelector('input[name="traffic-kind"]:checked').value;
  const errors = $("traffic-errors").checked;
  const seen = new Map();
  const nodes = [];
  const fresh = new Set();
  for (const row of told.rows) {
    const base = `${row.type} ${row.at} ${row.name}`;
    const nth = (seen.get(base) ?? 0) + 1;
    seen.set(base, nth);
    const key = `${base} ${nth}`;
    fresh.add(key);
    if (!rows.has(key)) rows.set(key, { node: draw(row), text: haystack(row) });
    if (kind && row.type !== kind) continue;
    if (errors && row.ok && row.level !== "failed") continue;
    if (words && !rows.get(key).text.includes(words)) continue;
    nodes.push(rows.get(key).node);
  }
  for (const key of [...rows.keys()]) if (!fresh.has(key)) rows.delete(key);
  const all = told.rows.length;
  const older = told.left_off ? `, ${told.left_off} older ones left out` : "";
  $("traffic-count").textContent = nodes.length === all ? `${all} shown${older}` : `${nodes.length} of ${all} shown${older}`;
  $("traffic-empty").hidden = nodes.length > 0;
  $("traffic-empty").textContent = all ? "Nothing fits the filter." : "Nothing yet: Slack has told the app nothing, and the app has called nothing.";
  sync($("traffic-rows"), nodes);
}

const haystack = (row) => [row.name, row.kind, row.transport, row.error, row.token, row.about, row.args].filter(Boolean).join("\n").toLowerCase();

function figures(sum) {
  const figure = (value, what, bad = false) => el("span", { class: bad ? "bad" : "" }, el("b", {}, String(value)), ` ${what}`);
  const counted = (n, one, many, bad = false) => figure(n, n === 1 ? one : many, bad && n > 0);
  $("traffic-figures").replaceChildren(
    counted(sum.deliveries, "delivery", "deliveries"),
    figure(ms(sum.p50), "ack p50", sum.p50 >= 1000), figure(ms(sum.p95), "p95", sum.p95 >= 1000), figure(ms(sum.max), "max", sum.max >= 1000),
    figure(sum.failed, "late or failed", sum.failed > 0), counted(sum.calls, "call", "calls"),
    figure(sum.limited, "rate-limited (429)", sum.limited > 0), counted(sum.errors, "error", "errors", true),
    counted(sum.violations, "broken rule", "broken rules", true));
}

const KINDS = { slash_commands: "command", interactive: "interactive", events_api: "event" };
const FAILED = { operation_timeout: "late", not_connected: "not connected", disconnected: "hung up" };

function draw(row) {
  const time = el("time", { class: "t-at", datetime: row.at }, clock(row.at));
  if (row.type === "delivery") {
    const again = row.retry ? el("span", { class: "t-again" }, `retry ${row.retry}`) : null;
    const failed = row.ok ? null : el("span", { class: "t-error", title: row.error ?? "" }, FAILED[row.error] ?? row.error ?? "failed");
    return el("li", {}, el("div", { class: "t-row" }, time, el("span", { class: "t-way in", title: "Slack told the app" }, "→ app"),
      el("span", { class: "t-name" }, el("span", { class: "t-what" }, row.name), el("small", {}, `${KINDS[row.kind] ?? row.kind} · ${row.transport}`), again),
      el("span", { class: "t-result" }, failed, row.ok || row.ms ? el("span", { class: `t-ms ${row.level}`, title: "until the app acknowledged it" }, ms(row.ms)) : null)));
  }
  const args = el("pre", { class: "t-args", tabindex: "0", "aria-label": `Arguments of ${row.name}`, hidden: true }, row.args);
  const button = el("button", {
    type: "button", class: "t-row", "aria-expanded": "false", onclick: () => {
      args.hidden = !args.hidden;
      button.setAttribute("aria-expanded", String(!args.hidden));
    },
  }, time, el("span", { class: "t-way out", title: "The app called Slack" }, "→ Slack"),
  el("span", { class: "t-name" }, el("span", { class: "t-what" }, row.name), el("small", {}, [row.about, row.token === "bot" ? "" : `token: ${row.token}`].filter(Boolean).join(" · "))),
  el("span", { class: "t-result" }, row.ok ? el("span", { class: "t-ok" }, "ok") : el("span", { class: "t-error" }, row.error === "ratelimited" ? "429 ratelimited" : row.error ?? "error")));
  return el("li", {}, button, args);
}

export function prepare() {
  $("inspect").addEventListener("click", () => {
    toggle();
    if (isOpen()) $("traffic-text").focus();
  });
  const close = () => {
    toggle(false);
    $("inspect").focus();
  };
  $("traffic-close").addEventListener("click", close);
  $("traffic").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    if (event.target === $("traffic-text") && event.target.value) {
      event.target.value = "";
      render();
    } else close();
  });
  $("traffic-filters").addEventListener("input", () => {
    if (told) render();
  });
  if (sessionStorage.getItem("traffic")) toggle(true);
}
