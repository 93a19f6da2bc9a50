// Where a person writes: a field that grows, suggestions above it, and a draft for each place.

import { page } from "/static/server.js";
import { el } from "/static/text.js";

export const commandItems = () => page.state.commands.map((c) => ({ put: `${c.name} `, title: c.name, hint: c.hint, about: c.description }));

export class Writer {
  // `send(text)` is told what was written. Slack knows no slash commands in threads, so they are not suggested there.
  constructor(form, { send, commands, leave }) {
    this.form = form;
    this.send = send;
    this.commands = commands;
    this.leave = leave;
    this.text = form.querySelector("textarea");
    this.box = form.querySelector(".menu");
    this.items = [];
    this.at = 0;
    this.drafts = new Map();
    this.place = "";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.done();
    });
    this.text.addEventListener("input", () => {
      this.grow();
      this.suggest();
    });
    this.text.addEventListener("blur", () => this.suggest([]));
    this.text.addEventListener("keydown", (event) => this.key(event));
  }

  // Go to another place; what was begun in the old one is kept for later.
  move(place) {
    if (place === this.place) return;
    this.drafts.set(this.place, this.text.value);
    this.place = place;
    this.put(this.drafts.get(place) ?? "");
  }

  put(text) {
    this.text.value = text;
    this.grow();
    this.suggest([]);
  }

  grow() {
    this.text.style.height = "auto";
    if (this.text.scrollHeight) this.text.style.height = `${Math.min(this.text.scrollHeight, 160)}px`;
  }

  async done() {
    const text = this.text.value.trim();
    const place = this.place;
    if (!text) return;
    this.put("");
    const answer = await this.send(text);
    // What was refused is not lost, unless something else has been begun meanwhile.
    if (!answer?.error) return;
    if (place !== this.place) this.drafts.set(place, this.drafts.get(place) || text);
    else if (!this.text.value) this.put(text);
  }

  fitting() {
    const text = this.text.value;
    if (this.commands && /^\/\S*$/.test(text)) return commandItems().filter((c) => c.title.startsWith(text));
    const before = text.slice(0, this.text.selectionStart);
    const mention = /(?:^|\s)@(\w*)$/.exec(before);
    if (!mention) return [];
    const start = before.slice(0, before.length - mention[1].length);
    const rest = text.slice(this.text.selectionStart);
    return Object.values(page.state.users).filter((u) => u.name.startsWith(mention[1].toLowerCase())).map((u) => ({
      put: `${start}${u.name} ${rest}`, title: `@${u.name}`, hint: "", about: u.real_name,
    }));
  }

  suggest(items = this.fitting()) {
    this.items = items;
    this.at = Math.min(this.at, Math.max(0, items.length - 1));
    this.box.hidden = !items.length;
    const name = (i) => `${this.box.id}-${i}`;
    this.box.replaceChildren(...items.map((item, i) => el("li", {
      role: "option", id: name(i), "aria-selected": String(i === this.at), class: i === this.at ? "here" : "",
      onmousedown: (event) => {
        event.preventDefault();
        this.take(item);
      },
    }, el("strong", {}, item.title), item.hint ? el("code", {}, item.hint) : null, el("span", {}, item.about))));
    if (items.length) this.text.setAttribute("aria-activedescendant", name(this.at));
    else this.text.removeAttribute("aria-activedescendant");
    this.box.querySelector(".here")?.scrollIntoView({ block: "nearest" });
  }

  take(item) {
    if (item.run) {
      this.suggest([]);
      item.run();
    } else this.put(item.put);
    this.text.focus();
  }

  key(event) {
    if (event.isComposing) return;
    const many = this.items.length;
    const exact = many === 1 && this.items[0].put?.trim() === this.text.value.trim();
    if (many && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      this.at = (this.at + (event.key === "ArrowDown" ? 1 : many - 1)) % many;
      this.suggest(this.items);
    } else if (many && ((event.key === "Tab" && !event.shiftKey) || (event.key === "Enter" && !exact))) {
      event.preventDefault();
      this.take(this.items[this.at]);
    } else if (event.key === "Escape") {
      // What this key closes here is not closed a second time further up.
      event.stopPropagation();
      if (many) this.suggest([]);
      else this.leave?.();
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.done();
    }
  }
}
