"use strict";
// The playground: walks between items, a map of latents, what is painted and marked.
{
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

  function say(place, text) {
    const element = $(place);
    if (element) element.textContent = text;
  }

  // A file, as if it had been chosen.
  function choose(input, blob, name) {
    const held = new DataTransfer();
    held.items.add(new File([blob], name, { type: blob.type }));
    input.files = held.files;
  }

  // -- from one item to another -------------------------------------------------------------------

  function showStep(box) {
    const slider = $("[data-step]", box), frames = $$("iframe", box), at = Number(slider.value);
    for (const element of [slider, $("#h-step", box)]) element.hidden = false;
    frames.forEach((frame, number) => (frame.hidden = number !== at));
    fit(frames[at]);
    const told = `${frames[at].dataset.weight}, step ${at + 1} of ${frames.length}`;
    $("output", box).textContent = told;
    slider.setAttribute("aria-valuetext", told);
  }

  // -- the map ------------------------------------------------------------------------------------

  const SIDE = 220, EDGE = 110, INNER = 100; // of its drawing

  function choosePlace(map, event) {
    const box = map.getBoundingClientRect(), most = Number(map.dataset.most);
    const place = (share) => Math.max(-most, Math.min(most, ((share * SIDE - EDGE) / INNER) * most));
    const { across, up } = $("[data-place]").elements;
    across.value = place((event.clientX - box.left) / box.width);
    up.value = -place((event.clientY - box.top) / box.height);
    movePlace();
    up.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function movePlace() {
    const map = $("[data-map]"), { across, up } = $("[data-place]").elements;
    const spot = $(".place", map), most = Number(map.dataset.most);
    spot.setAttribute("cx", (across.value / most) * INNER);
    spot.setAttribute("cy", (-up.value / most) * INNER);
  }

  // -- painting what is hidden --------------------------------------------------------------------

  const LEAST = 256, MOST = 1024, UNDOS = 20, TINT = "#e0218a"; // pixels of the longer side
  let painted = null; // { picture, mask, before: masks to go back to, last: where the brush was }

  function canvasOf(width, height) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    return canvas;
  }

  function copyOf(canvas) {
    const copy = canvasOf(canvas.width, canvas.height);
    copy.getContext("2d").drawImage(canvas, 0, 0);
    return copy;
  }

  function paintOn(picture) {
    const canvas = $("#canvas");
    if (!canvas) return;
    const width = picture.naturalWidth ?? picture.width;
    const height = picture.naturalHeight ?? picture.height;
    const long = Math.max(width, height);
    const scale = long < LEAST ? Math.ceil(LEAST / long) : Math.min(1, MOST / long);
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    painted = { picture, mask: canvasOf(canvas.width, canvas.height), before: [], last: null };
    canvas.hidden = false;
    for (const element of $$("[data-tools]")) element.hidden = false;
    $("#hidden").value = "";
    for (const plain of $$("img[data-paint]")) plain.hidden = true;
    showPainting();
  }

  function showPainting() {
    const canvas = $("#canvas"), pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = canvas.width > LEAST * 2;
    pen.drawImage(painted.picture, 0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 0.75;
    pen.drawImage(painted.mask, 0, 0);
    pen.globalAlpha = 1;
  }

  function remember() {
    painted.before.push(copyOf(painted.mask));
    if (painted.before.length > UNDOS) painted.before.shift();
  }

  function stroke(event) {
    const canvas = $("#canvas"), box = canvas.getBoundingClientRect();
    const at = [
      ((event.clientX - box.left) / box.width) * canvas.width,
      ((event.clientY - box.top) / box.height) * canvas.height,
    ];
    const pen = painted.mask.getContext("2d");
    pen.globalCompositeOperation = $("[data-erase]").checked ? "destination-out" : "source-over";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = Math.max(1, (Number($("[data-brush]").value) / 100) * canvas.width);
    pen.strokeStyle = TINT;
    pen.beginPath();
    pen.moveTo(...(painted.last ?? at));
    pen.lineTo(...at);
    pen.stroke();
    painted.last = at;
    showPainting();
  }

  function hideRectangle(box) {
    const share = (name) => Number($(`#r-${name}`, box).value) / 100;
    const { width, height } = painted.mask;
    remember();
    const pen = painted.mask.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.fillStyle = TINT;
    const size = [share("width") * width, share("height") * height];
    pen.fillRect(share("left") * width, share("top") * height, ...size);
    keepPainting();
  }

  // The mask as a picture: white where the item is kept, black where it is hidden.
  function keepPainting() {
    showPainting();
    const { width, height } = painted.mask, black = copyOf(painted.mask);
    const ink = black.getContext("2d");
    const there = ink.getImageData(0, 0, width, height).data.filter((value, i) => i % 4 === 3 && value);
    ink.globalCompositeOperation = "source-in";
    ink.fillRect(0, 0, width, height);
    const whole = canvasOf(width, height), pen = whole.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    pen.drawImage(black, 0, 0);
    const share = Math.round((100 * there.length) / (width * height));
    say("[data-painted]", there.length ? `${share} % of the picture is hidden.` : "Nothing is hidden.");
    if (!there.length) return void ($("#hidden").value = "");
    whole.toBlob((blob) => choose($("#hidden"), blob, "hidden.png"), "image/png");
  }

  async function openPicture(files) {
    const file = [...files].find((each) => each.type.startsWith("image/"));
    if (!file || !$("#canvas")) return;
    try {
      paintOn(await createImageBitmap(file));
    } catch {
      say("[data-painted]", "This browser cannot show that picture: give a rectangle as the mask, or a file.");
    }
  }

  // Pictures that were chosen are shown below their field, but for the one that is painted on.
  const SHOWN = 6;

  function preview(input) {
    for (const old of $$("img.aside", input.parentElement)) old.remove();
    if (input.id === "hidden" || (input.id === "files" && $("#canvas"))) return;
    for (const file of [...input.files].filter((each) => each.type.startsWith("image/")).slice(0, SHOWN)) {
      const reader = new FileReader(), picture = new Image();
      picture.className = "aside";
      picture.alt = file.name;
      reader.addEventListener("load", () => (picture.src = reader.result));
      reader.readAsDataURL(file);
      input.parentElement.append(picture);
    }
  }

  // -- marking a place in a text ------------------------------------------------------------------

  function markText() {
    const area = $("#text"), spans = $("#spans");
    const { selectionStart: start, selectionEnd: end, value } = area;
    if (start === end) return say("[data-marked]", "Nothing is marked: select a part of the text first.");
    const count = (text) => [...text].length; // characters, as the server counts them
    const from = count(value.slice(0, start)), marked = value.slice(start, end);
    spans.value = [spans.value.trim(), `${from}-${from + count(marked)}`].filter(Boolean).join(", ");
    spans.dispatchEvent(new Event("change", { bubbles: true }));
    say("[data-marked]", `Hidden: “${marked}”`);
  }

  // -- speaking: what was recorded is a file like any other ----------------------------------------

  document.addEventListener("recorded", ({ detail: { sound, seconds, say } }) => {
    if (!$("#files")) return; // a conversation has its own way (voice.js)
    choose($("#files"), sound, "spoken.wav");
    say(`${seconds.toFixed(1)} s recorded. Run writes down what was said.`);
    $("#make p.row button:not([type])").focus();
  });

  // -- what happens on the page -------------------------------------------------------------------

  const DEEDS = {
    "[data-map]": choosePlace,
    "[data-undo]": () => painted?.before.length && ((painted.mask = painted.before.pop()), keepPainting()),
    "[data-clear]": () => painted && (remember(), (painted.mask = canvasOf(painted.mask.width, painted.mask.height)), keepPainting()),
    "[data-hide]": (button) => painted && hideRectangle(button.closest("[data-rectangle]")),
    "[data-mark]": markText,
  };

  document.addEventListener("click", (event) => {
    for (const [selector, deed] of Object.entries(DEEDS)) {
      const found = event.target.closest(selector);
      if (found) deed(found, event);
    }
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-step]")) showStep(event.target.closest("[data-steps]"));
    if (event.target.closest("[data-place]")) movePlace();
  });

  document.addEventListener("change", (event) => {
    if (event.target.id === "files") openPicture(event.target.files);
    if (event.target.type === "file") preview(event.target);
  });

  document.addEventListener("pointerdown", (event) => {
    if (event.target.id !== "canvas" || !painted) return;
    event.preventDefault();
    event.target.setPointerCapture(event.pointerId);
    remember();
    painted.last = null;
    stroke(event);
  });

  document.addEventListener("pointermove", (event) => {
    if (event.target.id === "canvas" && event.target.hasPointerCapture(event.pointerId)) stroke(event);
  });

  document.addEventListener("pointerup", (event) => {
    if (event.target.id === "canvas" && painted) keepPainting();
  });

  document.addEventListener("load", (event) => {
    const box = event.target.closest?.("[data-steps]");
    if (box) showStep(box);
    if (event.target.matches?.("img[data-paint]")) paintOn(event.target);
  }, true);

  for (const picture of $$("img[data-paint]")) if (picture.complete) paintOn(picture);
  for (const box of $$("[data-steps]")) showStep(box);
}
