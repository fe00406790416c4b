"use strict";
// The microphone: what it hears as a WAV, without the silence around it; how loud it is and how long
// it goes on meanwhile; and why nothing was heard, with what to do then. Whoever wants what was
// recorded listens for "recorded" of the document: { sound, seconds, sends }.
{
  const RATE = 16000, FRAME = 320; // samples a second, and of what is looked at together
  const SILENT = 0.003, FAINT = 0.03; // a frame's mean level: nothing; or a share of the loudest
  const AROUND = 4, SHORTEST = 0.25; // frames kept around what is heard; seconds
  const LONGEST = 300, HELD = 500; // seconds of a recording; milliseconds from which a press is held
  // What models learn from was not made quieter where a program took it for noise.
  const AS_IT_IS = { echoCancellation: false, noiseSuppression: false };
  const $ = (selector) => document.querySelector(selector);

  class Unheard extends Error {}

  const REFUSED = {
    NotAllowedError: "The microphone was refused. Allow it for this page, by the sign beside its address, and try again.",
    NotFoundError: "There is no microphone. Connect one, or choose one in the settings of the system, and try again.",
    NotReadableError: "The microphone cannot be read: another program may hold it. End that one, and try again.",
  };
  const NOTHING = "Nothing was heard. Is the microphone muted, or another one meant? Choose it in the settings of the system, and try again.";
  const SHORT = "That was too short. Hold the button while you speak, or press it once before and once after.";
  const NONE_GIVEN = "A browser gives the microphone to pages of this machine, or by https, alone. Open the page so, or write.";

  let recording = null; // { stream, recorder, context, analyser, pieces, began, held, sends, ends }
  let isAsking = false; // the browser asks whether the page may

  function say(text, isWrong = false) {
    const place = $("[data-recorded]");
    if (!place) return;
    place.textContent = text;
    place.classList.toggle("bad", isWrong);
  }

  function paint() {
    const button = $("[data-record]"), panel = $("[data-recording]");
    if (!button) return;
    button.setAttribute("aria-pressed", String(Boolean(recording)));
    button.querySelector("span").textContent = recording ? "Stop" : button.dataset.record;
    panel.hidden = !recording;
    if (!recording) return;
    const seconds = Math.floor((performance.now() - recording.began) / 1000);
    panel.querySelector("[data-time]").textContent =
      `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    panel.querySelector("meter").value = loudness();
    if (seconds >= LONGEST) end();
  }

  // From 0, silence, to 1: by ear, so in decibels.
  function loudness() {
    const samples = new Float32Array(recording.analyser.fftSize);
    recording.analyser.getFloatTimeDomainData(samples);
    return Math.max(0, Math.min(1, 1 + (20 * Math.log10(level(samples, 0, samples.length) + 1e-9)) / 60));
  }

  function level(samples, from, to) {
    let sum = 0;
    for (let i = from; i < to; i++) sum += samples[i] ** 2;
    return Math.sqrt(sum / (to - from));
  }

  async function begin() {
    if (recording || isAsking) return;
    if (!navigator.mediaDevices || !window.MediaRecorder) return say(NONE_GIVEN, true);
    isAsking = true;
    say("");
    document.dispatchEvent(new CustomEvent("recording"));
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: AS_IT_IS });
      const context = new AudioContext(), analyser = context.createAnalyser();
      context.createMediaStreamSource(stream).connect(analyser);
      const recorder = new MediaRecorder(stream), pieces = [];
      recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
      recorder.addEventListener("stop", () => over(new Blob(pieces, { type: recorder.mimeType })));
      recorder.start();
      const tick = setInterval(paint, 100);
      recording = { stream, recorder, context, analyser, tick, began: performance.now(), sends: false, isKept: true };
      say("Recording. Esc throws it away.");
    } catch (error) {
      say(REFUSED[error.name] ?? `The microphone cannot be used: ${error.message}`, true);
    }
    isAsking = false;
    paint();
  }

  function end({ sends = false, isKept = true } = {}) {
    if (!recording || recording.recorder.state === "inactive") return;
    Object.assign(recording, { sends, isKept });
    recording.recorder.stop();
  }

  async function over(blob) {
    const { stream, context, tick, sends, isKept } = recording;
    clearInterval(tick);
    stream.getTracks().forEach((track) => track.stop());
    recording = null;
    paint();
    try {
      if (!isKept) return say("It was thrown away.");
      const { samples, seconds } = spoken(await resampled(context, blob));
      const detail = { sound: asWav(samples), seconds, sends, say };
      document.dispatchEvent(new CustomEvent("recorded", { detail }));
    } catch (error) {
      say(error instanceof Unheard ? error.message : `Nothing was recorded: ${error.message}`, true);
    } finally {
      context.close();
    }
  }

  // Whatever the browser records in, the server gets one rate, which every library reads.
  async function resampled(context, blob) {
    if (!blob.size) throw new Unheard(SHORT);
    const whole = await context.decodeAudioData(await blob.arrayBuffer());
    const room = new OfflineAudioContext(1, Math.max(1, Math.ceil(whole.duration * RATE)), RATE);
    const source = room.createBufferSource();
    source.buffer = whole;
    source.connect(room.destination);
    source.start();
    return (await room.startRendering()).getChannelData(0);
  }

  // From where something is heard to where it ends, and a little around; how long it is without
  // that. Throws `Unheard`.
  function spoken(samples) {
    if (samples.length < SHORTEST * RATE) throw new Unheard(SHORT);
    const levels = [];
    for (let at = 0; at + FRAME <= samples.length; at += FRAME) levels.push(level(samples, at, at + FRAME));
    const most = Math.max(...levels), least = Math.max(SILENT, FAINT * most);
    if (most < SILENT) throw new Unheard(NOTHING);
    const first = levels.findIndex((each) => each >= least), last = levels.findLastIndex((each) => each >= least);
    const seconds = ((last + 1 - first) * FRAME) / RATE;
    return { seconds, samples: samples.slice(Math.max(0, first - AROUND) * FRAME, (last + 1 + AROUND) * FRAME) };
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

  // -- the button: held while one speaks, or pressed before and after ------------------------------

  let pressed = null; // when, if this press began the recording

  document.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.target.closest?.("[data-record]") || recording) return;
    pressed = performance.now();
    begin();
  });

  document.addEventListener("pointerup", () => {
    if (pressed !== null && recording && performance.now() - pressed > HELD) end();
    setTimeout(() => (pressed = null)); // after the click that this may be the end of
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-discard]")) return end({ isKept: false });
    if (!event.target.closest("[data-record]")) return;
    const began = pressed !== null; // by the press that this click is the end of
    pressed = null;
    if (!began) recording ? end() : begin();
  });

  document.addEventListener("keydown", (event) => {
    if (!recording) return;
    const sends = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (event.key !== "Escape" && !sends) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    end({ sends, isKept: sends });
  }, true);

  document.addEventListener("shown", paint); // a part of the page was exchanged
}
