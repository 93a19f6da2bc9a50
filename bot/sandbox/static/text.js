// mrkdwn, Markdown and rich text as DOM nodes. Nothing here ever parses HTML: text stays text.

const EMOJI = {
  crown: "👑", white_small_square: "▫️", heavy_minus_sign: "➖", rotating_light: "🚨", fire: "🔥", warning: "⚠️", bell: "🔔", no_bell: "🔕", white_check_mark: "✅", heavy_check_mark: "✔️",
  x: "❌", eyes: "👀", "+1": "👍", thumbsup: "👍", "-1": "👎", tada: "🎉", rocket: "🚀", memo: "📝", pushpin: "📌", link: "🔗",
  book: "📖", books: "📚", hourglass: "⌛", hourglass_flowing_sand: "⏳", stopwatch: "⏱️", alarm_clock: "⏰", clock3: "🕒",
  red_circle: "🔴", large_orange_circle: "🟠", orange_circle: "🟠", large_yellow_circle: "🟡", yellow_circle: "🟡",
  large_green_circle: "🟢", green_circle: "🟢", large_blue_circle: "🔵", blue_circle: "🔵", white_circle: "⚪", black_circle: "⚫",
  raised_hand: "✋", hand: "✋", wave: "👋", pray: "🙏", muscle: "💪", bulb: "💡", mag: "🔍", wrench: "🔧", hammer_and_wrench: "🛠️",
  gear: "⚙️", lock: "🔒", unlock: "🔓", key: "🔑", shield: "🛡️", pager: "📟", telephone_receiver: "📞", phone: "☎️", mega: "📣",
  loudspeaker: "📢", speech_balloon: "💬", thread: "🧵", bust_in_silhouette: "👤", busts_in_silhouette: "👥", firefighter: "🧑‍🚒",
  page_facing_up: "📄", bookmark_tabs: "📑", clipboard: "📋", calendar: "📅", spiral_calendar_pad: "🗓️", chart_with_upwards_trend: "📈",
  chart_with_downwards_trend: "📉", bar_chart: "📊", arrow_forward: "▶️", fast_forward: "⏩", repeat: "🔁", arrows_counterclockwise: "🔄",
  leftwards_arrow_with_hook: "↩️", rewind: "⏪", double_vertical_bar: "⏸️", black_square_for_stop: "⏹️", octagonal_sign: "🛑",
  no_entry: "⛔", no_entry_sign: "🚫", question: "❓", grey_question: "❔", exclamation: "❗", information_source: "ℹ️", zap: "⚡",
  seedling: "🌱", test_tube: "🧪", crossed_swords: "⚔️", label: "🏷️", inbox_tray: "📥", outbox_tray: "📤", package: "📦", robot_face: "🤖",
  heart: "❤️", smile: "😄", slightly_smiling_face: "🙂", thinking_face: "🤔", checkered_flag: "🏁", triangular_flag_on_post: "🚩",
  arrow_right: "➡️", arrow_up: "⬆️", arrow_down: "⬇️", new: "🆕", sos: "🆘", ballot_box_with_check: "☑️", ballot_box_with_ballot: "🗳️", paperclip: "📎", point_left: "👈", boom: "💥", house: "🏠", scroll: "📜",
};

// Without a colour emoji font a browser draws empty boxes; then words and coloured dots do better.
const COLOUR = (() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  if (!context) return true;
  context.font = "16px sans-serif";
  context.fillText("\u{1F534}", 0, 16);
  const { data } = context.getImageData(0, 0, 20, 20);
  for (let i = 0; i < data.length; i += 4) if (data[i] > data[i + 1] + 40) return true;
  return false;
})();
const DOTS = /^(?:large_)?(red|orange|yellow|green|blue|white|black)_circle$/;
const WORDS = { white_check_mark: "✓", heavy_check_mark: "✓", x: "✗", warning: "⚠", "+1": "+1", "-1": "−1" };

// The emoji of a short name, as a node.
export function emoji(name) {
  if (COLOUR || !(name in EMOJI)) return document.createTextNode(EMOJI[name] ?? `:${name}:`);
  const dot = DOTS.exec(name);
  if (dot) return el("span", { class: `circle ${dot[1]}`, role: "img", "aria-label": name });
  return el("span", { class: "shortcode", title: name }, WORDS[name] ?? `:${name}:`);
}

// The same where only text fits, such as on a button.
const glyph = (name) => (COLOUR ? EMOJI[name] : WORDS[name] ?? "");

// A small way to make elements: text and children are always nodes or text, never markup.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return made;
}

// Make *nodes* the children of *box*, moving nothing that is in its place: focus and scroll stay.
export function sync(box, nodes) {
  const wanted = new Set(nodes);
  for (const old of [...box.childNodes]) if (!wanted.has(old)) old.remove();
  let at = box.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else box.insertBefore(node, at);
  }
}

const plain = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

function anchor(url, label) {
  if (!/^(https?:|mailto:)/i.test(url)) return document.createTextNode(label ?? url);
  return el("a", { href: url, target: "_blank", rel: "noopener noreferrer" }, label ?? url);
}

function person(id, people) {
  const user = people.users[id];
  return el("span", { class: id === people.me ? "mention me" : "mention" }, `@${user ? user.name : id}`);
}

function place(id, label, people) {
  const channel = people.channels.find((c) => c.id === id);
  const name = channel ? channel.name : label || id;
  return channel ? el("a", { class: "mention", href: `#${id}` }, `#${name}`) : el("span", { class: "mention" }, `#${name}`);
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const two = (n) => String(n).padStart(2, "0");

export function day(date) {
  return `${MONTHS[date.getMonth()]} ${date.getDate()}, ${date.getFullYear()}`;
}

export function clock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

function when(seconds, format, fallback) {
  const date = new Date(Number(seconds) * 1000);
  if (Number.isNaN(date.getTime())) return fallback ?? "";
  const parts = {
    date: day(date), date_short: day(date), date_long: day(date), date_pretty: day(date), date_short_pretty: day(date),
    date_long_pretty: day(date), date_num: `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`,
    time: clock(date), time_secs: `${clock(date)}:${two(date.getSeconds())}`, ago: ago(date),
  };
  return format.replace(/\{(\w+)\}/g, (whole, name) => parts[name] ?? whole);
}

function ago(date) {
  const minutes = Math.round((Date.now() - date.getTime()) / 60000);
  if (minutes < 1) return "just now";
  return minutes < 90 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
}

function bracket(inner, people) {
  const [target, label] = inner.split(/\|(.*)/s);
  if (target.startsWith("@")) return person(target.slice(1), people);
  if (target.startsWith("#")) return place(target.slice(1), label, people);
  if (target.startsWith("!date^")) {
    const [, seconds, format, link] = target.split("^");
    const shown = when(seconds, format ?? "", label);
    return el("time", { title: label }, link ? anchor(link, shown) : shown);
  }
  if (target.startsWith("!subteam^")) return el("span", { class: "mention" }, `@${people.groups[target.slice(9)] ?? label ?? "group"}`);
  if (target.startsWith("!")) return el("span", { class: "mention loud" }, `@${target.slice(1)}`);
  return anchor(plain(target), label === undefined ? plain(target) : plain(label));
}

const INLINE = new RegExp(
  [
    "`(?<code>[^`\\n]+)`",
    "<(?<link>[^<>\\n]+)>",
    "(?<![\\w*])\\*(?<bold>[^\\s*](?:[^*\\n]*[^\\s*])?)\\*(?![\\w*])",
    "(?<![\\w_])_(?<italic>[^\\s_](?:[^_\\n]*[^\\s_])?)_(?![\\w_])",
    "(?<![\\w~])~(?<strike>[^\\s~](?:[^~\\n]*[^\\s~])?)~(?![\\w~])",
    ":(?<emoji>[a-z0-9_+-]+):",
  ].join("|"),
  "g",
);

function inline(text, people) {
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.groups.emoji && !(match.groups.emoji in EMOJI)) continue;
    nodes.push(plain(text.slice(last, match.index)));
    last = match.index + match[0].length;
    const { code, link, bold, italic, strike, emoji: name } = match.groups;
    if (code !== undefined) nodes.push(el("code", {}, plain(code)));
    else if (link !== undefined) nodes.push(bracket(link, people));
    else if (bold !== undefined) nodes.push(el("strong", {}, inline(bold, people)));
    else if (italic !== undefined) nodes.push(el("em", {}, inline(italic, people)));
    else if (strike !== undefined) nodes.push(el("s", {}, inline(strike, people)));
    else nodes.push(emoji(name));
  }
  nodes.push(plain(text.slice(last)));
  return nodes.filter((node) => node !== "");
}

function lines(text, people) {
  const nodes = [];
  for (const part of text.split(/^((?:(?:&gt;|>) ?.*(?:\n|$))+)/m)) {
    if (/^(&gt;|>)/.test(part)) {
      const quoted = part.replace(/\n$/, "").replace(/^(?:&gt;|>) ?/gm, "");
      nodes.push(el("blockquote", {}, broken(quoted, people)));
    } else if (part) nodes.push(...broken(part, people));
  }
  return nodes;
}

function broken(text, people) {
  return text.split("\n").flatMap((line, i) => [...(i ? [el("br")] : []), ...inline(line, people)]);
}

export function mrkdwn(text, people) {
  return String(text ?? "").split(/```\n?([\s\S]*?)```/).flatMap((part, i) =>
    i % 2 ? [el("pre", {}, plain(part.replace(/\n$/, "")))] : lines(part, people));
}

export function simple(text) {
  return String(text ?? "").replace(/:([a-z0-9_+-]+): ?/g, (whole, name) => {
    if (!(name in EMOJI)) return whole;
    const shown = glyph(name);
    return shown && whole.endsWith(" ") ? `${shown} ` : shown;
  });
}

// A text object of Block Kit.
export function textOf(object, people) {
  if (!object) return [];
  return object.type === "mrkdwn" ? mrkdwn(object.text, people) : [simple(object.text)];
}

const MARKDOWN = /`([^`]+)`|\*\*([^*]+)\*\*|(?<!\w)[*_]([^*_\s][^*_]*)[*_](?!\w)|~~([^~]+)~~|\[([^\]]+)\]\(([^)\s]+)\)|:([a-z0-9_+-]+):/g;

function markdownLine(text) {
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(MARKDOWN)) {
    nodes.push(text.slice(last, match.index));
    last = match.index + match[0].length;
    const [, code, bold, italic, strike, label, url, name] = match;
    if (code !== undefined) nodes.push(el("code", {}, code));
    else if (bold !== undefined) nodes.push(el("strong", {}, markdownLine(bold)));
    else if (italic !== undefined) nodes.push(el("em", {}, italic));
    else if (strike !== undefined) nodes.push(el("s", {}, strike));
    else if (label !== undefined) nodes.push(anchor(url, label));
    else nodes.push(emoji(name));
  }
  nodes.push(text.slice(last));
  return nodes.filter((node) => node !== "");
}

export function markdown(text) {
  const nodes = [];
  String(text ?? "").split(/```\w*\n?([\s\S]*?)```/).forEach((part, i) => {
    if (i % 2) return nodes.push(el("pre", {}, part.replace(/\n$/, "")));
    let list = null;
    for (const line of part.split("\n")) {
      const item = /^\s*(?:[-*+]|(\d+)\.)\s+(.*)/.exec(line);
      const heading = /^(#{1,6})\s+(.*)/.exec(line);
      if (item) {
        if (!list) nodes.push((list = el(item[1] ? "ol" : "ul")));
        list.append(el("li", {}, markdownLine(item[2])));
        continue;
      }
      list = null;
      if (heading) nodes.push(el("p", { class: "heading" }, markdownLine(heading[2])));
      else if (/^>\s?/.test(line)) nodes.push(el("blockquote", {}, markdownLine(line.replace(/^>\s?/, ""))));
      else if (/^(---+|\*\*\*+)$/.test(line)) nodes.push(el("hr"));
      else if (line.trim()) nodes.push(el("p", {}, markdownLine(line)));
    }
    return undefined;
  });
  return nodes;
}

function rich(part, people) {
  const styled = (node) => {
    const style = part.style ?? {};
    for (const [name, tag] of [["code", "code"], ["bold", "strong"], ["italic", "em"], ["strike", "s"]]) {
      if (style[name]) node = el(tag, {}, node);
    }
    return node;
  };
  switch (part.type) {
    case "text": return styled(el("span", { class: "keep" }, part.text));
    case "link": return styled(anchor(part.url, part.text));
    case "emoji": return emoji(part.name);
    case "user": return person(part.user_id, people);
    case "channel": return place(part.channel_id, "", people);
    case "usergroup": return el("span", { class: "mention" }, `@${people.groups[part.usergroup_id] ?? "group"}`);
    case "broadcast": return el("span", { class: "mention loud" }, `@${part.range}`);
    case "date": return when(part.timestamp, part.format ?? "", part.fallback);
    case "rich_text_section": return el("div", {}, (part.elements ?? []).map((p) => rich(p, people)));
    case "rich_text_quote": return el("blockquote", {}, (part.elements ?? []).map((p) => rich(p, people)));
    case "rich_text_preformatted": return el("pre", {}, (part.elements ?? []).map((p) => p.text ?? p.url ?? ""));
    case "rich_text_list":
      return el(part.style === "ordered" ? "ol" : "ul", { class: `indent-${part.indent ?? 0}` },
        (part.elements ?? []).map((p) => el("li", {}, rich(p, people))));
    default: return "";
  }
}

export const richText = (block, people) => (block.elements ?? []).map((part) => rich(part, people));
