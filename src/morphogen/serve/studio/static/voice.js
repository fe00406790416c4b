"use strict";
// A conversation that is spoken: what the microphone heard is written down, and answers are read
// aloud. Sounds come one by one and are played as they come, the first while the rest is made.
{
  const $ = (selector, within = document) => within.querySelector(selector);
  const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const PAUSE = 0.2; // seconds between two pieces
  const MOST = 12; // words that are told not to be said
  const PATIENCE = 500; // milliseconds that a browser gets to let sound out
  const ENDED = /^[\s\S]*(?:[.!?…。！？]["'”’)\]]*\s|\n)/; // up to the end of the last whole sentence
  const address = (name) => name.split("/").map(encodeURIComponent).join("/");

  // -- what was chosen, for as long as the tab is open ---------------------------------------------

  const chosen = (name) => $(`#voice [name="${name}"]`);
  const isOn = (name) => chosen(name)?.checked ?? false;

  function recall() {
    if ($("#voice")) $("#voice").dataset.told = "";
    for (const each of $$("#voice [name]")) {
      const kept = sessionStorage.getItem(`voice.${each.name}`);
      if (kept === null) continue;
      if (each.type === "checkbox") each.checked = kept === "on";
      else if ([...each.options].some((option) => option.value === kept)) each.value = kept;
    }
    showVoices();
  }

  // The voices of the model that speaks, and what it says where that is not all.
  function showVoices() {
    const speaker = chosen("speaker"), voice = chosen("whose");
    if (!speaker) return;
    const { voices, words } = speaker.selectedOptions[0].dataset;
    const all = JSON.parse(voices), known = JSON.parse(words), kept = sessionStorage.getItem("voice.whose");
    voice.replaceChildren(...["any", ...all].map((name) => new Option(name, name, false, name === kept)));
    voice.parentElement.hidden = !all.length;
    const shown = known.slice(0, 12).join(", ") + (known.length > 12 ? ` and ${known.length - 12} more` : "");
    $("[data-says]").textContent = known.length ? `It says these words alone: ${shown}.` : "It says whatever is written, as well as it learned to.";
    if (isOn("aloud")) open(speaker.value);
  }

  // A model is opened before it is needed: that takes some seconds for a large one.
  function open(name) {
    fetch(`/warm/${address(name)}`).catch(() => {}); // who asks it something will be told
  }

  document.addEventListener("change", (event) => {
    const { name, type, checked, value } = event.target;
    if (!event.target.closest("#voice")) return;
    sessionStorage.setItem(`voice.${name}`, type === "checkbox" ? (checked ? "on" : "off") : value);
    if (name === "speaker") showVoices();
    if (name === "aloud" && checked) {
      sound().resume(); // a click: from here on sound may come out
      open(chosen("speaker").value);
    }
    if (name === "aloud" && !checked) reading?.stop();
  });

  // -- speaking ------------------------------------------------------------------------------------

  document.addEventListener("recording", () => {
    reading?.stop(); // it would hear itself
    if (chosen("hearer")) open(chosen("hearer").value);
  });

  document.addEventListener("recorded", async ({ detail: { sound, seconds, sends, say } }) => {
    const hearer = chosen("hearer")?.selectedOptions[0];
    if (!hearer) return;
    const told = `${seconds.toFixed(1)} s`, most = Number(hearer.dataset.seconds);
    if (most && seconds > most) {
      return say(`${hearer.value} hears ${most.toFixed(1)} s at once, and you spoke for ${told}. Say less, or choose another that hears.`, true);
    }
    say(`${hearer.value} is writing down what you said (${told}).`);
    try {
      const body = new FormData();
      body.set("file", sound, "spoken.wav");
      const headers = { "x-page-token": token() };
      const answer = await fetch(`/hear/${address(hearer.value)}`, { method: "POST", headers, body });
      const { text = "", error } = await answer.json();
      if (error) throw new Error(error.message);
      if (!text) return say(`${hearer.value} heard no words in ${told}. Speak nearer to the microphone, or write.`, true);
      const area = $("#say textarea");
      area.value = [area.value.trim(), text].filter(Boolean).join(" ");
      area.focus();
      if (!sends && !isOn("at-once")) return say("Look whether that is what you said, and send it.");
      say("");
      $("#say").requestSubmit();
    } catch (error) {
      say(`It was not written down: ${error.message}. Press ${$("[data-record]").dataset.record} to say it again, or write.`, true);
    }
  });

  // -- reading aloud -------------------------------------------------------------------------------

  let context = null; // where sound comes out, from when it is first wanted
  let reading = null; // what is read at the moment

  function sound() {
    context ??= new AudioContext();
    return context;
  }

  class Reading {
    constructor(node) {
      this.node = node; // of the turn; none: of the answer that is coming
      this.stopper = new AbortController();
      this.sources = new Set(); // sounds that play, and that will
      this.at = 0; // when the next one begins
      this.rest = ""; // of an answer that is coming: no whole sentence yet
      this.isWhole = false; // no more of it comes
      this.unsaid = []; // words
      this.why = "";
      this.waiting = Promise.resolve(); // texts are asked for one after the other
      this.speaker = chosen("speaker").value; // of all of it, whatever is chosen meanwhile
      this.voice = chosen("whose").value;
      showReading(`${this.speaker} prepares to speak.`);
    }

    // More of an answer that is coming: what is whole is read.
    grow(text) {
      this.rest += text;
      const whole = ENDED.exec(this.rest)?.[0];
      if (!whole) return;
      this.rest = this.rest.slice(whole.length);
      this.read(whole);
    }

    end() {
      if (this.rest.trim()) this.read(this.rest);
      this.waiting = this.waiting.then(() => {
        this.isWhole = true;
        this.rested();
      });
    }

    read(text) {
      this.waiting = this.waiting.then(() => this.fetched(text)).catch((error) => {
        if (!this.stopper.signal.aborted) this.stop(`It is not read aloud: ${error.message}`);
      });
    }

    async fetched(text) {
      if (this.stopper.signal.aborted || !text.trim()) return;
      await Promise.race([sound().resume(), new Promise((done) => setTimeout(done, PATIENCE))]);
      if (sound().state !== "running") throw new Error("this browser lets sound out after a click alone. Press Listen.");
      const response = await fetch(`/say/${address(this.speaker)}`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-page-token": token() },
        body: JSON.stringify({ text, voice: this.voice }),
        signal: this.stopper.signal,
      });
      if (!response.ok) throw new Error((await response.json()).error.message);
      for await (const event of events(response)) {
        if (event.error) throw new Error(event.error);
        if (event.unsaid) this.miss(event);
        if (event.sound) await this.play(event.sound);
      }
    }

    miss({ unsaid, why }) {
      this.unsaid.push(`‘${unsaid}’`);
      this.why ||= why;
      showReading(this.hasSpoken ? "Reading aloud." : null, this.missing);
    }

    // What was not said so far, and why.
    get missing() {
      const more = this.unsaid.length - MOST;
      const shown = this.unsaid.slice(0, MOST).join(", ") + (more > 0 ? ` and ${more} more` : "");
      return shown && `${this.speaker} does not say ${shown}: ${this.why}`;
    }

    async play(encoded) {
      const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
      const buffer = await sound().decodeAudioData(bytes.buffer);
      if (this.stopper.signal.aborted) return;
      const source = sound().createBufferSource();
      source.buffer = buffer;
      source.connect(sound().destination);
      this.at = Math.max(this.at, sound().currentTime);
      source.start(this.at);
      this.at += buffer.duration + PAUSE;
      this.sources.add(source);
      this.hasSpoken = true;
      source.onended = () => {
        this.sources.delete(source);
        this.rested();
      };
      showReading("Reading aloud.", this.missing);
    }

    // Whether it is over: all has come, and was heard.
    rested() {
      if (reading !== this || !this.isWhole || this.sources.size) return;
      this.stop(this.missing || (this.hasSpoken ? "" : "There is nothing in it to say."));
    }

    stop(why = "") {
      this.stopper.abort();
      for (const source of this.sources) source.stop();
      if (reading !== this) return;
      reading = null;
      showReading("", why);
    }
  }

  // How it goes, and what was not said, below the message; Listen or Stop at each answer.
  function showReading(how = null, why = "") {
    const bar = $("#reading");
    if (!bar) return;
    if (how !== null) {
      $("[data-reading]").textContent = how;
    }
    if (how !== null || why) {
      $("[data-unsaid]").textContent = why;
      $("[data-unsaid]").hidden = !why;
    }
    bar.hidden = !reading && !how;
    for (const button of $$("[data-listen]")) {
      const isRead = reading !== null && reading.node === button.closest(".turn").dataset.node;
      button.textContent = isRead ? "Stop" : "Listen";
    }
  }

  function listen(turn) {
    const again = reading?.node === turn.dataset.node;
    reading?.stop();
    if (again) return;
    reading = new Reading(turn.dataset.node);
    reading.read($(".said", turn).textContent);
    reading.end();
    showReading();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-listen]")) listen(event.target.closest(".turn"));
    if (event.target.closest("[data-hush]")) reading?.stop();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") reading?.stop();
  });

  // -- an answer that is coming, as studio.js tells of it ------------------------------------------

  document.addEventListener("answer-begins", () => {
    reading?.stop();
    if (!isOn("aloud")) return;
    reading = new Reading(null);
    showReading();
  });
  document.addEventListener("answer-grows", ({ detail }) => reading?.node === null && reading.grow(detail));
  document.addEventListener("answer-ends", ({ detail: isWhole }) => {
    if (reading?.node !== null) return;
    if (isWhole) reading.end();
    else reading.stop();
    if (reading) reading.node = $$("#talk .turn.assistant").at(-1)?.dataset.node ?? "";
    showReading();
  });
  document.addEventListener("shown", () => showReading());
  // A page that waits for its model is exchanged for that of the conversation.
  document.addEventListener("htmx:after:swap", () => $("#voice:not([data-told])") && recall());
  window.addEventListener("pagehide", () => reading?.stop());
  recall();
}
