// Messages as a channel and a thread show them.

import { blocks } from "/static/blocks.js";
import { act, page } from "/static/server.js";
import { clock, day, el, emoji, mrkdwn, simple } from "/static/text.js";

export const isReply = (message) => Boolean(message.thread_ts) && message.thread_ts !== message.ts;
export const rootOf = (message) => message.thread_ts || message.ts;
export const threadLink = (channel, ts) => `#${channel.id}/thread/${ts}`;
const when = (ts) => new Date(Number(ts) * 1000);
const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;

// Drawn messages, so that what did not change is not drawn again.
export class Drawn {
  constructor(prefix) {
    this.prefix = prefix;
    this.key = "";
    this.nodes = new Map();
  }

  // Begin with nothing if this is another place than before; whether it is.
  at(key) {
    if (key === this.key) return false;
    this.key = key;
    this.nodes.clear();
    return true;
  }

  take(key, mark, draw) {
    const old = this.nodes.get(key);
    if (old?.mark === mark) return old.node;
    const node = draw();
    this.nodes.set(key, { mark, node });
    return node;
  }
}

// What stands in the channel itself: no replies but those sent to the channel too. A root that was deleted leaves a mark.
export function mainList(channel) {
  const main = channel.messages.filter((m) => !isReply(m) || m.broadcast);
  const there = new Set(channel.messages.map((m) => m.ts));
  const gone = Object.keys(channel.threads).filter((ts) => !there.has(ts)).map((ts) => ({ ts, gone: true }));
  return [...main, ...gone].sort((a, b) => Number(a.ts) - Number(b.ts));
}

export function channelNodes(drawn, channel) {
  const nodes = [];
  let before = null;
  for (const message of mainList(channel)) {
    const date = day(when(message.ts));
    if (!before || date !== day(when(before.ts))) nodes.push(divider(drawn, date));
    const thread = isReply(message) ? null : channel.threads[message.ts];
    nodes.push(keyed(drawn, channel, message, { compact: follows(before, message), thread }));
    before = thread ? { ...message, user: "" } : message;
  }
  if (!nodes.length) nodes.push(drawn.take("empty", "", () => el("p", { class: "empty" }, "This is the very beginning. Nothing has been written here yet.")));
  return nodes;
}

export function threadNodes(drawn, channel, ts) {
  const root = channel.messages.find((m) => m.ts === ts) ?? { ts, gone: true };
  const replies = channel.messages.filter((m) => m.thread_ts === ts && isReply(m));
  const nodes = [keyed(drawn, channel, root, { inThread: true })];
  const said = replies.length ? count(replies.length, "reply", "replies") : "No replies yet";
  nodes.push(drawn.take("count", said, () => el("div", { class: "day left" }, el("span", {}, said))));
  let before = null;
  for (const message of replies) {
    nodes.push(keyed(drawn, channel, message, { compact: follows(before, message), inThread: true }));
    before = message;
  }
  return nodes;
}

function follows(before, message) {
  return Boolean(before) && !before.gone && !message.gone && before.user === message.user && !before.subtype && !message.subtype
    && !message.only_for && !before.only_for && !message.broadcast && !before.broadcast && Number(message.ts) - Number(before.ts) < 300;
}

const divider = (drawn, date) => drawn.take(`day ${date}`, "", () => el("div", { class: "day" }, el("span", {}, date)));

function keyed(drawn, channel, message, look) {
  const pinned = channel.pins.includes(message.ts);
  const root = message.broadcast && !look.inThread ? channel.messages.find((m) => m.ts === message.thread_ts)?.text ?? "" : "";
  const mark = JSON.stringify([message, look, pinned, root, channel.archived]);
  return drawn.take(message.ts, mark, () => draw(drawn.prefix, channel, message, { ...look, pinned, root }));
}

export function avatar(id, small = false) {
  const user = page.state.users[id];
  const name = user?.real_name || "?";
  const hue = [...id].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) >>> 0, 7) % 6;
  return el("span", { class: `avatar hue-${hue}${user?.bot ? " bot" : ""}${small ? " small" : ""}`, "aria-hidden": "true" }, [...name][0].toUpperCase());
}

function draw(prefix, channel, message, look) {
  const id = `${prefix}-${message.ts}`;
  const at = when(message.ts);
  const time = el("time", { class: "at", title: at.toISOString() }, clock(at));
  const summary = look.thread ? replies(channel, message, look.thread) : null;
  if (message.gone) {
    return el("article", { class: "message system", id }, el("span", { class: "gutter" }, time),
      el("div", { class: "content" }, "This message was deleted.", summary));
  }
  if (message.subtype && !message.broadcast) {
    return el("article", { class: "message system", id }, el("span", { class: "gutter" }, time),
      el("div", { class: "content" }, mrkdwn(message.text, page.state), summary));
  }
  const user = page.state.users[message.user];
  const screen = messageScreen(channel, message);
  // What people write also comes as rich text, but their words as typed are enough here.
  const body = message.blocks?.length && !message.client_msg_id ? blocks(message.blocks, screen) : [el("div", { class: "text" }, mrkdwn(message.text, page.state))];
  const attachments = (message.attachments ?? []).map((a) =>
    el("div", { class: "attachment" }, a.blocks ? blocks(a.blocks, screen) : mrkdwn(a.text ?? a.fallback ?? "", page.state)));
  const head = look.compact ? null : el("div", { class: "head" }, el("strong", {}, user?.real_name ?? message.user),
    user?.bot ? el("span", { class: "badge" }, "APP") : null, time,
    look.pinned ? el("span", { class: "pin", title: "Pinned" }, "Pinned") : null);
  return el("article", { class: `message${look.compact ? " compact" : ""}${message.only_for ? " private" : ""}`, id },
    el("span", { class: "gutter" }, look.compact ? time : avatar(message.user)),
    el("div", { class: "content" },
      message.only_for ? el("div", { class: "note" }, "Only visible to you") : null,
      message.broadcast ? broadcastNote(channel, message, look) : null,
      head, body, attachments, (message.files ?? []).map(file),
      message.edited ? el("small", { class: "edited" }, "(edited)") : null,
      reactions(channel, message), summary),
    message.only_for || channel.archived ? null : tools(channel, message, look));
}

function broadcastNote(channel, message, look) {
  if (look.inThread) return el("div", { class: "note" }, `Also sent to ${channel.kind === "im" ? "the conversation" : `#${channel.name}`}`);
  const about = simple(look.root).replace(/\s+/g, " ").slice(0, 80);
  return el("div", { class: "note" }, "Replied to a thread: ", el("a", { href: threadLink(channel, message.thread_ts) }, about || "show it"));
}

// "3 replies", by whom, and when the last one came. It opens the thread.
function replies(channel, message, thread) {
  const names = thread.users.map((id) => page.state.users[id]?.name ?? id).join(", ");
  const said = thread.replies ? count(thread.replies, "reply", "replies") : "";
  const own = thread.private ? `${thread.private} only for you` : "";
  const last = when(thread.latest);
  const at = day(last) === day(new Date()) ? clock(last) : `${day(last)}, ${clock(last)}`;
  return el("a", { class: "replies", href: threadLink(channel, message.ts), title: `Open the thread: ${names}` },
    el("span", { class: "faces" }, thread.users.slice(0, 4).map((id) => avatar(id, true))),
    el("strong", {}, [said, own].filter(Boolean).join(" · ")),
    el("span", { class: "who-when" }, `${names} · last at ${at}`));
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
      type: "button", class: r.users.includes(page.state.me) ? "mine" : "", title: r.users.map((id) => page.state.users[id]?.name ?? id).join(", "),
      "aria-pressed": String(r.users.includes(page.state.me)), "data-action": `react ${r.name}`,
      onclick: () => act("react", { channel: channel.id, ts: message.ts, name: r.name }),
    }, emoji(r.name), ` ${r.count}`)));
}

function tools(channel, message, look) {
  const react = ["white_check_mark", "eyes", "+1"].map((name) =>
    el("button", { type: "button", title: `React with ${name}`, onclick: () => act("react", { channel: channel.id, ts: message.ts, name }) }, emoji(name)));
  const reply = look.inThread ? null : el("a", { class: "wide", href: threadLink(channel, rootOf(message)), title: "Reply in thread" }, "Reply");
  const kept = page.state.shortcuts.filter((s) => s.type === "message").map((s) =>
    el("button", { type: "button", class: "wide", onclick: () => act("shortcut", { callback_id: s.callback_id, channel: channel.id, ts: message.ts }) }, s.name));
  return el("div", { class: "hover", role: "toolbar", "aria-label": "Message actions" }, react, reply, kept);
}

// --- blocks that act

export async function confirmed(element) {
  const wanted = element.confirm;
  if (!wanted) return true;
  const dialog = document.getElementById("ask");
  return new Promise((done) => {
    const end = (answer) => {
      dialog.close();
      done(answer);
    };
    dialog.replaceChildren(
      el("header", {}, el("h2", {}, simple(wanted.title.text))),
      el("div", { class: "inside" }, el("p", {}, wanted.text.type === "mrkdwn" ? mrkdwn(wanted.text.text, page.state) : simple(wanted.text.text))),
      el("footer", {},
        el("button", { type: "button", class: "plain", onclick: () => end(false) }, simple(wanted.deny.text)),
        el("button", { type: "button", class: wanted.style ?? "primary", autofocus: true, onclick: () => end(true) }, simple(wanted.confirm.text))));
    dialog.oncancel = () => done(false);
    dialog.showModal();
  });
}

export const busy = (block, element, on) => {
  for (const node of document.querySelectorAll(`[data-block="${CSS.escape(block.block_id)}"][data-action="${CSS.escape(element.action_id)}"]`)) node.classList.toggle("busy", on);
};

function messageScreen(channel, message) {
  return {
    people: page.state,
    act: async (block, element, value) => {
      if (!(await confirmed(element))) return;
      busy(block, element, true);
      await act("action", { channel: channel.id, ts: message.ts, block_id: block.block_id, action_id: element.action_id, value });
      busy(block, element, false);
    },
  };
}
