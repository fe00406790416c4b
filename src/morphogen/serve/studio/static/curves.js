"use strict";
// A training as it goes on: its curves, and the parts of the page that change with it.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320, HEIGHT = 150, LEFT = 52, BELOW = 20, ABOVE = 8; // of a curve, and its margins
const MOST = 12; // curves
const WIDE = 20; // times the least, from which a scale is logarithmic
const place = document.querySelector("[data-follow]");
const curves = new Map(); // name -> { points, value, picture }

// -- one curve ------------------------------------------------------------------------------------

function piece(name, facts, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(facts)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

const TINY = 1e-3; // below, a number is written with its power of ten
const short = (value) =>
  value && Math.abs(value) < TINY ? value.toExponential(1) : String(Number(value.toPrecision(3)));
const counted = (step) => step.toLocaleString("en");

// An exponential average over a twentieth of the points, as in the picture of a finished run.
function smoothed(values) {
  const keep = 1 - 1 / Math.max(1, values.length / 20);
  let average = values[0];
  return values.map((value) => (average = keep * average + (1 - keep) * value));
}

function curve(name) {
  if (curves.has(name)) return curves.get(name);
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  const value = document.createElement("strong");
  const picture = piece("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  caption.append(`${name.replaceAll("_", " ")} `, value);
  figure.append(caption, picture);
  place.append(figure);
  curves.set(name, { points: [], value, picture });
  return curves.get(name);
}

function draw(name) {
  const { points, value, picture } = curve(name);
  const steps = points.map(([step]) => step), values = points.map(([, each]) => each);
  const least = values.reduce((a, b) => Math.min(a, b)), most = values.reduce((a, b) => Math.max(a, b));
  const scale = least > 0 && most > WIDE * least ? Math.log10 : (each) => each;
  const [low, high] = [scale(least), scale(most)], [first, last] = [steps[0], steps.at(-1)];
  const x = (step) => LEFT + ((step - first) / (last - first || 1)) * (WIDTH - LEFT - 6);
  const y = (each) => HEIGHT - BELOW - ((scale(each) - low) / (high - low || 1)) * (HEIGHT - BELOW - ABOVE);
  const line = (own) => own.map((each, i) => `${i ? "L" : "M"}${x(steps[i]).toFixed(1)} ${y(each).toFixed(1)}`).join("") + (own.length > 1 ? "" : "h.1"); // a dot
  value.textContent = short(values.at(-1));
  picture.setAttribute("aria-label", `${name.replaceAll("_", " ")}: ${short(values[0])} at step ${counted(first)}, ` +
    `${short(values.at(-1))} at step ${counted(last)}, between ${short(least)} and ${short(most)}`);
  picture.replaceChildren(
    piece("path", { class: "axis", d: `M${LEFT} ${ABOVE}V${HEIGHT - BELOW}H${WIDTH - 6}` }),
    piece("path", { class: "logged", d: line(values) }),
    piece("path", { class: "smooth", d: line(smoothed(values)) }),
    piece("text", { x: LEFT - 6, y: ABOVE + 8, class: "end" }, short(most)),
    piece("text", { x: LEFT - 6, y: HEIGHT - BELOW, class: "end" }, short(least)),
    piece("text", { x: LEFT, y: HEIGHT - 5 }, counted(first)),
    piece("text", { x: WIDTH - 6, y: HEIGHT - 5, class: "end" }, counted(last)),
  );
}

// -- the page -------------------------------------------------------------------------------------

function stand(told) {
  for (const name of ["step", "seconds", "left"]) {
    const shown = document.querySelector(`[data-stand=${name}]`);
    if (shown && told[name] !== undefined) shown.textContent = told[name];
  }
  const bar = document.querySelector("[data-stand=progress]");
  if (bar && typeof told.progress === "number") bar.value = told.progress;
}

// Parts of the page as the server has them now; whoever is on a button there stays on it.
async function renew() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-renewed]")) {
    const other = fresh.getElementById(part.id);
    if (!other || part.isEqualNode(other)) continue;
    const deeds = "a, button, summary, audio, [tabindex]";
    const held = [...part.querySelectorAll(deeds)].indexOf(document.activeElement);
    if (part.open) other.open = true;
    part.replaceWith(document.adoptNode(other));
    if (held >= 0) (other.querySelectorAll(deeds)[held] ?? document.querySelector("#main")).focus();
  }
}

function follow() {
  const coming = new EventSource(place.dataset.follow);
  let before = null;
  coming.addEventListener("message", (event) => {
    const told = JSON.parse(event.data);
    if (told.over) coming.close();
    if (told.anew) {
      place.replaceChildren();
      curves.clear();
    }
    for (const [name, points] of Object.entries(told.points ?? {})) {
      if (!curves.has(name) && curves.size >= MOST) continue;
      curve(name).points.push(...points);
      draw(name);
    }
    stand(told);
    const state = told.state ?? place.dataset.state;
    const changed = before ? told.events > 0 || told.sheets !== before.sheets : false;
    if (changed || state !== place.dataset.state) renew();
    place.dataset.state = state;
    before = { sheets: told.sheets ?? before?.sheets };
  });
}

if (place) follow();
