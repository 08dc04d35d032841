// The page's own behaviour: it listens to the server's stream and asks for what changed.
"use strict";
(() => {
  const PAGE_MAX = 200; // as rows.LIMIT_MAX on the server
  const ROWS_MAX = 1500;
  const HIDDEN_MS = 10_000;
  const MEMORY_MS = 3_000;

  const byId = (id) => document.getElementById(id);
  const events = byId("events");
  const dialog = byId("dialog");
  const type = byId("type");

  let head = Number(document.body.dataset.head); // what the stream told
  let listed = head; // what the list holds
  let source = null;
  let last = null; // the last state message

  // ---- times ------------------------------------------------------------------------------------------------------

  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

  function elapsed(us) {
    const seconds = Math.max(0, Math.round(Date.now() / 1000 - us / 1e6));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
    return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
  }

  function write(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function showTimes() {
    const today = new Date().toDateString();
    for (const node of document.querySelectorAll("time[data-us]:not([title])")) {
      const at = new Date(Number(node.dataset.us) / 1000);
      write(node, at.toDateString() === today ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`);
      node.title = node.dateTime;
    }
    for (const node of document.querySelectorAll("time[data-full]")) {
      write(node, `${full.format(new Date(Number(node.dataset.full) / 1000))}`);
      node.title = node.dateTime;
    }
    for (const node of document.querySelectorAll("time[data-since]")) {
      write(node, `for ${elapsed(Number(node.dataset.since))}`);
      node.title = `since ${node.dateTime}`;
    }
  }

  // ---- the list of events -----------------------------------------------------------------------------------------

  let asking = false;

  async function listNew() {
    if (asking) return;
    asking = true;
    try {
      while (listed < head) {
        const goal = head;
        const filter = encodeURIComponent(type.value);
        const long = events.childElementCount > ROWS_MAX && events.scrollTop < 40;
        const known = listed;
        listed = goal;
        if (goal - known > PAGE_MAX || long) {
          await htmx.ajax("GET", `/fragments/events?type=${filter}`, { source: events, target: events, swap: "innerHTML" });
        } else {
          await htmx.ajax("GET", `/fragments/events?after=${known}&type=${filter}`, { source: events, target: events, swap: "afterbegin" });
        }
        tidyList();
      }
    } finally {
      asking = false;
    }
  }

  function tidyList() {
    const seen = new Set();
    for (const row of events.querySelectorAll("li.row")) {
      if (seen.has(row.dataset.seq)) row.remove();
      seen.add(row.dataset.seq);
    }
    if (seen.size) events.querySelector("li.empty")?.remove();
  }

  // ---- the stream -------------------------------------------------------------------------------------------------

  const CONCERNS = {
    training: ["CheckpointTrained", "OutcomeRewarded", "EffectFailed", "PlanChosen", "RollbackStarted"],
    rewards: ["OutcomeRewarded", "PlanChosen", "PolicyChanged"],
    memory: ["SignalEmbedded", "MemoryReembedded", "OutcomeRewarded", "RollbackStarted"],
  };

  function concerns(name, types) {
    return types === null || types.some((one) => CONCERNS[name].includes(one));
  }

  let memoryTimer = 0;

  function onEvents(news) {
    if (news.last < head) return location.reload(); // another log
    head = news.last;
    listNew();
    if (concerns("training", news.types)) {
      htmx.trigger("#training", "instar:training");
      instarCharts.training();
    }
    if (concerns("rewards", news.types)) htmx.trigger("#rewards", "instar:rewards");
    if (concerns("memory", news.types) && !memoryTimer) {
      memoryTimer = setTimeout(() => { memoryTimer = 0; instarCharts.memory(); }, last?.head === head ? 300 : MEMORY_MS);
    }
  }

  function onState(now) {
    const { progress, ...facts } = now;
    const before = last;
    last = now;
    document.title = `${now.machine} · ${now.workspace} · Instar`;
    const { progress: _, ...known } = before ?? {};
    const bar = document.querySelector("#state progress");
    if (before && bar && progress && JSON.stringify(facts) === JSON.stringify(known)) {
      bar.max = progress.steps || 1;
      bar.value = progress.step;
      write(bar.nextElementSibling, `${progress.step} / ${progress.steps} ${progress.note}`);
      return;
    }
    htmx.trigger("#state", "instar:state");
    if (!before || before.machine !== now.machine || before.doing !== now.doing || before.problem !== now.problem) {
      write(byId("spoken"), `${now.problem ?? ""} ${now.machine}. ${now.doing}.`.trim());
    }
  }

  function showLive(state, text) {
    byId("live").dataset.live = state;
    write(byId("live").lastElementChild, text);
  }

  function connect() {
    if (source) return;
    source = new EventSource(`/live?after=${head}`);
    source.onopen = () => showLive("on", "live");
    source.onerror = () => {
      showLive("off", "not connected");
      if (source.readyState === EventSource.CLOSED) {
        source = null;
        setTimeout(connect, 3_000);
      }
    };
    source.addEventListener("state", (message) => onState(JSON.parse(message.data)));
    source.addEventListener("events", (message) => onEvents(JSON.parse(message.data)));
  }

  // A browser opens six connections to one server: hidden pages must not keep theirs.
  let hiddenTimer = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiddenTimer);
    if (document.visibilityState === "visible") return connect();
    hiddenTimer = setTimeout(() => {
      source?.close();
      source = null;
      showLive("off", "paused");
    }, HIDDEN_MS);
  });

  // ---- one event --------------------------------------------------------------------------------------------------

  window.instarOpen = (seq) => htmx.ajax("GET", `/fragments/event/${seq}`, { source: dialog, target: "#detail", swap: "innerHTML" });

  document.addEventListener("htmx:after:swap", (swap) => {
    const target = swap.detail?.ctx?.target;
    if (target?.id === "detail") {
      if (!dialog.open) dialog.showModal();
      dialog.scrollTop = 0;
      dialog.querySelector("[data-close]")?.focus();
    }
    if (target === events && swap.detail.ctx.sourceElement === type) listed = Math.min(listed, head);
    showTimes();
  });
  dialog.addEventListener("click", (click) => {
    if (click.target === dialog || click.target.closest("[data-close]")) dialog.close();
  });

  document.addEventListener("DOMContentLoaded", () => {
    showTimes();
    setInterval(showTimes, 1_000);
    instarCharts.memory();
    instarCharts.training();
    connect();
  });
})();
