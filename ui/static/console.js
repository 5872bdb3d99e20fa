// What the console does beyond plain pages: copying, keys, and parts of a page that follow the server. Every page works without it.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const shown = button.textContent;
  button.textContent = "✓";
  setTimeout(() => { button.textContent = shown; }, 900);
});

// -- keys: / search, g then a letter to go, j and k in tables, Enter opens, ? help ----------------------------------------------

let going = false;

function rows() {
  return [...document.querySelectorAll("main .table tbody tr")].filter((row) => row.querySelector("a"));
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.getAttribute("aria-selected") === "true");
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  for (const row of all) row.removeAttribute("aria-selected");
  next.setAttribute("aria-selected", "true");
  next.scrollIntoView({ block: "nearest" });
  const link = next.querySelector('a[href*="/releases/"]') ?? next.querySelector("a");
  link.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (going) {
    going = false;
    document.querySelector(`.go[data-key="${CSS.escape(event.key)}"]`)?.click();
    return;
  }
  const actions = {
    "/": () => document.getElementById("search")?.focus(),
    g: () => { going = true; setTimeout(() => { going = false; }, 1500); },
    j: () => step(1),
    k: () => step(-1),
    "?": () => document.getElementById("keys")?.showModal(),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// -- the log of a job, opened where its row is; without a script the link leads to the job's own page --------------------------------

const logs = new Map(); // address of a job's page → what is shown of it

async function fill(log, href) {
  const answer = await fetch(href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
  const then = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = then.getElementById(answer.ok ? "log" : "main");
  const open = [...log.querySelectorAll("details[open][id]")].map((part) => part.id);
  log.replaceChildren(...(found?.childNodes ?? []));
  for (const id of open) log.querySelector(`#${CSS.escape(id)}`)?.setAttribute("open", "");
}

function attach(link, log) {
  link.setAttribute("aria-expanded", "true");
  const row = link.closest("tr");
  if (!row) { link.closest("li").append(log); return; }
  const under = document.createElement("tr");
  const cell = under.insertCell();
  cell.colSpan = row.cells.length;
  cell.className = "text";
  log.className = "under";
  cell.append(log);
  row.after(under);
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-log]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const href = link.getAttribute("href");
  const shown = logs.get(href);
  if (shown) {
    logs.delete(href);
    link.setAttribute("aria-expanded", "false");
    (shown.closest("tr") ?? shown).remove();
    return;
  }
  const log = document.createElement("div");
  logs.set(href, log);
  attach(link, log);
  try { await fill(log, href); } catch { location.href = href; }
});

// -- parts that follow: the server says that something changed, the page is asked for again, and what differs is put in place -----

const PAUSE_MS = 400; // between two looks at most this often, however many events there are

function place(now, then) {
  if (now.innerHTML === then.innerHTML) return; // an open log makes it differ, and is taken along below
  const focused = now.contains(document.activeElement) ? document.activeElement : null;
  if (focused?.matches("input, textarea, select")) return; // somebody types there
  const open = [...now.querySelectorAll("details[open][id]")].map((part) => part.id);
  const selected = now.querySelector('tr[aria-selected="true"]')?.id;
  now.replaceChildren(...then.childNodes);
  for (const [href, log] of logs) {
    const link = now.querySelector(`a[data-log][href="${CSS.escape(href)}"]`);
    if (link) attach(link, log);
  }
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (selected) document.getElementById(selected)?.setAttribute("aria-selected", "true");
  if (focused?.href) now.querySelector(`a[href="${CSS.escape(focused.getAttribute("href"))}"]`)?.focus({ preventScroll: true });
}

async function follow() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
  if (!answer.ok || answer.redirected) { location.reload(); return; }
  const then = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const now of document.querySelectorAll("[data-live]")) {
    const fresh = then.getElementById(now.id);
    if (fresh) place(now, fresh);
  }
  for (const [href, log] of logs) if (log.isConnected) await fill(log, href);
}

if (document.querySelector("[data-live]")) {
  let wanted = false, busy = false;
  const look = async () => {
    if (busy) { wanted = true; return; }
    busy = true;
    do {
      wanted = false;
      try { await follow(); } catch { /* the server restarts: the stream connects again and asks anew */ }
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    } while (wanted);
    busy = false;
  };
  const stream = new EventSource("/changes");
  stream.addEventListener("changed", look);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  addEventListener("pagehide", () => stream.close());
}
