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
function complete() {
  const started = performance.now();
  const typed = typedText();
  post("complete", { text: typed, k: 5 }, async (response) => {
    completions = (await response.json()).completions;
    completedText = typed;
    byId("completions").replaceChildren(...completions.map(completionElement));
    byId("latency").textContent = `${Math.round(performance.now() - started)} ms`;
  });
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

function generate(event) {
  event.preventDefault();
  const body = {
    prompt: text.value,
    temperature: Number(byId("temperature").value),
    seed: Number(byId("seed").value),
  };
  post("generate", body, async (response) => {
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
    byId("seed").value = body.seed + 1;
  });
}

text.addEventListener("input", onChange);
document.addEventListener("selectionchange", () => {
  if (document.activeElement === text && typedText() !== completedText) complete();
});
text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const number = event.key === "Tab" && !event.shiftKey ? 1 : event.altKey ? Number(event.code.replace("Digit", "")) : 0;
  if (completions[number - 1] && completedText === typedText()) {
    event.preventDefault();
    accept(completions[number - 1]);
  }
});
byId("settings").addEventListener("submit", generate);
byId("temperature").addEventListener("input", showTemperature);
function showTemperature() {
  byId("temperature").nextElementSibling.textContent = byId("temperature").value;
}
showTemperature();

loadInfo().then((info) => info && complete());
