/* Makes Unfold's pages usable by keyboard and screen reader: landmarks, a skip link, real buttons, names for fields. */
(() => {
  "use strict";
  const ICON = ".material-symbols-outlined";
  const set = (element, values) => {
    for (const [name, value] of Object.entries(values)) if (element && value !== "" && !element.hasAttribute(name)) element.setAttribute(name, value);
  };

  const NAMES = { dock_to_right: "Show or hide the navigation", close: "Close", clear: "Clear", filter_list: "Filters" };

  /* Give icons and headings with a click handler the role of a button. */
  function buttons(within) {
    for (const one of within.querySelectorAll("[x-on\\:click]")) {
      if (one.matches("a[href], button, input, select, textarea, summary, #modal-overlay, tr, td, label")) continue;
      if (one.querySelector("a[href], button, input, select, textarea")) continue;
      const icon = one.matches(ICON) ? one : one.children.length === 1 && one.querySelector(ICON);
      set(one, { role: "button", tabindex: "0" });
      if (!one.textContent.trim()) set(one, { "aria-label": "Close" });
      if (icon) set(one, { "aria-label": NAMES[icon.textContent.trim()] || icon.textContent.trim().replaceAll("_", " ") });
    }
    for (const icon of within.querySelectorAll(ICON)) if (!icon.hasAttribute("role")) set(icon, { "aria-hidden": "true" });
  }

  /* Return the nearest label or heading around a field without a label. */
  function heading(field) {
    for (let box = field.parentElement, steps = 0; box && steps < 10; box = box.parentElement, steps++) {
      const words = box.querySelector("legend, h3, label")?.textContent.trim();
      if (words) return words;
    }
    return "";
  }

  /* Name the links and buttons that hold only an icon, and fields without a label. */
  function names(within) {
    for (const one of within.querySelectorAll("a, button")) {
      const icon = one.querySelector(ICON);
      if (!icon || one.hasAttribute("aria-label") || one.title) continue;
      if (one.textContent.replace(icon.textContent, "").trim() === "") set(one, { "aria-label": icon.textContent.trim().replaceAll("_", " ") });
    }
    for (const field of within.querySelectorAll("input:not([type=hidden]), select, textarea")) {
      if (field.labels?.length || field.title) continue;
      const name = field.placeholder || heading(field) || (field.name || "").replaceAll("_", " ").trim();
      if (name) set(field, { "aria-label": name });
    }
  }

  function landmarks() {
    set(document.getElementById("nav-sidebar"), { role: "navigation", "aria-label": "Main" });
    set(document.getElementById("content"), { role: "main", tabindex: "-1" });
    set(document.getElementById("header-inner")?.parentElement?.parentElement, { role: "banner" });
    const content = document.getElementById("content");
    if (!content || document.getElementById("bs-skip")) return;
    const skip = Object.assign(document.createElement("a"), { id: "bs-skip", href: "#content", textContent: "Skip to content" });
    document.body.prepend(skip);
  }

  function current() {
    for (const link of document.querySelectorAll("#nav-sidebar-apps a.active")) set(link, { "aria-current": "page" });
    for (const box of document.querySelectorAll("#nav-sidebar-apps .simplebar-content-wrapper")) set(box, { tabindex: "0", "aria-label": "Navigation" });
  }

  /* Set aria-expanded on the headings that fold a list. */
  function folds() {
    for (const one of document.querySelectorAll("#nav-sidebar-apps h2[x-on\\:click]")) {
      const list = one.nextElementSibling;
      if (list) one.setAttribute("aria-expanded", String(list.style.display !== "none"));
    }
  }
  document.addEventListener("click", () => setTimeout(folds, 50));

  function improve(within = document) {
    buttons(within);
    names(within);
    folds();
  }

  document.addEventListener("keydown", (event) => {
    if (!["Enter", " "].includes(event.key) || event.target.getAttribute?.("role") !== "button" || event.target.matches("a[href], button")) return;
    event.preventDefault();
    event.target.click();
  });

  /* Other scripts add elements later, such as Select2's fields. Improve them too, once per frame. */
  let waiting = false;
  const watch = new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      improve();
      current();
    });
  });
  document.addEventListener("DOMContentLoaded", () => {
    landmarks();
    improve();
    current();
    watch.observe(document.body, { childList: true, subtree: true });
  });
})();
