"use strict";
// What htmx does not do: conversations as they come, keys, frames as high as what they show.

const token = () => document.querySelector('meta[name="page-token"]')?.content ?? "";
const isTyping = (target) =>
  target instanceof HTMLElement &&
  (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));

// -- frames ---------------------------------------------------------------------------------------

function fit(frame) {
  const inside = frame.contentDocument?.body;
  if (inside) frame.style.height = `${Math.ceil(inside.getBoundingClientRect().height) + 4}px`;
}

document.addEventListener("load", (event) => {
  if (event.target instanceof HTMLIFrameElement && "fit" in event.target.dataset) fit(event.target);
}, true);
window.addEventListener("resize", () => document.querySelectorAll("iframe[data-fit]").forEach(fit));

// -- settings in the address ----------------------------------------------------------------------

function inAddress(values) {
  const address = new URL(location.href);
  for (const [name, value] of Object.entries(values)) {
    if (value === "" || value == null) address.searchParams.delete(name);
    else address.searchParams.set(name, value);
  }
  history.replaceState(history.state, "", address);
}

document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (!form || !(form.id === "settings" || "inAddress" in form.dataset)) return;
  if (event.target.type === "file" || event.target.id === "text" || !event.target.name) return;
  inAddress({ [event.target.name]: event.target.value });
});

// -- conversations --------------------------------------------------------------------------------

// What happens is told to whoever listens, such as what reads answers aloud (voice.js).
const tell = (what, detail) => document.dispatchEvent(new CustomEvent(what, { detail }));

let running = null; // what stops the answer that is coming

const talk = () => document.querySelector("#talk");
const say = () => document.querySelector("#say");

function settings() {
  const form = document.querySelector("#settings");
  return form ? Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== "")) : {};
}

function addTurn(role, name, text) {
  const turn = document.createElement("section");
  turn.className = `turn ${role}`;
  const who = document.createElement("p");
  who.className = "role";
  who.textContent = name;
  const said = document.createElement("div");
  said.className = "said";
  said.textContent = text;
  turn.append(who, said);
  talk().append(turn);
  return turn;
}

// Turns of an event stream -> objects, as they come.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}

function fail(message) {
  const place = say().querySelector("[role=alert]");
  place.textContent = message;
  place.hidden = !message;
}

function busy(is) {
  say().querySelector("[data-stop]").hidden = !is;
  say().querySelector("[data-send]").disabled = is;
  say().querySelector("[data-status]").textContent = is ? "The model writes." : "";
}

// The page as the server has it after this turn: with branches, and what can be done.
async function refresh(query) {
  const address = new URL(location.href);
  for (const name of ["at", "of", "branch", "open"]) address.searchParams.delete(name);
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, value);
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const part = fresh.querySelector("#talk");
  if (!part) return;
  talk().replaceWith(document.adoptNode(part));
  const form = fresh.querySelector("#say"), was = say().querySelector("textarea").value;
  say().replaceWith(document.adoptNode(form));
  say().querySelector("textarea").value = was;
  history.pushState(null, "", address);
  tell("shown");
}

async function send(text, after, shown) {
  if (running) return;
  const { system = "", ...told } = settings();
  running = new AbortController();
  let uid = null, stopped = false;
  fail("");
  busy(true);
  if (text !== null) addTurn("user", "you", text);
  const turn = addTurn("assistant live", "model", shown ?? "");
  const said = turn.querySelector(".said");
  turn.scrollIntoView({ block: "nearest" });
  tell("answer-begins");
  let isWhole = false;
  try {
    const response = await fetch(talk().dataset.talk, {
      method: "POST",
      headers: { "content-type": "application/json", "x-page-token": token() },
      body: JSON.stringify({ text, after, system, settings: told }),
      signal: running.signal,
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    uid = response.headers.get("x-generation-id");
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error);
      if (!event.text) continue;
      said.textContent += event.text;
      tell("answer-grows", event.text);
    }
    isWhole = true;
    say().querySelector("textarea").value = "";
  } catch (error) {
    stopped = error.name === "AbortError";
    if (!stopped) fail(error.message);
  }
  running = null;
  turn.classList.remove("live");
  busy(false);
  if (stopped) await new Promise((done) => setTimeout(done, 400)); // until it is recorded as cut
  if (uid) await refresh({ of: uid });
  else if (!stopped) turn.remove();
  tell("answer-ends", isWhole);
  say().querySelector("textarea").focus();
}

const nodeOf = (word) => (word ? Number(word) : null);

function edit(turn) {
  const said = turn.querySelector(".said"), before = said.textContent;
  const form = document.createElement("form");
  const area = document.createElement("textarea");
  area.value = before;
  area.setAttribute("aria-label", "What it should be instead");
  const row = document.createElement("div");
  row.className = "row";
  const go = document.createElement("button");
  go.textContent = "Send as a branch";
  const leave = document.createElement("button");
  leave.type = "button";
  leave.className = "quiet";
  leave.textContent = "Leave it";
  row.append(go, leave);
  form.append(area, row);
  said.replaceWith(form);
  area.focus();
  leave.addEventListener("click", () => form.replaceWith(said));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const after = nodeOf(turn.dataset.after);
    if (after === null) {
      const beside = new URLSearchParams(location.search).get("beside");
      const nodes = new Set([...(beside ? beside.split(",") : []), turn.dataset.node]);
      inAddress({ beside: [...nodes].join(",") });
    }
    while (turn.nextElementSibling) turn.nextElementSibling.remove();
    turn.remove();
    send(area.value, after);
  });
}

document.addEventListener("submit", (event) => {
  if (event.target.id === "settings") event.preventDefault();
  if (event.target.id !== "say") return;
  event.preventDefault();
  const text = event.target.querySelector("textarea").value;
  if (text) send(text, "chats" in event.target.dataset ? nodeOf(talk().dataset.at) : null);
});

document.addEventListener("click", (event) => {
  const at = (name) => event.target.closest(`[${name}]`);
  if (at("data-stop")) running?.abort();
  else if (at("data-edit")) edit(at("data-edit").closest(".turn"));
  else if (at("data-on")) send(null, nodeOf(talk().dataset.at));
  else if (at("data-again")) {
    const turn = at("data-again").closest(".turn"), after = nodeOf(at("data-again").dataset.again);
    while (turn.nextElementSibling) turn.nextElementSibling.remove();
    turn.remove();
    send(null, after);
  } else if (at("data-branch") && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    refresh(Object.fromEntries(new URL(at("data-branch").href).searchParams));
  }
});

window.addEventListener("popstate", () => talk() && location.reload());

// -- keys -----------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) return running.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest?.("form")) {
    event.preventDefault();
    return event.target.closest("form").requestSubmit();
  }
  if (isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const deed = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (deed) {
    event.preventDefault();
    deed.click();
  }
});
