// What the page knows, and how it speaks with the server.

import { el } from "/static/text.js";

const query = new URLSearchParams(location.search);

export const page = { me: query.get("user") || sessionStorage.getItem("user") || "alice", state: null };

export function become(name) {
  page.me = name;
  sessionStorage.setItem("user", name);
  query.set("user", name);
  history.replaceState(null, "", `?${query}${location.hash}`);
}

// Do something as the person at the page.
export async function act(deed, body = {}) {
  try {
    const response = await fetch("/page/act", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ do: deed, user: page.me, ...body }),
    });
    const answer = response.headers.get("Content-Type")?.includes("json") ? await response.json() : { error: await response.text() };
    if (!response.ok) toast(answer.error || "That did not work.");
    return answer;
  } catch {
    toast("The sandbox cannot be reached.");
    return { error: "unreachable" };
  }
}

export function toast(text, kind = "bad") {
  const node = el("div", { class: `toast ${kind}` }, el("span", {}, text), el("button", { type: "button", "aria-label": "Dismiss", onclick: () => node.remove() }, "✕"));
  // A modal dialog covers everything else on the page, so the toast goes into it.
  const dialog = document.getElementById("modal");
  const box = dialog.open ? dialog.querySelector(".inside") : null;
  (box ?? document.getElementById("toasts")).prepend(node);
  setTimeout(() => node.remove(), 9000);
}

// A function that runs *work* when asked, never twice at a time, and once more if asked meanwhile.
export function single(work) {
  let running = null;
  let wanted = false;
  return function run() {
    wanted = true;
    running ??= (async () => {
      try {
        while (wanted) {
          wanted = false;
          await work();
        }
      } finally {
        running = null;
      }
    })();
    return running;
  };
}
