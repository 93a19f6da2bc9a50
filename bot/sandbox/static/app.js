// The page: shows what one person sees, and tells the server what that person does.

import { blocks, valueOf } from "/static/blocks.js";
import { clock, day, el, emoji, mrkdwn, simple } from "/static/text.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

let me = query.get("user") || sessionStorage.getItem("user") || "alice";
let state = null;
let thread = null;
let menu = { items: [], at: 0 };
const read = new Map();
const shown = new Map();
const noticed = new Set();
const typed = new Map();
let modalKey = "";
let modalErrors = {};
let firstNotices = true;

// --- talking to the server

async function act(deed, body = {}) {
  try {
    const response = await fetch("/page/act", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ do: deed, user: me, ...body }),
    });
    const answer = response.headers.get("Content-Type")?.includes("json") ? await response.json() : { error: await response.text() };
    if (!response.ok) toast(answer.error || "That did not work.");
    return answer;
  } catch {
    toast("The sandbox cannot be reached.");
    return { error: "unreachable" };
  }
}

let asking = false;
let again = false;

async function refresh() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const response = await fetch(`/page/state?user=${encodeURIComponent(me)}`);
    if (response.status === 404 && me !== "alice") {
      me = "alice";
      again = true;
    } else if (response.ok) {
      state = await response.json();
      render();
    }
  } catch {
    $("link").className = "link off";
    $("link").textContent = "sandbox stopped";
  } finally {
    asking = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function watch() {
  let timer = 0;
  const source = new EventSource("/page/changes");
  source.onmessage = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 30);
  };
}

// --- where we are

function here() {
  const wanted = decodeURIComponent(location.hash.slice(1)).split("/")[0];
  if (wanted === "home" && state.app.home) return { home: true };
  const channels = state.channels;
  return channels.find((c) => c.id === wanted || c.name === wanted) ?? channels.find((c) => c.name === "incidents") ?? channels[0];
}

const label = (channel) => channel.kind === "im" ? state.app.name : channel.name;
const sign = (channel) => channel.kind === "im" ? "●" : channel.kind === "private" ? "◆" : "#";

// --- drawing

function render() {
  const place = here();
  sidebar(place);
  if (place.home) homeTab();
  else channelView(place);
  modal();
  toasts();
}

function sidebar(place) {
  const link = $("link");
  link.className = state.connections ? "link on" : "link off";
  link.textContent = state.connections ? `${state.app.name} is connected` : `${state.app.name} is not connected`;
  const order = (c) => (c.archived ? 2 : 0) + (["general", "incidents"].includes(c.name) ? 0 : 1);
  const rooms = state.channels.filter((c) => c.kind !== "im").sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name));
  $("channels").replaceChildren(...rooms.map((c) => entry(c, place)));
  const direct = state.channels.filter((c) => c.kind === "im");
  const home = state.app.home ? [el("li", {}, el("a", { href: "#home", class: place.home ? "here" : "", "aria-current": place.home ? "page" : undefined },
    el("span", { class: "sign" }, "⌂"), `${state.app.name} Home`))] : [];
  $("apps").replaceChildren(...home, ...direct.map((c) => entry(c, place)));
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

function entry(channel, place) {
  const last = channel.messages.at(-1)?.ts ?? "0";
  if (channel.id === place.id) read.set(channel.id, last);
  else if (!read.has(channel.id) && !channel.messages.some((m) => !m.subtype)) read.set(channel.id, last);
  const unread = channel.member && !channel.archived && (read.get(channel.id) ?? "0") < last;
  const names = [channel.id === place.id ? "here" : "", unread ? "unread" : "", channel.archived ? "archived" : "", channel.member ? "" : "outside"];
  return el("li", {}, el("a", { href: `#${channel.id}`, class: names.filter(Boolean).join(" "), "aria-current": channel.id === place.id ? "page" : undefined },
    el("span", { class: "sign" }, sign(channel)), el("span", { class: "name" }, label(channel)),
    unread ? el("span", { class: "dot", title: "unread", "aria-label": "unread" }) : null));
}

function homeTab() {
  $("title").textContent = `${state.app.name} Home`;
  $("topic").textContent = "What only you see of the app";
  for (const id of ["pins", "people", "bookmarks", "pinned", "banner", "composer"]) $(id).hidden = true;
  const view = state.home;
  const body = view ? blocks(view.blocks, viewScreen(view)) : [el("p", { class: "empty" }, "The app has not put anything here yet.")];
  const key = `home ${me} ${view ? view.revision : ""}`;
  if (shown.get("key") === key) return;
  shown.clear();
  shown.set("key", key);
  $("messages").replaceChildren(el("div", { class: "home" }, body));
}

function channelView(channel) {
  $("title").replaceChildren(el("span", { class: "sign" }, sign(channel)), label(channel));
  document.title = `${channel.kind === "im" ? "" : "#"}${label(channel)} – Sandbox`;
  $("topic").replaceChildren(...mrkdwn(channel.topic || channel.purpose, state).filter((n) => n.nodeName !== "BR"));
  $("pins").hidden = !channel.pins.length;
  $("pins").textContent = `${channel.pins.length} pinned`;
  $("people").hidden = channel.kind === "im";
  $("people").textContent = `${channel.members.length} member${channel.members.length === 1 ? "" : "s"}`;
  $("people").title = channel.members.map((id) => state.users[id]?.name ?? id).join(", ");
  $("bookmarks").hidden = !channel.bookmarks.length;
  $("bookmarks").replaceChildren(...channel.bookmarks.map((b) =>
    el("a", { href: /^https?:/.test(b.link) ? b.link : undefined, target: "_blank", rel: "noopener noreferrer" },
      b.emoji ? [emoji(b.emoji.replaceAll(":", "")), " "] : null, b.title)));
  panel(channel);
  composer(channel);
  list(channel);
}

let open = "";

function panel(channel) {
  const box = $("pinned");
  $("pins").setAttribute("aria-expanded", String(open === "pins"));
  $("people").setAttribute("aria-expanded", String(open === "people"));
  box.hidden = !open || (open === "pins" && !channel.pins.length);
  if (box.hidden) return;
  if (open === "people") {
    box.replaceChildren(el("h2", {}, "Members"), ...channel.members.map((id) => state.users[id]).filter(Boolean).map((u) =>
      el("div", { class: "member" }, avatar(u.id), el("span", {}, u.real_name, u.bot ? el("span", { class: "badge" }, "APP") : null, el("small", {}, u.title)))));
    return;
  }
  const pins = channel.pins.map((ts) => channel.messages.find((m) => m.ts === ts)).filter(Boolean);
  box.replaceChildren(el("h2", {}, "Pinned"), ...pins.map((m) =>
    el("button", { type: "button", class: "jump", onclick: () => jump(m.ts) },
      el("strong", {}, state.users[m.user]?.name ?? ""), ` ${simple(m.text).slice(0, 160) || "message"}`)));
}

function jump(ts) {
  const node = document.getElementById(`m-${ts}`);
  node?.scrollIntoView({ block: "center" });
  node?.classList.add("flash");
  setTimeout(() => node?.classList.remove("flash"), 1500);
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
  $("text").placeholder = thread ? "Reply in thread" : `Message ${channel.kind === "im" ? "" : "#"}${label(channel)}, or / for commands`;
  $("context").hidden = !thread;
  if (thread) {
    $("context").replaceChildren("Replying in a thread ", el("button", { type: "button", class: "quiet", onclick: () => { thread = null; render(); } }, "Cancel"));
  }
}

function list(channel) {
  const box = $("messages");
  const moved = shown.get("key") !== `${me} ${channel.id}`;
  if (moved) {
    shown.clear();
    shown.set("key", `${me} ${channel.id}`);
    box.replaceChildren();
  }
  const low = moved || box.scrollHeight - box.scrollTop - box.clientHeight < 80;
  const nodes = [];
  const roots = channel.messages.filter((m) => !m.thread_ts || m.thread_ts === m.ts || !channel.messages.some((r) => r.ts === m.thread_ts));
  let before = null;
  for (const root of roots) {
    const date = day(new Date(Number(root.ts) * 1000));
    if (!before || date !== day(new Date(Number(before.ts) * 1000))) nodes.push(divider(date));
    const replies = channel.messages.filter((m) => m.thread_ts === root.ts && m.ts !== root.ts);
    const compact = before && before.user === root.user && !before.subtype && !root.subtype && !root.only_for && !before.only_for
      && Number(root.ts) - Number(before.ts) < 300;
    nodes.push(keyed(channel, root, compact));
    if (replies.length) nodes.push(el("div", { class: "thread" }, replies.map((m) => keyed(channel, m, false))));
    before = replies.length ? null : root;
    if (replies.length) before = { ...root, user: "" };
  }
  if (!nodes.length) nodes.push(el("p", { class: "empty" }, `This is the very beginning of ${label(channel)}.`));
  if (box.childNodes.length !== nodes.length || nodes.some((n, i) => n !== box.childNodes[i])) {
    const focus = document.activeElement?.dataset?.action && box.contains(document.activeElement) ? document.activeElement : null;
    box.replaceChildren(...nodes);
    if (focus?.isConnected) focus.focus();
  }
  if (low) box.scrollTop = box.scrollHeight;
  const wanted = location.hash.split("/")[1];
  if (moved && wanted) jump(wanted);
}

const divider = (date) => {
  const key = `d ${date}`;
  if (!shown.has(key)) shown.set(key, el("div", { class: "day" }, el("span", {}, date)));
  return shown.get(key);
};

function keyed(channel, message, compact) {
  const mark = JSON.stringify([message, compact, channel.pins.includes(message.ts)]);
  const old = shown.get(message.ts);
  if (old?.mark === mark) return old.node;
  const node = draw(channel, message, compact);
  shown.set(message.ts, { mark, node });
  return node;
}

function avatar(id) {
  const user = state.users[id];
  const name = user?.real_name ?? "?";
  const hue = [...id].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) >>> 0, 7) % 6;
  return el("span", { class: `avatar hue-${hue}${user?.bot ? " bot" : ""}`, "aria-hidden": "true" }, name[0].toUpperCase());
}

function draw(channel, message, compact) {
  const user = state.users[message.user];
  const at = new Date(Number(message.ts) * 1000);
  const time = el("time", { class: "at", title: at.toISOString() }, clock(at));
  if (message.subtype) {
    return el("article", { class: "message system", id: `m-${message.ts}` }, el("span", { class: "gutter" }, time),
      el("div", { class: "content" }, mrkdwn(message.text, state)));
  }
  const screen = messageScreen(channel, message);
  // What people write also comes as rich text, but their words as typed are enough here.
  const body = message.blocks?.length && !message.client_msg_id ? blocks(message.blocks, screen) : [el("div", { class: "text" }, mrkdwn(message.text, state))];
  const attachments = (message.attachments ?? []).map((a) =>
    el("div", { class: "attachment" }, a.blocks ? blocks(a.blocks, screen) : mrkdwn(a.text ?? a.fallback ?? "", state)));
  const head = compact ? null : el("div", { class: "head" }, el("strong", {}, user?.real_name ?? message.user),
    user?.bot ? el("span", { class: "badge" }, "APP") : null, time,
    channel.pins.includes(message.ts) ? el("span", { class: "pin", title: "Pinned" }, "Pinned") : null);
  return el("article", { class: `message${compact ? " compact" : ""}${message.only_for ? " private" : ""}`, id: `m-${message.ts}` },
    el("span", { class: "gutter" }, compact ? time : avatar(message.user)),
    el("div", { class: "content" },
      message.only_for ? el("div", { class: "note" }, "Only visible to you") : null,
      head, body, attachments, (message.files ?? []).map(file),
      message.edited ? el("small", { class: "edited" }, "(edited)") : null,
      reactions(channel, message)),
    message.only_for || channel.archived ? null : tools(channel, message));
}

function file(item) {
  const size = item.size > 2048 ? `${Math.round(item.size / 1024)} kB` : `${item.size} bytes`;
  return el("div", { class: "file" }, el("span", { class: "icon" }, item.filetype.slice(0, 4)),
    el("div", {}, el("strong", {}, item.title), el("small", {}, `${item.name} · ${size}`)),
    el("a", { href: `/files/${item.id}`, target: "_blank", rel: "noopener" }, "Open"),
    el("a", { href: `/files/${item.id}?download=1`, download: item.name }, "Download"));
}

function reactions(channel, message) {
  if (!message.reactions?.length) return null;
  return el("div", { class: "reactions" }, message.reactions.map((r) =>
    el("button", {
      type: "button", class: r.users.includes(state.me) ? "mine" : "", title: r.users.map((id) => state.users[id]?.name ?? id).join(", "),
      onclick: () => act("react", { channel: channel.id, ts: message.ts, name: r.name }),
    }, emoji(r.name), ` ${r.count}`)));
}

function tools(channel, message) {
  const react = ["white_check_mark", "eyes", "+1"].map((name) =>
    el("button", { type: "button", title: `React with ${name}`, onclick: () => act("react", { channel: channel.id, ts: message.ts, name }) }, emoji(name)));
  const reply = el("button", {
    type: "button", class: "wide", title: "Reply in thread", onclick: () => {
      thread = message.thread_ts ?? message.ts;
      render();
      $("text").focus();
    },
  }, "Reply");
  const kept = state.shortcuts.filter((s) => s.type === "message").map((s) =>
    el("button", { type: "button", class: "wide", onclick: () => act("shortcut", { callback_id: s.callback_id, channel: channel.id, ts: message.ts }) }, s.name));
  return el("div", { class: "hover", role: "toolbar", "aria-label": "Message actions" }, react, reply, kept);
}

// --- blocks that act

async function confirmed(element) {
  const wanted = element.confirm;
  if (!wanted) return true;
  const dialog = $("ask");
  return new Promise((done) => {
    const end = (answer) => {
      dialog.close();
      done(answer);
    };
    dialog.replaceChildren(
      el("header", {}, el("h2", {}, simple(wanted.title.text))),
      el("div", { class: "inside" }, el("p", {}, wanted.text.type === "mrkdwn" ? mrkdwn(wanted.text.text, state) : simple(wanted.text.text))),
      el("footer", {},
        el("button", { type: "button", class: "plain", onclick: () => end(false) }, simple(wanted.deny.text)),
        el("button", { type: "button", class: wanted.style ?? "primary", autofocus: true, onclick: () => end(true) }, simple(wanted.confirm.text))));
    dialog.oncancel = () => done(false);
    dialog.showModal();
  });
}

const busy = (block, element, on) => {
  for (const node of document.querySelectorAll(`[data-block="${CSS.escape(block.block_id)}"][data-action="${CSS.escape(element.action_id)}"]`)) node.classList.toggle("busy", on);
};

function messageScreen(channel, message) {
  return {
    people: state,
    act: async (block, element, value) => {
      if (!(await confirmed(element))) return;
      busy(block, element, true);
      await act("action", { channel: channel.id, ts: message.ts, block_id: block.block_id, action_id: element.action_id, value });
      busy(block, element, false);
    },
  };
}

function viewScreen(view) {
  if (!typed.has(view.id)) typed.set(view.id, {});
  const mine = typed.get(view.id);
  const values = {};
  for (const [block, actions] of Object.entries(view.values)) {
    values[block] = {};
    for (const [action, told] of Object.entries(actions)) values[block][action] = mine[block]?.value !== undefined ? mine[block].value : valueOf(told);
  }
  return {
    people: state, values, errors: modalErrors,
    changed: (block, element, value) => { mine[block.block_id] = { value }; },
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
  const view = state.modals.at(-1);
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
  const still = state.modals.at(-1);
  if (answer.errors && still?.id === view.id) drawModal(still);
}

// --- toasts

function toasts() {
  for (const notice of state.notices) {
    const key = `${notice.at} ${notice.text}`;
    if (noticed.has(key)) continue;
    noticed.add(key);
    const fresh = Date.now() - new Date(notice.at).getTime() < 10000;
    if (!firstNotices || fresh) toast(notice.text);
  }
  firstNotices = false;
}

function toast(text, kind = "bad") {
  const node = el("div", { class: `toast ${kind}` }, el("span", {}, text), el("button", { type: "button", "aria-label": "Dismiss", onclick: () => node.remove() }, "✕"));
  // A modal dialog covers everything else on the page, so the toast goes into it.
  const dialog = $("modal").open ? $("modal") : null;
  (dialog?.querySelector(".inside") ?? $("toasts")).prepend(node);
  setTimeout(() => node.remove(), 9000);
}

// --- the composer

function suggestions() {
  const text = $("text").value;
  const command = /^\/(\S*)$/.exec(text);
  if (command) {
    return state.commands.filter((c) => c.name.startsWith(text)).map((c) => ({ put: `${c.name} `, title: c.name, hint: c.hint, about: c.description }));
  }
  const mention = /(?:^|\s)@(\w*)$/.exec(text.slice(0, $("text").selectionStart));
  if (mention) {
    return Object.values(state.users).filter((u) => u.name.startsWith(mention[1].toLowerCase())).map((u) => ({
      put: `${text.slice(0, $("text").selectionStart - mention[1].length)}${u.name} `, title: `@${u.name}`, hint: "", about: u.real_name,
    }));
  }
  return [];
}

function suggest(items = suggestions()) {
  menu = { items, at: Math.min(menu.at, Math.max(0, items.length - 1)) };
  const box = $("menu");
  box.hidden = !items.length;
  box.replaceChildren(...items.map((item, i) => el("li", {
    role: "option", "aria-selected": String(i === menu.at), class: i === menu.at ? "here" : "",
    onmousedown: (event) => {
      event.preventDefault();
      take(item);
    },
  }, el("strong", {}, item.title), item.hint ? el("code", {}, item.hint) : null, el("span", {}, item.about))));
}

function take(item) {
  if (item.run) item.run();
  else $("text").value = item.put;
  suggest([]);
  $("text").focus();
}

async function send() {
  const text = $("text").value.trim();
  const place = here();
  if (!text || place.home) return;
  $("text").value = "";
  grow();
  suggest([]);
  const replied = thread;
  thread = text.startsWith("/") ? thread : null;
  await act("say", { channel: place.id, text, thread_ts: replied });
}

function grow() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

// --- what happens

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("text").addEventListener("input", () => {
  grow();
  suggest();
});
$("text").addEventListener("blur", () => suggest([]));
$("text").addEventListener("keydown", (event) => {
  const many = menu.items.length;
  const exact = many === 1 && menu.items[0].put?.trim() === $("text").value.trim();
  if (many && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    menu.at = (menu.at + (event.key === "ArrowDown" ? 1 : many - 1)) % many;
    suggest(menu.items);
  } else if (many && (event.key === "Tab" || (event.key === "Enter" && !exact))) {
    event.preventDefault();
    take(menu.items[menu.at]);
  } else if (event.key === "Escape") {
    suggest([]);
    if (thread) {
      thread = null;
      render();
    }
  } else if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    send();
  }
});
$("shortcuts").addEventListener("click", () => {
  const items = state.shortcuts.filter((s) => s.type === "global").map((s) => ({
    title: s.name, hint: "", about: "Shortcut", run: () => act("shortcut", { callback_id: s.callback_id }),
  }));
  const commands = state.commands.map((c) => ({ put: `${c.name} `, title: c.name, hint: c.hint, about: c.description }));
  $("text").focus();
  suggest($("menu").hidden ? [...items, ...commands] : []);
});
$("shortcuts").addEventListener("mousedown", (event) => event.preventDefault());
for (const id of ["pins", "people"]) {
  $(id).addEventListener("click", () => {
    open = open === id ? "" : id;
    render();
  });
}
$("user").addEventListener("change", (event) => {
  me = event.target.value;
  sessionStorage.setItem("user", me);
  query.set("user", me);
  history.replaceState(null, "", `?${query}${location.hash}`);
  modalKey = "";
  thread = null;
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
  const items = state.violations.map((v) => el("li", {}, el("strong", {}, v.kind), ` ${v.detail}`));
  dialog.replaceChildren(
    el("header", {}, el("h2", {}, "Broken rules of Slack")),
    el("div", { class: "inside" }, items.length ? el("ol", { class: "list" }, items)
      : el("p", {}, "So far the app has kept every limit and deadline that Slack sets: acknowledgements in three seconds, sizes of blocks, names, topics and modals.")),
    el("footer", {}, el("button", { type: "button", class: "primary", autofocus: true, onclick: () => dialog.close() }, "Close")));
  dialog.oncancel = null;
  dialog.showModal();
});
window.addEventListener("hashchange", () => {
  thread = null;
  open = "";
  if (location.hash === "#home") act("home");
  if (state) render();
});
document.addEventListener("click", (event) => {
  for (const node of document.querySelectorAll("details.overflow[open]")) if (!node.contains(event.target)) node.open = false;
});

if (location.hash === "#home") act("home");
watch();
refresh();
