// What makes pages live: one stream of server-sent events, times that stay current, keys, dialogs. No page needs it to be read.
"use strict";

const GO = { f: "/", o: "/orders", d: "/dead-letters", h: "/health" };
const HIDDEN_MS = 5000;
const AGAIN_MS = [500, 1000, 2000, 4000, 8000];

/** One stream for the tab. A tab that nobody sees closes it; a browser has few connections, and services have work. */
function stream(root) {
  const light = document.querySelector("[data-stream]");
  const words = light.querySelector("[data-stream-text]");
  let source = null;
  let failures = 0;
  let hiding = 0;

  const tell = (state, text) => {
    light.dataset.stream = state;
    if (words.textContent !== text) words.textContent = text;
  };

  function open() {
    if (source) return;
    source = new EventSource(root.dataset.live);
    source.onopen = () => { failures = 0; tell("on", "Live"); };
    source.onerror = () => {
      tell("off", "Reconnecting …");
      if (source && source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(open, AGAIN_MS[Math.min(failures++, AGAIN_MS.length - 1)]);
      }
    };
    source.addEventListener("end", () => { close(); tell("done", ""); });
    for (const part of root.querySelectorAll("[data-part]")) {
      source.addEventListener(part.dataset.part, (event) => show(part, event.data));
    }
  }

  function close() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => { close(); tell("off", "Paused"); }, HIDDEN_MS);
    else open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", () => open());
  tell("off", "Connecting …");
  open();
}

/** By part: what came for it while a form in it was begun. */
const withheld = new WeakMap();

function isBegun(form) {
  return [...form.elements].some((each) => {
    if (each.options) return each.selectedIndex !== Math.max(0, [...each.options].findIndex((option) => option.defaultSelected));
    if (each.type === "checkbox") return each.checked !== each.defaultChecked;
    return "defaultValue" in each && each.value !== each.defaultValue;
  });
}

/** What a person has opened, or begun to fill in, stays as it is. */
function show(part, data) {
  const receiver = part.dispatchEvent(new CustomEvent("part", { detail: data, cancelable: true }));
  if (!receiver) return;
  withheld.delete(part);
  const callbacks = {
    beforeNodeMorphed: (old) => {
      if (old.nodeName !== "FORM" || !isBegun(old)) return true;
      withheld.set(part, data);
      return false;
    },
    beforeAttributeUpdated: (name, node) => !(name === "open" && node.nodeName === "DETAILS"),
  };
  Idiomorph.morph(part, data, { morphStyle: "innerHTML", callbacks });
  htmx.process(part);
  times(part);
}

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function distance(ms) {
  if (ms < 1000) return "just now";
  const seconds = ms / 1000;
  for (let at = 0; at < UNITS.length; at++) {
    const [size, unit] = UNITS[at];
    if (seconds < size) continue;
    const next = UNITS[at + 1];
    const rest = size > 60 && next ? Math.floor((seconds % size) / next[0]) : 0;
    return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""} ago`;
  }
}

/** The time of day where the reader is; the title has it in UTC. */
function timeOfDay(at) {
  return `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

function times(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const text = "exact" in time.dataset ? timeOfDay(at) : distance(Date.now() - at);
    if (time.textContent !== text) time.textContent = text;
  }
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
  if (keys.after === "g" && GO[event.key]) location.assign(GO[event.key]);
  else if (event.key === "?") document.getElementById("keys").showModal();
  else if (event.key === "/" && document.querySelector("[data-search]")) {
    event.preventDefault();
    document.querySelector("[data-search]").focus();
  }
  keys.after = event.key;
}

function clicks(event) {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  if (event.target.closest("[data-closes]")) event.target.closest("dialog").close();
  const copier = event.target.closest("[data-copies]");
  if (copier) {
    navigator.clipboard.writeText(document.getElementById(copier.dataset.copies).textContent);
    copier.textContent = "Copied";
  }
  if (event.target.closest("[data-theme-switch]")) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const shown = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    document.documentElement.dataset.theme = shown === "dark" ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
    dispatchEvent(new Event("theme"));
  }
}

/** Who has gone on to another page is not fetched back by the answer to what they did before. */
let leaving = false;
addEventListener("beforeunload", () => { leaving = true; });
document.addEventListener("click", () => { leaving = false; }, true);
document.addEventListener("htmx:beforeOnLoad", (event) => { if (leaving) event.preventDefault(); });

/** What was taken is no draft any more: its form goes on living. */
function taken(event) {
  const { elt: form, successful } = event.detail;
  if (!successful || form.nodeName !== "FORM") return;
  for (const each of form.elements) {
    for (const option of each.options ?? []) option.defaultSelected = option.selected;
    if ("defaultChecked" in each) each.defaultChecked = each.checked;
    if ("defaultValue" in each) each.defaultValue = each.value;
  }
  const part = form.closest("[data-part]");
  if (withheld.has(part)) show(part, withheld.get(part));
}

/** A link of another page may lead to a dialog of this one. */
function led() {
  const dialog = location.hash && document.getElementById(location.hash.slice(1));
  if (!(dialog instanceof HTMLDialogElement)) return;
  history.replaceState(null, "", location.pathname + location.search);
  dialog.showModal();
}

document.addEventListener("htmx:afterRequest", taken);
document.addEventListener("keydown", keys);
document.addEventListener("click", clicks);
document.addEventListener("htmx:afterSwap", (event) => times(event.target));
document.addEventListener("htmx:sendError", (event) => {
  event.detail.elt.setAttribute("data-failed", "");
  const light = document.querySelector("[data-stream-text]");
  light.textContent = "The console does not answer";
});
times(document);
setInterval(() => { if (!document.hidden) times(document); }, 1000);
for (const root of document.querySelectorAll("[data-live]")) stream(root);
led();
