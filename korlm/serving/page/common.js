"use strict";

const byId = (id) => document.getElementById(id);
const controllers = {}; // one running request of each kind; a newer one aborts the older

/* Sends a request and passes its response on unless a newer request of the kind was sent.
   Returns false after an error, which is shown. */
async function post(kind, body, onResponse) {
  controllers[kind]?.abort();
  const controller = (controllers[kind] = new AbortController());
  try {
    const response = await send(`/api/${kind}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: controller.signal,
    });
    if (!response.ok) throw new Error(await errorMessage(response));
    byId("error").hidden = true;
    await onResponse(response);
  } catch (error) {
    if (error.name === "AbortError") return true;
    showError(error.message);
    return false;
  }
  return true;
}

/* fetch, with a message that people understand if the server does not answer. */
async function send(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("서버에 연결할 수 없습니다 (no connection to the server)");
  }
}

/* The server's message; the status if a proxy has answered. */
async function errorMessage(response) {
  const body = await response.json().catch(() => ({}));
  return body.error ?? `${response.status} ${response.statusText}`;
}

function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = false;
}

function createElement(tag, className, content) {
  const element = document.createElement(tag);
  element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

/* Shows the description of the run and returns it; undefined after an error. */
async function loadInfo() {
  const response = await send("/api/info").catch((error) => showError(error.message));
  if (!response) return;
  if (!response.ok) return showError(await errorMessage(response));
  const info = await response.json();
  byId("info").textContent = info.description;
  byId("text").maxLength = info.max_chars;
  return info;
}
