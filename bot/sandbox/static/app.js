// The page: shows what one person sees, and tells the server what that person does.

import { blocks, valueOf } from "/static/blocks.js";
import { Drawn, avatar, busy, channelNodes, confirmed, isReply, mainList, rootOf, threadLink, threadNodes } from "/static/messages.js";
import { act, become, page, single, toast } from "/static/server.js";
import { el, emoji, mrkdwn, simple, sync } from "/static/text.js";
import * as traffic from "/static/traffic.js";
import { Writer, commandItems } from "/static/writer.js";

const $ = (id) => document.getElementById(id);

const main = new Drawn("m");
const side = new Drawn("t");
const read = new Map();
const noticed = new Set();
const typed = new Map();
let modalKey = "";
let modalErrors = {};
let firstNotices = true;
let homeKey = "";
let homeOpened = "";
let open = "";
let jumped = "";

// --- hearing from the server

const refresh = single(async () => {
  try {
    let response = await fetch(`/page/state?user=${encodeURIComponent(page.me)}`);
    if (response.status === 404 && page.me !== "alice") {
      become("alice");
      response = await fetch("/page/state?user=alice");
    }
    if (!response.ok) return;
    page.state = await response.json();
  } catch {
    gone();
    return;
  }
  render();
});

function gone() {
  $("link").className = "link off";
  $("link").textContent = "sandbox stopped";
}

function watch() {
  let timer = 0;
  const source = new EventSource("/page/changes");
  source.onmessage = (event) => {
    if (["traffic", "violations", "hello"].includes(event.data)) traffic.refresh();
    if (event.data === "traffic") return;
    timer ||= setTimeout(() => {
      timer = 0;
      refresh();
    }, 30);
  };
  source.onerror = gone;
}

// --- where we are: #home, #C123, #C123/<ts> (a message) or #C123/thread/<ts>

function here() {
  let parts = [""];
  try {
    parts = decodeURIComponent(location.hash.slice(1)).split("/");
  } catch {
    // Somebody typed a stray percent sign into the address.
  }
  if (parts[0] === "home") return { home: true };
  const channels = page.state.channels;
  const channel = channels.find((c) => c.id === parts[0] || c.name === parts[0]) ?? channels.find((c) => c.name === "incidents") ?? channels[0];
  if (channel.id !== parts[0] && channel.name !== parts[0]) return { channel };
  if (parts[1] === "thread") return { channel, thread: known(channel, parts[2]) };
  // The address of a reply leads into its thread.
  const wanted = channel.messages.find((m) => m.ts === parts[1]);
  return { channel, jump: wanted?.ts, thread: wanted && isReply(wanted) ? rootOf(wanted) : undefined };
}

const known = (channel, ts) => (channel.threads[ts] || channel.messages.some((m) => m.ts === ts) ? ts : undefined);
const label = (channel) => channel.kind === "im" ? page.state.app.name : channel.name;
const sign = (channel) => channel.kind === "im" ? "●" : channel.kind === "private" ? "◆" : "#";

// --- drawing

function render() {
  const place = here();
  sidebar(place);
  if (place.home) homeTab();
  else channelView(place);
  threadPane(place);
  jump(place);
  modal();
  toasts();
}

function sidebar(place) {
  const { state } = page;
  const link = $("link");
  link.className = state.connections ? "link on" : "link off";
  link.textContent = state.connections ? `${state.app.name} is connected` : `${state.app.name} is not connected`;
  const order = (c) => (c.archived ? 2 : 0) + (["general", "incidents"].includes(c.name) ? 0 : 1);
  const rooms = state.channels.filter((c) => c.kind !== "im").sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
  const focused = document.activeElement?.getAttribute("href");
  $("channels").replaceChildren(...rooms.map((c) => entry(c, place)));
  const direct = state.channels.filter((c) => c.kind === "im");
  $("apps").replaceChildren(homeEntry(place), ...direct.map((c) => entry(c, place)));
  if (focused && document.activeElement === document.body) document.querySelector(`.sidebar a[href="${CSS.escape(focused)}"]`)?.focus();
  $("alerts").hidden = !state.alerts;
  const broken = state.violations.length;
  $("rules").textContent = broken ? `${broken} broken rule${broken === 1 ? "" : "s"} of Slack` : "No broken rules of Slack";
  $("rules").className = broken ? "rules broken" : "rules";
  const select = $("user");
  const people = Object.values(state.users).filter((u) => !u.bot);
  if (select.options.length !== people.length) {
    select.replaceChildren(...people.map((u) => el("option", { value: u.name }, u.real_name)));
  }
  select.value = state.users[state.me].name;
}

function homeEntry(place) {
  const { app } = page.state;
  const off = app.home ? null : el("span", { class: "off", title: "The manifest has no Home tab" }, "off");
  return el("li", {}, el("a", { href: "#home", class: [place.home ? "here" : "", app.home ? "" : "outside"].filter(Boolean).join(" "), "aria-current": place.home ? "page" : undefined },
    el("span", { class: "sign" }, "⌂"), el("span", { class: "name" }, `${app.name} Home`), off));
}

function entry(channel, place) {
  const mine = place.channel?.id === channel.id;
  const list = mainList(channel);
  const last = list.at(-1)?.ts ?? "0";
  if (mine) read.set(channel.id, last);
  else if (!read.has(channel.id) && !list.some((m) => !m.subtype)) read.set(channel.id, last);
  const unread = channel.member && !channel.archived && (read.get(channel.id) ?? "0") < last;
  const names = [mine ? "here" : "", unread ? "unread" : "", channel.archived ? "archived" : "", channel.member ? "" : "outside"];
  return el("li", {}, el("a", { href: `#${channel.id}`, title: label(channel), class: names.filter(Boolean).join(" "), "aria-current": mine ? "page" : undefined },
    el("span", { class: "sign" }, sign(channel)), el("span", { class: "name" }, label(channel)),
    unread ? el("span", { class: "dot", title: "unread", role: "img", "aria-label": "unread" }) : null));
}

function homeTab() {
  const { app, home } = page.state;
  $("title").textContent = `${app.name} Home`;
  document.title = `${app.name} Home – Sandbox`;
  $("topic").textContent = "Only you see this";
  for (const id of ["pins", "people", "bookmarks", "pinned", "banner", "composer"]) $(id).hidden = true;
  // Slack tells the app each time somebody opens the tab.
  if (app.home && homeOpened !== page.me) {
    homeOpened = page.me;
    act("home");
  }
  const key = `${page.me} ${home ? `${home.id} ${home.revision}` : ""}`;
  if (homeKey === key) return;
  homeKey = key;
  main.at("home");
  const focused = document.activeElement?.id;
  low.set($("messages"), false);
  $("messages").replaceChildren(el("div", { class: "home" }, home && app.home ? blocks(home.blocks, viewScreen(home)) : nothingThere(app)));
  if (focused && document.activeElement === document.body) $(focused)?.focus();
}

function nothingThere(app) {
  if (!app.home) {
    return el("div", { class: "blank" }, el("h2", {}, `${app.name} has no Home tab`),
      el("p", {}, "The app's manifest does not ask for one (", el("code", {}, "features.app_home.home_tab_enabled"), "), so Slack would not show it."));
  }
  return el("div", { class: "blank" }, el("h2", {}, `${app.name} has put nothing here yet`),
    app.hears_home
      ? el("p", {}, "It was told that you opened its Home (", el("code", {}, "app_home_opened"), ") and may answer with ", el("code", {}, "views.publish"), ".")
      : el("p", {}, "It does not know that you are here: its manifest does not subscribe to ", el("code", {}, "app_home_opened"), "."));
}

function channelView({ channel }) {
  homeKey = "";
  homeOpened = "";
  $("title").replaceChildren(el("span", { class: "sign" }, sign(channel)), el("span", { class: "name" }, label(channel)));
  $("title").title = label(channel);
  document.title = `${channel.kind === "im" ? "" : "#"}${label(channel)} – Sandbox`;
  $("topic").replaceChildren(...mrkdwn(channel.topic || channel.purpose, page.state).filter((n) => n.nodeName !== "BR"));
  $("topic").title = $("topic").textContent;
  $("pins").hidden = !channel.pins.length;
  $("pins").textContent = `${channel.pins.length} pinned`;
  $("people").hidden = channel.kind === "im";
  $("people").textContent = `${channel.members.length} member${channel.members.length === 1 ? "" : "s"}`;
  $("people").title = channel.members.map((id) => page.state.users[id]?.name ?? id).join(", ");
  $("bookmarks").hidden = !channel.bookmarks.length;
  $("bookmarks").replaceChildren(...channel.bookmarks.map((b) =>
    el("a", { href: /^https?:/.test(b.link) ? b.link : undefined, target: "_blank", rel: "noopener noreferrer" },
      b.emoji ? [emoji(b.emoji.replaceAll(":", "")), " "] : null, b.title)));
  panel(channel);
  composer(channel);
  fill($("messages"), main.at(`${page.me} ${channel.id}`), channelNodes(main, channel));
}

function panel(channel) {
  const box = $("pinned");
  $("pins").setAttribute("aria-expanded", String(open === "pins"));
  $("people").setAttribute("aria-expanded", String(open === "people"));
  box.hidden = !open || (open === "pins" && !channel.pins.length);
  if (box.hidden) return;
  if (open === "people") {
    box.replaceChildren(el("h2", {}, "Members"), ...channel.members.map((id) => page.state.users[id]).filter(Boolean).map((u) =>
      el("div", { class: "member" }, avatar(u.id), el("span", {}, u.real_name, u.bot ? el("span", { class: "badge" }, "APP") : null, el("small", {}, u.title)))));
    return;
  }
  const pins = channel.pins.map((ts) => channel.messages.find((m) => m.ts === ts)).filter(Boolean);
  box.replaceChildren(el("h2", {}, "Pinned"), ...pins.map((m) =>
    el("button", { type: "button", class: "jump", onclick: () => flash(`m-${m.ts}`) },
      el("strong", {}, page.state.users[m.user]?.name ?? ""), ` ${simple(m.text).slice(0, 160) || "message"}`)));
}

function composer(channel) {
  const closed = channel.archived || !channel.member;
  $("composer").hidden = closed;
  $("banner").hidden = !closed;
  if (channel.archived) $("banner").replaceChildren("This channel is archived. It can be read, but nobody can write here.");
  else if (closed) {
    $("banner").replaceChildren(`You are looking at #${channel.name}, which you have not joined. `,
      el("button", { type: "button", class: "primary", onclick: () => act("join", { channel: channel.id }) }, "Join"));
  }
  $("text").placeholder = `Message ${channel.kind === "im" ? "" : "#"}${label(channel)}, or / for commands`;
  writer.move(`${page.me} ${channel.id}`);
}

// A person who reads the end is kept there, also when the list gets smaller; whoever has scrolled up stays there.
const low = new Map([[$("messages"), true], [$("replies"), true]]);
const keepLow = new ResizeObserver((changes) => {
  for (const { target } of changes) if (low.get(target)) target.scrollTop = target.scrollHeight;
});
for (const box of low.keys()) {
  box.addEventListener("scroll", () => low.set(box, box.scrollHeight - box.scrollTop - box.clientHeight < 80), { passive: true });
  keepLow.observe(box);
}

function fill(box, moved, nodes) {
  if (moved) low.set(box, true);
  const focus = box.contains(document.activeElement) ? document.activeElement : null;
  const message = focus?.closest(".message")?.id;
  sync(box, nodes);
  if (focus && !focus.isConnected && message) {
    // The message was drawn anew under somebody's fingers.
    const again = document.getElementById(message);
    const action = focus.dataset.action;
    (action && again?.querySelector(`[data-action="${CSS.escape(action)}"]`) || again?.querySelector("button, select, a"))?.focus({ preventScroll: true });
  }
  if (low.get(box)) box.scrollTop = box.scrollHeight;
}

function threadPane({ channel, thread }) {
  const shown = Boolean(thread);
  $("thread").hidden = !shown;
  document.body.classList.toggle("with-thread", shown);
  if (!shown) {
    side.at("");
    return;
  }
  $("thread-where").textContent = channel.kind === "im" ? label(channel) : `#${label(channel)}`;
  const closed = channel.archived || !channel.member;
  $("reply").hidden = closed;
  $("thread-closed").hidden = !closed;
  $("thread-closed").textContent = channel.archived ? "This channel is archived." : "Join the channel to reply.";
  const moved = side.at(`${page.me} ${channel.id} ${thread}`);
  replier.move(`${page.me} ${channel.id} ${thread}`);
  fill($("replies"), moved, threadNodes(side, channel, thread));
}

const leaveThread = () => {
  const { channel, thread } = here();
  if (!thread) return;
  location.hash = channel.id;
  const back = document.querySelector(`#messages a[href="${CSS.escape(threadLink(channel, thread))}"]`);
  (back ?? $("text")).focus({ preventScroll: true });
};

// An address that names a message leads to it, once.
function jump({ channel, jump: ts, thread }) {
  const key = ts ? `${page.me} ${channel.id} ${ts}` : "";
  if (key && key !== jumped) flash(`${thread ? "t" : "m"}-${ts}`);
  jumped = key;
}

function flash(id) {
  const node = $(id);
  node?.scrollIntoView({ block: "center" });
  node?.classList.add("flash");
  setTimeout(() => node?.classList.remove("flash"), 1500);
}

// --- views

function viewScreen(view) {
  if (!typed.has(view.id)) typed.set(view.id, {});
  const mine = typed.get(view.id);
  const values = {};
  for (const [block, actions] of Object.entries(view.values)) {
    values[block] = {};
    for (const [action, told] of Object.entries(actions)) values[block][action] = mine[block]?.value !== undefined ? mine[block].value : valueOf(told);
  }
  return {
    people: page.state, values, errors: modalErrors,
    changed: (block, element, value) => { mine[block.block_id] = { value }; },
    suggest: async (block, element, typed) => (await act("suggest", { view: view.id, block_id: block.block_id, action_id: element.action_id, typed })).options,
    act: async (block, element, value) => {
      if (!(await confirmed(element))) return;
      busy(block, element, true);
      await act("action", { view: view.id, block_id: block.block_id, action_id: element.action_id, value, values: mine });
      busy(block, element, false);
    },
  };
}

// --- modals

function modal() {
  const dialog = $("modal");
  const view = page.state.modals.at(-1);
  if (!view) {
    if (dialog.open) dialog.close();
    modalKey = "";
    return;
  }
  const key = `${view.id} ${view.revision}`;
  if (key === modalKey && dialog.open) return;
  if (!modalKey.startsWith(view.id)) modalErrors = {};
  modalKey = key;
  drawModal(view);
}

function drawModal(view) {
  const dialog = $("modal");
  const focused = dialog.contains(document.activeElement) ? document.activeElement.id : "";
  const close = () => act("close", { view: view.id });
  const form = el("form", { method: "dialog", novalidate: true, onsubmit: (event) => { event.preventDefault(); submit(view); } },
    el("header", {}, el("h2", {}, simple(view.title)), el("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: close }, "✕")),
    el("div", { class: "inside" }, blocks(view.blocks, viewScreen(view))),
    el("footer", {},
      el("button", { type: "button", class: "plain", onclick: close }, simple(view.close ?? (view.submit ? "Cancel" : "Close"))),
      view.submit ? el("button", { type: "submit", class: "primary", id: "go" }, simple(view.submit)) : null));
  dialog.replaceChildren(form);
  dialog.oncancel = (event) => {
    event.preventDefault();
    close();
  };
  if (!dialog.open) dialog.showModal();
  (document.getElementById(focused) ?? dialog.querySelector(".wrong input, .wrong textarea, .wrong select, [autofocus], .inside input, .inside textarea, .inside select"))?.focus();
}

async function submit(view) {
  $("go")?.classList.add("busy");
  const answer = await act("submit", { view: view.id, values: typed.get(view.id) ?? {} });
  $("go")?.classList.remove("busy");
  modalErrors = answer.errors ?? {};
  await refresh();
  const still = page.state.modals.at(-1);
  if (answer.errors && still?.id === view.id) drawModal(still);
}

// --- toasts

function toasts() {
  for (const notice of page.state.notices) {
    const key = `${notice.at} ${notice.text}`;
    if (noticed.has(key)) continue;
    noticed.add(key);
    const fresh = Date.now() - new Date(notice.at).getTime() < 10000;
    if (!firstNotices || fresh) toast(notice.text);
  }
  firstNotices = false;
}

// --- what happens

const writer = new Writer($("composer"), {
  commands: true,
  send: (text) => {
    const { channel } = here();
    return channel && act("say", { channel: channel.id, text });
  },
});
const replier = new Writer($("reply"), {
  commands: false,
  leave: leaveThread,
  send: (text) => {
    const { channel, thread } = here();
    return thread && act("say", { channel: channel.id, text, thread_ts: thread });
  },
});
$("thread-close").addEventListener("click", leaveThread);
$("thread").addEventListener("keydown", (event) => {
  if (event.key === "Escape") leaveThread();
});
$("shortcuts").addEventListener("click", () => {
  const items = page.state.shortcuts.filter((s) => s.type === "global").map((s) => ({
    title: s.name, hint: "", about: "Shortcut", run: () => act("shortcut", { callback_id: s.callback_id }),
  }));
  const wanted = $("menu").hidden;
  $("text").focus();
  writer.suggest(wanted ? [...items, ...commandItems()] : []);
});
$("shortcuts").addEventListener("mousedown", (event) => event.preventDefault());
for (const id of ["pins", "people"]) {
  $(id).addEventListener("click", () => {
    open = open === id ? "" : id;
    render();
  });
}
$("user").addEventListener("change", (event) => {
  become(event.target.value);
  modalKey = "";
  homeKey = "";
  refresh();
});
async function alert(button, resolved) {
  button.classList.add("busy");
  const answer = await act("alert", { resolved });
  button.classList.remove("busy");
  if (answer.status && answer.status < 300) toast(resolved ? "The alert was sent as resolved." : "The alert was sent.", "good");
}
$("fire").addEventListener("click", (event) => alert(event.target, false));
$("resolve").addEventListener("click", (event) => alert(event.target, true));
$("rules").addEventListener("click", () => {
  const dialog = $("ask");
  const items = page.state.violations.map((v) => el("li", {}, el("strong", {}, v.kind), ` ${v.detail}`));
  dialog.replaceChildren(
    el("header", {}, el("h2", {}, "Broken rules of Slack")),
    el("div", { class: "inside" }, items.length ? el("ol", { class: "list" }, items)
      : el("p", {}, "So far the app has kept every limit and deadline that Slack sets: acknowledgements in three seconds, sizes of blocks, names, topics and modals.")),
    el("footer", {}, el("button", { type: "button", class: "primary", autofocus: true, onclick: () => dialog.close() }, "Close")));
  dialog.oncancel = null;
  dialog.showModal();
});

// On a narrow window the sidebar lies over the page and is called for.
function drawer(shown) {
  document.body.classList.toggle("drawer", shown);
  $("burger").setAttribute("aria-expanded", String(shown));
}
$("burger").addEventListener("click", () => {
  drawer(true);
  document.querySelector(".sidebar a.here, .sidebar a")?.focus();
});
$("shade").addEventListener("click", () => drawer(false));
document.querySelector(".sidebar").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !document.body.classList.contains("drawer")) return;
  drawer(false);
  $("burger").focus();
});
$("inspect").addEventListener("click", () => drawer(false));

window.addEventListener("hashchange", (event) => {
  const before = new URL(event.oldURL).hash.split("/")[0];
  if (before !== location.hash.split("/")[0]) open = "";
  drawer(false);
  if (!page.state) return;
  render();
  if (here().thread && !$("reply").hidden) replier.text.focus();
});
document.addEventListener("click", (event) => {
  for (const node of document.querySelectorAll("details.overflow[open]")) if (!node.contains(event.target)) node.open = false;
});

traffic.prepare();
watch();
refresh();
