// Block Kit as DOM nodes. What a person does with them is told to `act`.

import { el, markdown, richText, simple, textOf } from "/static/text.js";

// `screen` is {people, act(block, element, value), values, errors, changed(block, element, value)}.
export function blocks(list, screen) {
  return (list ?? []).map((block) => one(block, screen)).filter(Boolean);
}

function one(block, screen) {
  const people = screen.people;
  switch (block.type) {
    case "header": return el("h3", { class: "b-header" }, textOf(block.text, people));
    case "divider": return el("hr", { class: "b-divider" });
    case "section": return section(block, screen);
    case "context":
      return el("div", { class: "b-context" }, block.elements.map((e) =>
        e.type === "image" ? picture(e) : el("span", {}, textOf(e, people))));
    case "actions":
    case "context_actions":
      return el("div", { class: "b-actions" }, block.elements.map((e) => control(block, e, screen)));
    case "image": return el("figure", { class: "b-image" }, block.title ? el("figcaption", {}, textOf(block.title, people)) : null, picture(block));
    case "rich_text": return el("div", { class: "b-rich" }, richText(block, people));
    case "markdown": return el("div", { class: "b-markdown" }, markdown(block.text));
    case "table": return table(block, screen);
    case "input": return input(block, screen);
    case "alert": return el("div", { class: `b-alert ${block.level ?? ""}` }, textOf(block.text, people));
    case "task_card": return task(block, screen);
    case "plan": return el("div", { class: "b-plan" }, el("strong", {}, simple(block.title)), (block.tasks ?? []).map((t) => task(t, screen)));
    default: return el("div", { class: "b-unknown" }, `[${block.type}]`);
  }
}

const STATES = { pending: "○", in_progress: "◐", complete: "●", error: "✕" };

function task(card, screen) {
  return el("div", { class: `b-task ${card.status ?? ""}` },
    el("span", { class: "mark", title: card.status ?? "" }, STATES[card.status] ?? "○"),
    el("div", {}, el("div", {}, simple(card.title)),
      card.details ? richText(card.details, screen.people) : null,
      card.output ? richText(card.output, screen.people) : null));
}

function section(block, screen) {
  const body = el("div", { class: "body" });
  if (block.text) body.append(el("div", { class: "text" }, textOf(block.text, screen.people)));
  if (block.fields) {
    body.append(el("div", { class: "fields" }, block.fields.map((f) => el("div", {}, textOf(f, screen.people)))));
  }
  const accessory = block.accessory;
  if (!accessory) return el("div", { class: "b-section" }, body);
  const shown = accessory.type === "image" ? picture(accessory) : control(block, accessory, screen);
  return el("div", { class: "b-section with" }, body, el("div", { class: "accessory" }, shown));
}

// Pictures from elsewhere are not loaded: the page talks to nobody but this server.
function picture(image) {
  if (/^data:image\//.test(image.image_url ?? "")) return el("img", { src: image.image_url, alt: image.alt_text });
  return el("span", { class: "picture", title: image.image_url }, image.alt_text ?? "");
}

function table(block, screen) {
  const cell = (tag, c) => el(tag, {}, c.type === "rich_text" ? richText(c, screen.people) : String(c.text ?? ""));
  const [head, ...rows] = block.rows ?? [];
  return el("div", { class: "b-table" }, el("table", {},
    el("thead", {}, el("tr", {}, (head ?? []).map((c) => cell("th", c)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((c) => cell("td", c)))))));
}

function input(block, screen) {
  const element = block.element;
  const id = `f-${block.block_id}`;
  const error = screen.errors?.[block.block_id];
  const many = ["checkboxes", "radio_buttons"].includes(element.type) || element.type.startsWith("multi_");
  const label = [...textOf(block.label, screen.people), block.optional ? el("span", { class: "optional" }, " (optional)") : null];
  return el("div", { class: error ? "b-input wrong" : "b-input", role: many ? "group" : undefined, "aria-labelledby": many ? `${id}-l` : undefined },
    many ? el("span", { class: "label", id: `${id}-l` }, label) : el("label", { for: id }, label),
    control(block, element, screen, id),
    block.hint ? el("p", { class: "hint" }, textOf(block.hint, screen.people)) : null,
    error ? el("p", { class: "error", role: "alert" }, error) : null);
}

function chosen(block, element, screen) {
  const state = screen.values?.[block.block_id]?.[element.action_id];
  if (state !== undefined) return state;
  return undefined;
}

// A field's value as the server understands it: option values, ids or text.
export function valueOf(state) {
  if (!state) return null;
  if ("value" in state) return state.value;
  if (state.selected_option !== undefined) return state.selected_option?.value ?? null;
  if (state.selected_options) return state.selected_options.map((o) => o.value);
  const key = Object.keys(state).find((k) => k.startsWith("selected_"));
  return key ? state[key] : null;
}

function start(element) {
  if (element.initial_option) return element.initial_option.value;
  if (element.initial_options) return element.initial_options.map((o) => o.value);
  const key = Object.keys(element).find((k) => k.startsWith("initial_"));
  return key ? element[key] : null;
}

function control(block, element, screen, id) {
  const inInput = block.type === "input";
  const value = chosen(block, element, screen) ?? start(element);
  const tell = (v) => {
    if (inInput) screen.changed?.(block, element, v);
    if (!inInput || block.dispatch_action) screen.act(block, element, v);
  };
  const common = { id, "data-action": element.action_id, "data-block": block.block_id };
  switch (element.type) {
    case "button": return button(block, element, screen, common);
    case "overflow": return overflow(element, screen, tell);
    case "external_select": return lookup(block, element, value, tell, common, screen);
    case "static_select": return select(element, value, tell, common, optionItems(element));
    case "users_select": return select(element, value, tell, common, userItems(screen));
    case "channels_select": return select(element, value, tell, common, channelItems(screen));
    case "conversations_select": return select(element, value, tell, common, [...channelItems(screen), ...userItems(screen)]);
    case "multi_static_select":
    case "checkboxes": return ticks(element, value, tell, common, optionItems(element), "checkbox", screen);
    case "multi_users_select": return ticks(element, value, tell, common, userItems(screen), "checkbox", screen);
    case "multi_channels_select":
    case "multi_conversations_select": return ticks(element, value, tell, common, channelItems(screen), "checkbox", screen);
    case "radio_buttons": return ticks(element, value, tell, common, optionItems(element), "radio", screen);
    default: return field(element, value, tell, common, inInput);
  }
}

function button(block, element, screen, common) {
  return el("button", {
    ...common, type: "button", class: element.style ?? "plain", "aria-label": element.accessibility_label,
    onclick: () => {
      if (/^https?:/.test(element.url ?? "")) window.open(element.url, "_blank", "noopener,noreferrer");
      screen.act(block, element, null);
    },
  }, simple(element.text?.text));
}

function overflow(element, screen, tell) {
  const items = element.options.map((o) => el("button", {
    type: "button",
    onclick: (event) => {
      event.target.closest("details").open = false;
      tell(o.value);
    },
  }, simple(o.text.text)));
  return el("details", { class: "overflow" }, el("summary", { "aria-label": "More" }, "⋯"), el("div", { class: "list" }, items));
}

const optionItems = (element) => element.option_groups
  ? element.option_groups.flatMap((g) => g.options.map((o) => ({ value: o.value, label: simple(o.text.text), group: simple(g.label.text) })))
  : (element.options ?? []).map((o) => ({ value: o.value, label: simple(o.text.text), text: o.text, description: o.description }));
const userItems = (screen) => Object.values(screen.people.users).filter((u) => !u.bot).map((u) => ({ value: u.id, label: u.real_name }));
const channelItems = (screen) => screen.people.channels.filter((c) => c.kind !== "im").map((c) => ({ value: c.id, label: `#${c.name}` }));

function select(element, value, tell, common, items) {
  const made = el("select", { ...common, "aria-label": element.placeholder?.text, onchange: (event) => tell(event.target.value || null) },
    el("option", { value: "" }, simple(element.placeholder?.text ?? "Choose…")));
  const groups = new Map();
  for (const item of items) {
    const option = el("option", { value: item.value, selected: item.value === value }, item.label);
    if (!item.group) made.append(option);
    else {
      if (!groups.has(item.group)) {
        groups.set(item.group, el("optgroup", { label: item.group }));
        made.append(groups.get(item.group));
      }
      groups.get(item.group).append(option);
    }
  }
  return made;
}

// A menu whose options the app is asked for while somebody types.
function lookup(block, element, value, tell, common, screen) {
  const id = `o-${block.block_id}-${element.action_id}`;
  const initial = element.initial_option;
  const shown = value && typeof value === "object" ? value.text.text : value === initial?.value ? initial?.text.text ?? "" : value ?? "";
  const offered = el("datalist", { id });
  let options = [];
  let asked = null;
  const ask = async (typed) => {
    if (typed.length < (element.min_query_length ?? 3) || asked === typed) return;
    asked = typed;
    const found = await screen.suggest?.(block, element, typed);
    if (asked !== typed || !found) return;
    options = found;
    offered.replaceChildren(...found.map((o) => el("option", { value: simple(o.text.text) })));
    choose(typed);
  };
  const choose = (typed) => tell(options.find((o) => simple(o.text.text) === typed) ?? (typed === shown ? value : null));
  const made = el("input", {
    ...common, type: "text", list: id, autocomplete: "off", placeholder: simple(element.placeholder?.text ?? "Type to search"),
    onfocus: () => ask(made.value),
    oninput: () => {
      choose(made.value);
      ask(made.value);
    },
  });
  made.value = simple(shown);
  return el("span", { class: "lookup" }, made, offered);
}

function ticks(element, value, tell, common, items, kind, screen) {
  const picked = new Set(kind === "radio" ? [value] : value ?? []);
  const name = `${common["data-block"]}-${element.action_id}`;
  const box = el("div", { ...common, class: "ticks" });
  for (const item of items) {
    const tick = el("input", {
      type: kind, name, value: item.value, checked: picked.has(item.value),
      onchange: () => {
        const all = [...box.querySelectorAll("input:checked")].map((i) => i.value);
        tell(kind === "radio" ? all[0] ?? null : all);
      },
    });
    box.append(el("label", {}, tick, el("span", {},
      item.text ? textOf(item.text, screen.people) : item.label,
      item.description ? el("small", {}, textOf(item.description, screen.people)) : null)));
  }
  return box;
}

const KINDS = { datepicker: "date", timepicker: "time", number_input: "text", email_text_input: "email", url_text_input: "url" };

function field(element, value, tell, common, quiet) {
  const stamp = element.type === "datetimepicker";
  const attributes = {
    ...common, placeholder: simple(element.placeholder?.text ?? ""), maxlength: element.max_length,
    inputmode: element.type === "number_input" ? "decimal" : undefined, autofocus: element.focus_on_load,
  };
  const report = (event) => {
    const raw = event.target.value;
    tell(stamp && raw ? Math.floor(new Date(raw).getTime() / 1000) : raw || null);
  };
  attributes[quiet ? "oninput" : "onchange"] = report;
  if (element.multiline || element.type === "rich_text_input") {
    const area = el("textarea", { ...attributes, rows: 4 });
    area.value = typeof value === "string" ? value : "";
    return area;
  }
  const made = el("input", { ...attributes, type: stamp ? "datetime-local" : KINDS[element.type] ?? "text" });
  if (stamp && value) {
    const date = new Date((value - new Date().getTimezoneOffset() * 60) * 1000);
    made.value = date.toISOString().slice(0, 16);
  } else if (value !== null && value !== undefined && typeof value !== "object") made.value = value;
  return made;
}
