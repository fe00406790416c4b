"use strict";
// The playground: walks between items, a map of latents, what is painted, marked and spoken.
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

  // -- speaking -----------------------------------------------------------------------------------

  const RATE = 16000; // samples a second
  let recorder = null;

  async function beginRecording() {
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      return say("[data-recorded]", "A browser gives the microphone to pages of this machine, or by https, alone.");
    }
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true }), pieces = [];
      recorder = new MediaRecorder(stream);
      recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
      recorder.addEventListener("stop", () => {
        stream.getTracks().forEach((track) => track.stop());
        keepRecording(new Blob(pieces, { type: recorder.mimeType }));
      });
      recorder.start();
      recording(true);
    } catch (error) {
      say("[data-recorded]", `The microphone cannot be used: ${error.message}`);
    }
  }

  function recording(is) {
    $("[data-record]").hidden = is;
    $("[data-stop-recording]").hidden = !is;
    $(is ? "[data-stop-recording]" : "[data-record]").focus();
    say("[data-recorded]", is ? "Recording." : "");
  }

  // Whatever the browser records in, the server gets a WAV, which every library reads.
  async function keepRecording(blob) {
    recording(false);
    try {
      const whole = await new AudioContext().decodeAudioData(await blob.arrayBuffer());
      const room = new OfflineAudioContext(1, Math.ceil(whole.duration * RATE), RATE);
      const source = room.createBufferSource();
      source.buffer = whole;
      source.connect(room.destination);
      source.start();
      const heard = await room.startRendering(), sound = asWav(heard.getChannelData(0));
      const hearer = $("[data-record]").dataset.hearer;
      if (hearer) return await writeDown(hearer, sound);
      choose($("#files"), sound, "spoken.wav");
      say("[data-recorded]", `${heard.duration.toFixed(1)} s recorded. Run writes down what was said.`);
      $("#make p.row button:not([type])").focus();
    } catch (error) {
      say("[data-recorded]", `Nothing was recorded: ${error.message}`);
    }
  }

  // Within a conversation, another model writes down what was said; it is sent by who said it.
  async function writeDown(hearer, sound) {
    say("[data-recorded]", "It is being written down.");
    const body = new FormData();
    body.set("task", "transcribe");
    body.set("token", token());
    body.set("files", sound, "spoken.wav");
    const answer = await fetch(hearer, { method: "POST", body });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) throw new Error($("[role=alert]", page)?.textContent ?? answer.statusText);
    const area = $("#text"), heard = $$("#made .said", page).map((each) => each.textContent.trim());
    area.value = [area.value.trim(), ...heard].filter(Boolean).join(" ");
    say("[data-recorded]", "Look whether that is what you said, and send it.");
    area.focus();
  }

  function asWav(samples) {
    const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, 36 + 2 * samples.length, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); // PCM
    view.setUint16(22, 1, true); // one channel
    view.setUint32(24, RATE, true);
    view.setUint32(28, 2 * RATE, true);
    view.setUint16(32, 2, true);
    view.setUint16(34, 16, true);
    text(36, "data");
    view.setUint32(40, 2 * samples.length, true);
    samples.forEach((value, i) => {
      view.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, value)) * 0x7fff, true);
    });
    return new Blob([view], { type: "audio/wav" });
  }

  // -- what happens on the page -------------------------------------------------------------------

  const DEEDS = {
    "[data-map]": choosePlace,
    "[data-undo]": () => painted?.before.length && ((painted.mask = painted.before.pop()), keepPainting()),
    "[data-clear]": () => painted && (remember(), (painted.mask = canvasOf(painted.mask.width, painted.mask.height)), keepPainting()),
    "[data-hide]": (button) => painted && hideRectangle(button.closest("[data-rectangle]")),
    "[data-mark]": markText,
    "[data-record]": beginRecording,
    "[data-stop-recording]": () => recorder?.stop(),
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
