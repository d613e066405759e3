/* The console's behaviour on top of Unfold. No inline script or handler anywhere: everything hangs on attributes.
 *
 *   data-copy="text"            a button that copies the text
 *   .bs-copy-text               a button that copies the text of the <pre> beside it
 *   data-search                 the field that `/` focuses on a page without a list
 *   data-poll="swap" + id       the region is fetched again and replaced
 *   data-poll="news" + id       the list is fetched again and new rows are counted: "12 new, refresh"
 *   data-running                with data-poll: something runs, so poll every few seconds instead of every 60
 *   data-chart='{"labels": …}'  see charts.js
 * After a swap, `backstop:swapped` is dispatched on the new region and bubbles to the document.
 */
(() => {
  "use strict";

  // --- Toasts -------------------------------------------------------------------------------------------
  function region() {
    let found = document.getElementById("bs-toasts");
    if (!found) {
      found = document.createElement("div");
      found.id = "bs-toasts";
      found.setAttribute("role", "status");
      found.setAttribute("aria-live", "polite");
      document.body.append(found);
    }
    return found;
  }

  function toast(text, tone = "bad") {
    const box = document.createElement("div");
    box.className = `bs-toast bs-${tone}`;
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => box.remove());
    box.append(words, close);
    region().append(box);
    if (tone !== "bad") setTimeout(() => box.remove(), 4000);
  }
  window.backstop = { toast };

  const ERRORS = {
    0: "The server did not respond. Check your connection and try again.",
    403: "Permission denied, or this page is too old. Reload it and try again.",
    404: "This row no longer exists.",
    413: "The request is too large.",
    429: "Too many requests. Wait a moment and try again.",
  };
  const errorOf = (status) => ERRORS[status] || `The request failed (HTTP ${status}). Check whether your action completed before you retry it.`;

  document.addEventListener("htmx:responseError", (event) => toast(errorOf(event.detail.xhr.status)));
  document.addEventListener("htmx:sendError", () => toast(ERRORS[0]));
  document.addEventListener("htmx:timeout", () => toast(ERRORS[0]));
  document.addEventListener("htmx:beforeSwap", (event) => {
    // The response is not the requested dialog, such as the sign-in page, or the list after an action: reload the page.
    const { xhr, target } = event.detail;
    if (!["modal-content", "dialog-form"].includes(target.id) || xhr.status >= 400) return;
    if (!/id="dialog(-form)?"/.test(xhr.responseText)) {
      event.detail.shouldSwap = false;
      location.reload();
    }
  });

  // --- Copy ---------------------------------------------------------------------------------------------
  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea");  // without HTTPS there is no clipboard
    field.value = text;
    field.style.position = "fixed";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy], .bs-copy-text");
    if (!button) return;
    event.preventDefault();
    event.stopPropagation();
    const text = button.dataset.copy ?? button.parentElement.querySelector("pre").textContent;
    try {
      await copy(text);
      button.classList.add("bs-copied");
      setTimeout(() => button.classList.remove("bs-copied"), 1500);
      button.focus();
      toast("Copied.", "good");
    } catch {
      toast("The browser did not allow copying. Select the text and copy it.");
    }
  });

  // --- Keys and the help dialog ---------------------------------------------------------------------------
  const isTyping = () => document.activeElement?.matches("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable=true]");
  const KEYS = [["/", "Focus search"], ["?", "Show this help"], ["Esc", "Close dialog"], ["Tab", "Go to the next control"], ["Ctrl E", "Switch between light and dark"]];

  function help() {
    const box = document.createElement("dialog");
    box.className = "bs-dialog";
    box.setAttribute("aria-labelledby", "bs-help-title");
    const title = document.createElement("h2");
    title.id = "bs-help-title";
    title.textContent = "Keyboard shortcuts";
    const list = document.createElement("dl");
    for (const [key, what] of KEYS) {
      const term = document.createElement("dt");
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      list.append(term, Object.assign(document.createElement("dd"), { textContent: what }));
    }
    const close = Object.assign(document.createElement("button"), { type: "button", className: "bs-button", textContent: "Close" });
    close.addEventListener("click", () => box.close());
    box.append(title, list, close);
    open(box);
    box.addEventListener("close", () => box.remove());
  }

  /* Open a native dialog; when it closes, return the focus to where it was. */
  function open(box) {
    const before = document.activeElement;
    if (!box.isConnected) document.body.append(box);
    box.addEventListener("close", () => before?.focus?.(), { once: true });
    box.showModal();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping() || document.querySelector("dialog[open]")) return;
    if (event.key === "?") {
      event.preventDefault();
      help();
    } else if (event.key === "/") {
      const field = document.querySelector("#searchbar, [data-search]");
      if (!field) return;
      event.preventDefault();
      field.focus();
      field.select?.();
    }
  });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[data-dialog]");
    const box = opener && document.getElementById(opener.dataset.dialog);
    if (box instanceof HTMLDialogElement) open(box);
    if (event.target.closest?.("[data-close]")) event.target.closest("dialog")?.close();
    if (event.target.closest?.("[data-help]")) help();
  });

  // --- Unfold's own dialog: move the focus in, keep it in, and return it ---------------------------------------
  let opener = null;
  const modal = () => document.getElementById("modal-content");
  const isOpen = () => Boolean(modal()?.offsetParent !== null && modal()?.childElementCount && modal()?.getClientRects().length);
  const FOCUSABLE = "a[href], button:not([disabled]), input:not([type=hidden]):not([disabled]), select, textarea, [tabindex='0']";

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target?.id === "modal-content") opener = event.detail.elt;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id !== "modal-content") return;
    const box = modal();
    box.setAttribute("role", "dialog");
    box.setAttribute("aria-modal", "true");
    box.setAttribute("aria-label", box.querySelector("h1")?.textContent.trim() || "Dialog");
    setTimeout(() => box.querySelector(FOCUSABLE)?.focus(), 50);
    const watch = new MutationObserver(() => {
      if (isOpen()) return;
      watch.disconnect();
      opener?.focus?.();
    });
    watch.observe(box.parentElement, { attributes: true, attributeFilter: ["style"] });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Tab" || !isOpen()) return;
    const all = [...modal().querySelectorAll(FOCUSABLE)].filter((one) => one.getClientRects().length);
    const edge = event.shiftKey ? all[0] : all.at(-1);
    if (document.activeElement === edge || !modal().contains(document.activeElement)) {
      event.preventDefault();
      (event.shiftKey ? all.at(-1) : all[0])?.focus();
    }
  });

  // --- Polling --------------------------------------------------------------------------------------------
  const IDLE_MS = 60_000, BURST_MS = 2000, SLOW_BURST_MS = 5000, BURSTS = 30;
  let bursts = 0, timer = null, lastKey = 0;
  document.addEventListener("keydown", () => { lastKey = Date.now(); });
  document.addEventListener("input", () => { lastKey = Date.now(); });

  const isBusy = () =>
    document.hidden || isOpen() || document.querySelector("dialog[open]") || isTyping() || Date.now() - lastKey < 3000 ||
    document.querySelector("input.action-select:checked, input[name=_selected_action]:checked");

  function interval() {
    const running = document.querySelector("[data-poll][data-running]");
    if (!running) bursts = 0;
    return running ? (bursts++ < BURSTS ? BURST_MS : SLOW_BURST_MS) : IDLE_MS;
  }

  function plan() {
    clearTimeout(timer);
    timer = null;
    if (document.querySelector("[data-poll]") && !document.hidden) timer = setTimeout(poll, interval());
  }

  async function poll() {
    if (isBusy()) return plan();
    try {
      const answer = await fetch(location.href, { headers: { "X-Backstop-Poll": "1" }, credentials: "same-origin" });
      if (answer.redirected && new URL(answer.url).pathname.includes("/login")) {
        return toast("Your session has ended. Reload the page to sign in again.");
      }
      if (answer.ok && !isBusy()) update(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { /* the server may respond to the next poll */ }
    plan();
  }

  function update(page) {
    for (const old of document.querySelectorAll("[data-poll]")) {
      const fresh = page.getElementById(old.id);
      if (!fresh) continue;
      if (old.dataset.poll === "news") showNewCount(old, fresh);
      else if (old.innerHTML !== fresh.innerHTML || !same(old, fresh)) swap(old, fresh);
    }
  }
  const same = (a, b) => a.hasAttribute("data-running") === b.hasAttribute("data-running");

  function swap(old, fresh) {
    const place = document.activeElement?.id;
    const inside = old.contains(document.activeElement);
    const opened = [...old.querySelectorAll("details[open][id]")].map((one) => one.id);
    old.replaceWith(document.adoptNode(fresh));
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (inside && place) document.getElementById(place)?.focus();
    window.htmx?.process(fresh);
    fresh.dispatchEvent(new CustomEvent("backstop:swapped", { bubbles: true }));
  }

  const rowsOf = (list) =>
    new Set([...list.querySelectorAll("tbody tr")].map((row) => row.querySelector("input[name=_selected_action]")?.value || row.querySelector("a[href]")?.getAttribute("href")).filter(Boolean));

  function showNewCount(old, fresh) {
    const known = rowsOf(old);
    const count = [...rowsOf(fresh)].filter((one) => !known.has(one)).length;
    document.getElementById("bs-news")?.remove();
    if (!count) return;
    const button = Object.assign(document.createElement("button"), { id: "bs-news", type: "button", className: "bs-button" });
    button.textContent = `${count} new, refresh`;
    button.addEventListener("click", () => location.reload());
    document.body.append(button);
  }

  // --- Forms that may be submitted once: a second click would discard the response to the first ----------------
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || !form.querySelector("input[type=hidden][name=once]")) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  // After the browser's back button the form may be submitted again: the server recognises it by its id.
  window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent));

  document.addEventListener("visibilitychange", () => (document.hidden ? plan() : poll()));
  document.addEventListener("DOMContentLoaded", () => {
    region();
    const list = document.getElementById("changelist");
    if (list && !list.dataset.poll) list.dataset.poll = "news";
    plan();
  });
  window.backstop.poll = poll;
})();
