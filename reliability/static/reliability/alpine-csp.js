/* Lets Unfold's templates work with Alpine's CSP build, which reads expressions itself instead of evaluating them.
 *
 * The CSP build supports neither globals nor arrow functions, `if` or several statements. This file rewrites the
 * expressions in Unfold's templates before Alpine reads them: `a; b` becomes `[a, b]`, `if (c) a` becomes
 * `(c) && (a)`, and `$page` offers the few globals that the templates use.
 */
document.addEventListener("alpine:init", () => {
  "use strict";

  const COMPONENTS = ["theme", "searchForm", "searchDropdown", "searchCommand"];
  for (const name of COMPONENTS) {
    if (typeof window[name] === "function") window.Alpine.data(name, (...values) => window[name](...values));
  }

  const later = (name) => (...values) => window[name](...values);
  window.Alpine.magic("page", () => ({
    path: () => location.pathname + location.search,
    kept: (name) => localStorage.getItem(name) === null || localStorage.getItem(name) === "1",
    keep: (name, value) => localStorage.setItem(name, value ? "1" : "0"),
    currentTab: () => (typeof window.getCurrentTab === "function" ? window.getCurrentTab() : null),
    sortRecords: later("sortRecords"),
    moveRecords: later("moveRecords"),
  }));

  const REWRITES = [
    [/\(localStorage\.getItem\('(\w+)'\) !== null\) \? \(localStorage\.getItem\('\w+'\) == '1'\) : true/g, "$page.kept('$1')"],
    [/localStorage\.setItem\('(\w+)', (\w+) \? '1' : '0'\)/g, "$page.keep('$1', $2)"],
    [/\$watch\('\w+', value => \$page\.keep\([^)]*\)\)/g, "true"],  // the button stores it as well
    [/window\.location\.pathname \+ window\.location\.search/g, "$page.path()"],
    [/getCurrentTab\(\)/g, "$page.currentTab()"],
    [/(^|[^.\w$])(sortRecords|moveRecords)\b/g, "$1$page.$2"],
  ];

  function rewrite(text) {
    let found = text;
    for (const [old, fresh] of REWRITES) found = found.replace(old, fresh);
    const steps = split(found).map(conditional);
    return steps.length > 1 ? `[${steps.join(", ")}]` : steps[0] ?? found;
  }

  /* Split at semicolons outside of strings and brackets. */
  function split(text) {
    const steps = [];
    let quote = "", depth = 0, begin = 0;
    for (let at = 0; at < text.length; at++) {
      const sign = text[at];
      if (quote) quote = sign === quote && text[at - 1] !== "\\" ? "" : quote;
      else if (sign === "'" || sign === '"') quote = sign;
      else if ("([{".includes(sign)) depth++;
      else if (")]}".includes(sign)) depth--;
      else if (sign === ";" && depth === 0) {
        steps.push(text.slice(begin, at));
        begin = at + 1;
      }
    }
    return [...steps, text.slice(begin)].map((step) => step.trim()).filter(Boolean);
  }

  function conditional(step) {
    const found = /^if \((.*?)\) (\w+\(.*\))$/s.exec(step);
    return found ? `(${found[1]}) && (${found[2]})` : step;
  }

  window.Alpine.mapAttributes(({ name, value }) => ({
    name,
    value: typeof value === "string" && name.startsWith("x-") && value && !name.startsWith("x-for") ? rewrite(value) : value,
  }));
});
