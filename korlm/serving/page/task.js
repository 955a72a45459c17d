"use strict";

const text = byId("text");
const MAX_CLASSES = 5; // shown for each line
const MAX_LABELS = 30; // listed below the input

function predict() {
  const started = performance.now();
  const lines = text.value.split("\n");
  post("predict", { text: text.value }, async (response) => {
    const rows = (await response.json()).predictions;
    const elements = rows.map((row, number) => predictionElement(lines[number], row));
    byId("predictions").replaceChildren(...elements.filter((_, number) => lines[number].trim()));
    byId("latency").textContent = `${Math.round(performance.now() - started)} ms`;
  });
}

/* The columns of a row tell what was predicted; those of other packages are listed. */
function predictionElement(line, row) {
  const element = createElement("div", "prediction");
  if (Array.isArray(row.labels)) element.append(markedElement(line, row.labels));
  else if ("spaced" in row) element.append(spacedElement(line, row.spaced));
  else if ("prediction" in row) element.append(sourceElement(line), writtenElement(row));
  else if ("label" in row) element.append(sourceElement(line), ...classElements(row));
  else element.append(sourceElement(line), createElement("p", "", JSON.stringify(row)));
  return element;
}

const sourceElement = (line) => createElement("p", "end", line);

/* Classification: the most probable classes with bars. */
function classElements(row) {
  return Object.keys(row)
    .filter((key) => key.startsWith("p_"))
    .sort((one, other) => row[other] - row[one])
    .slice(0, MAX_CLASSES)
    .map((key) => {
      const element = createElement("div", "class");
      const bar = createElement("div", "");
      const filled = createElement("i", "");
      const percent = `${(100 * row[key]).toFixed(1)} %`;
      filled.style.width = `${100 * row[key]}%`;
      bar.append(filled);
      element.append(createElement("span", "", key.slice(2)), bar, createElement("small", "", percent));
      return element;
    });
}

const hues = new Map(); // label -> hue, in the order of appearance
function labelColor(label) {
  if (!hues.has(label)) hues.set(label, (150 + 137.5 * hues.size) % 360);
  return `hsl(${hues.get(label)} 70% 50% / .25)`;
}

/* Tagging: labeled words or spans in their line. Offsets count code points; parts may share one. */
function markedElement(line, parts) {
  const characters = Array.from(line);
  const element = createElement("p", "marked");
  let done = 0;
  for (const part of parts) {
    element.append(characters.slice(done, part.begin).join(""));
    const mark = createElement("span", "part", part.text);
    mark.style.background = labelColor(part.label);
    mark.title = `${(100 * part.probability).toFixed(1)} %`;
    mark.append(createElement("b", "", part.label));
    element.append(mark);
    done = Math.max(done, part.end);
  }
  element.append(characters.slice(done).join(""));
  return element;
}

/* Spacing: the line with its new spaces marked. */
function spacedElement(line, spaced) {
  const characters = Array.from(line);
  const element = createElement("p", "written");
  let done = 0;
  for (const character of spaced) {
    const isNew = character !== characters[done];
    element.append(isNew ? createElement("span", "inserted", character) : character);
    if (!isNew) done += 1;
  }
  return element;
}

/* Sequence to sequence: the written text with its log-probability. */
function writtenElement(row) {
  const element = createElement("p", "written", row.prediction);
  if (row.log_prob !== null) element.title = `log-probability ${row.log_prob.toFixed(2)}`;
  return element;
}

let timer;
text.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(predict, 200);
});

loadInfo().then((info) => {
  if (!info) return;
  const more = info.labels.length > MAX_LABELS ? ", …" : "";
  if (info.labels.length) byId("labels").textContent = "라벨 (labels): " + info.labels.slice(0, MAX_LABELS).join(", ") + more;
  predict();
});
