"use strict";

const text = byId("text");

/* The text to complete: up to the end of the selection, which includes a syllable being composed. */
const typedText = () => text.value.slice(0, text.selectionEnd);

function accept(completion) {
  const typed = typedText();
  if (typed !== completedText) return; // the completions are out of date
  const start = Math.max(...[" ", "\n", "\t"].map((space) => typed.lastIndexOf(space))) + 1;
  text.setRangeText(completion.eojeol + " ", start, typed.length, "end");
  text.focus();
  onChange();
}

let completions = [];
let completedText = null; // the text that the completions belong to
let requestedText = null; // the text of the last request
let completeTimer;
let lastRequest = 0; // when it was sent
const INTERVAL = 60; // ms between two requests, fewer than the server's rate allows

/* A keystroke cancels the request of the one before. */
function complete() {
  const typed = typedText();
  if (typed === requestedText) return;
  requestedText = typed;
  controllers.complete?.abort();
  byId("completions").classList.add("stale");
  clearTimeout(completeTimer);
  completeTimer = setTimeout(sendComplete, Math.max(0, lastRequest + INTERVAL - performance.now()), typed);
}

async function sendComplete(typed) {
  const started = (lastRequest = performance.now());
  const isDone = await post("complete", { text: typed, num_completions: 5 }, async (response) => {
    showCompletions(typed, (await response.json()).completions);
    byId("latency").textContent = `${Math.round(performance.now() - started)} ms`;
  });
  if (!isDone && typed === requestedText) {
    showCompletions(null, []);
    requestedText = null; // so that it is sent again
  }
}

function showCompletions(typed, found) {
  [completedText, completions] = [typed, found];
  byId("completions").classList.remove("stale");
  byId("completions").replaceChildren(...completions.map(completionElement));
}

function completionElement(completion, index) {
  const item = createElement("li", "");
  const button = createElement("button", "");
  button.type = "button";
  button.append(
    createElement("kbd", "", index + 1),
    createElement("span", "", completion.eojeol),
    createElement("small", "", `${(100 * completion.probability).toFixed(1)} %`),
  );
  button.addEventListener("click", () => accept(completion));
  item.append(button);
  return item;
}

/* 0 bits: nearly transparent; 20 and more: red. */
function surprisalColor(bits) {
  const share = Math.min(bits / 20, 1);
  return `hsl(${150 * (1 - share)} ${55 + 25 * share}% ${50 + 2 * share}% / ${0.08 + 0.77 * share})`;
}

function tokenElement(token) {
  const element = createElement("span", token.unknown ? "morph unknown" : "morph", token.morph);
  const bits = token.surprisal === null ? "∞" : token.surprisal.toFixed(1);
  element.style.background = surprisalColor(token.surprisal ?? Infinity);
  element.title = `${token.tag} ${bits} bits` + (token.unknown ? ", 모르는 말 (unknown)" : "");
  element.append(createElement("b", "", bits));
  return element;
}

function score() {
  post("surprisal", { text: text.value }, async (response) => {
    const lines = (await response.json()).lines;
    byId("surprisal").replaceChildren(...lines.map(lineElement));
  });
}

function lineElement(line) {
  const row = createElement("p", "");
  let eojeol = null;
  let group = null;
  for (const token of line.tokens) {
    if (token.eojeol !== eojeol) {
      eojeol = token.eojeol;
      group = createElement("span", "eojeol");
      row.append(group, " ");
    }
    group.append(tokenElement(token));
  }
  const bits = line.bits === null ? "∞" : line.bits.toFixed(1);
  if (line.tokens.length) row.append(createElement("span", "end", `= ${bits} bits`));
  return row;
}

let scoreTimer;
function onChange() {
  clearTimeout(scoreTimer);
  complete();
  scoreTimer = setTimeout(score, 300);
}

let numGenerations = 0;
async function generate(event) {
  event.preventDefault();
  const number = ++numGenerations;
  byId("stop").hidden = false;
  const body = {
    prompt: text.value,
    temperature: Number(byId("temperature").value),
    seed: byId("seed").value === "" ? null : Number(byId("seed").value),
  };
  await post("generate", body, async (response) => {
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
    if (body.seed !== null) byId("seed").value = body.seed + 1;
  });
  if (number === numGenerations) byId("stop").hidden = true;
}

text.addEventListener("input", onChange);
document.addEventListener("selectionchange", () => {
  if (document.activeElement === text && typedText() !== completedText) complete();
});
text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Escape") {
    controllers.complete?.abort();
    clearTimeout(completeTimer);
    showCompletions(null, []); // so that Tab leaves the field
  }
  const number = event.key === "Tab" && !event.shiftKey ? 1 : event.altKey ? Number(event.code.replace("Digit", "")) : 0;
  if (completions[number - 1] && completedText === typedText()) {
    event.preventDefault();
    accept(completions[number - 1]);
  }
});
byId("settings").addEventListener("submit", generate);
byId("stop").addEventListener("click", () => controllers.generate.abort());
byId("temperature").addEventListener("input", showTemperature);
function showTemperature() {
  byId("temperature").nextElementSibling.textContent = byId("temperature").value;
}
showTemperature();

loadInfo().then((info) => info && complete());
