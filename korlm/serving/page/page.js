"use strict";

const byId = (id) => document.getElementById(id);
const text = byId("text");
const running = {}; // one question of each kind at a time: a newer one ends the older

/* Asks, and uses the answer unless a newer question of the kind has come. */
async function ask(kind, question, use) {
  running[kind]?.abort();
  const control = (running[kind] = new AbortController());
  try {
    const response = await fetch(`/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(question),
      signal: control.signal,
    });
    if (!response.ok) throw new Error(await reasonOf(response));
    byId("error").hidden = true;
    await use(response);
  } catch (error) {
    if (error.name !== "AbortError") showError(error.message);
  }
}

/* What the server says of a refusal; the status where something else has answered. */
async function reasonOf(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.error ?? `${response.status} ${response.statusText}`;
}

function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = false;
}

function element(tag, className, content) {
  const made = document.createElement(tag);
  made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

/* What stands before the cursor is completed; a syllable still in the making is part of it. */
const typed = () => text.value.slice(0, text.selectionEnd);

function accept(completion) {
  const before = typed();
  if (before !== shownFor) return; // the answer to what is there now is on its way
  const start = Math.max(...[" ", "\n", "\t"].map((blank) => before.lastIndexOf(blank))) + 1;
  text.setRangeText(completion.eojeol + " ", start, before.length, "end");
  text.focus();
  changed();
}

let shown = [];
let shownFor = null; // what stood before the cursor when they were asked for
function complete() {
  const started = performance.now();
  const asked = typed();
  ask("complete", { text: asked, k: 5 }, async (response) => {
    shown = (await response.json()).completions;
    shownFor = asked;
    byId("completions").replaceChildren(...shown.map(offered));
    byId("latency").textContent = `${Math.round(performance.now() - started)} ms`;
  });
}

function offered(completion, place) {
  const row = element("li", "");
  const button = element("button", "");
  button.type = "button";
  button.append(
    element("kbd", "", place + 1),
    element("span", "", completion.eojeol),
    element("small", "", `${(100 * completion.probability).toFixed(1)} %`),
  );
  button.addEventListener("click", () => accept(completion));
  row.append(button);
  return row;
}

/* 0 bits: nearly clear; 20 and more: red. */
function colour(bits) {
  const share = Math.min(bits / 20, 1);
  return `hsl(${150 * (1 - share)} ${55 + 25 * share}% ${50 + 2 * share}% / ${0.08 + 0.77 * share})`;
}

function drawn(token) {
  const made = element("span", token.unknown ? "morph unknown" : "morph", token.morph);
  const bits = token.surprisal === null ? "∞" : token.surprisal.toFixed(1);
  made.style.background = colour(token.surprisal ?? Infinity);
  made.title = `${token.tag} ${bits} bits` + (token.unknown ? ", 모르는 말 (unknown)" : "");
  made.append(element("b", "", bits));
  return made;
}

function judge() {
  ask("surprisal", { text: text.value }, async (response) => {
    const lines = (await response.json()).lines;
    byId("surprisal").replaceChildren(...lines.map(judged));
  });
}

function judged(line) {
  const row = element("p", "");
  let at = null;
  let box = null;
  for (const token of line.tokens) {
    if (token.eojeol !== at) {
      at = token.eojeol;
      box = element("span", "eojeol");
      row.append(box, " ");
    }
    box.append(drawn(token));
  }
  const bits = line.bits === null ? "∞" : line.bits.toFixed(1);
  if (line.tokens.length) row.append(element("span", "end", `= ${bits} bits`));
  return row;
}

let waiting;
function changed() {
  clearTimeout(waiting);
  complete();
  waiting = setTimeout(judge, 300);
}

function write(event) {
  event.preventDefault();
  const question = {
    prompt: text.value,
    temperature: Number(byId("temperature").value),
    seed: Number(byId("seed").value),
  };
  ask("generate", question, async (response) => {
    const sample = byId("sample");
    sample.replaceChildren();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const piece of lines.map((line) => JSON.parse(line))) {
        if (piece.error) throw new Error(piece.error);
        sample.append(piece.text);
      }
    }
    byId("seed").value = question.seed + 1;
  });
}

text.addEventListener("input", changed);
document.addEventListener("selectionchange", () => {
  if (document.activeElement === text && typed() !== shownFor) complete();
});
text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const place = event.key === "Tab" && !event.shiftKey ? 1 : event.altKey ? Number(event.code.replace("Digit", "")) : 0;
  if (shown[place - 1] && shownFor === typed()) {
    event.preventDefault();
    accept(shown[place - 1]);
  }
});
byId("settings").addEventListener("submit", write);
byId("temperature").addEventListener("input", showTemperature);
function showTemperature() {
  byId("temperature").nextElementSibling.textContent = byId("temperature").value;
}
showTemperature();

(async () => {
  const response = await fetch("/api/info");
  if (!response.ok) return showError(await reasonOf(response));
  const info = await response.json();
  byId("info").textContent = info.description;
  text.maxLength = info.max_chars;
  complete();
})();
