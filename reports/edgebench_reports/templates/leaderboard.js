"use strict";
// The page is complete without this script; it adds sorting, filters, export and live charts.

const dark = matchMedia("(prefers-color-scheme: dark)");

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Libraries and long tables are kept gzipped in inert elements.
async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function load(id) {
  const url = URL.createObjectURL(new Blob([await unpack(id)], { type: "text/javascript" }));
  try {
    return await import(url);
  } finally {
    URL.revokeObjectURL(url);
  }
}

// ---------------------------------------------------------------------------------------- tables

// A row of the page holds cells as DataTables reads them; a packed one [text, value, note, tone, link].
function value(row, column) {
  const cell = row[column];
  return Array.isArray(cell) ? (cell[1] ?? "") : cell["@data-order"];
}

function fillCell(element, [text, , note, tone, link]) {
  if (link) element.append(make("a", { href: link, textContent: text }));
  else if (tone) element.append(make("span", { className: `tone ${tone}`, textContent: text }));
  else element.append(text);
  if (note) element.append(make("small", { textContent: note, title: note }));
}

// Only the cells that are shown become elements, and what they hold is only ever text.
function packedOptions(rows, headings) {
  return {
    data: rows,
    deferRender: true,
    columns: headings.map((heading, column) => ({
      data: column,
      className: heading.classList.contains("number") ? "number" : "",
      render: (cell, kind) => {
        if (kind === "sort" || kind === "type") return cell[1] ?? "";
        return kind === "filter" ? `${cell[0]} ${cell[2]}` : "";
      },
      createdCell: fillCell,
    })),
    createdRow: (element, row) => { if (row[0][1] === 1) element.className = "first"; },
  };
}

// ">=2", "<10" or "=3" compare; anything else is looked for in the text.
function matcher(text, isNumber) {
  const comparison = isNumber && text.match(/^\s*(<=|>=|<|>|=)\s*(-?[\d.]+)\s*$/);
  if (!comparison) {
    const wanted = text.trim().toLowerCase();
    return (shown) => shown.toLowerCase().includes(wanted);
  }
  const bound = Number(comparison[2]);
  const compare = {
    "<": (x) => x < bound, ">": (x) => x > bound, "=": (x) => x === bound,
    "<=": (x) => x <= bound, ">=": (x) => x >= bound,
  }[comparison[1]];
  return (shown, own) => own !== "" && compare(Number(own));
}

function filterCell(heading, column) {
  const name = heading.dataset.heading;
  const label = `Filter ${name}`;
  if (heading.dataset.choices) {
    const select = make("select", { ariaLabel: label });
    select.append(make("option", { value: "", textContent: "all" }));
    return [select, (table) => {
      const choices = [...new Set(table.rows().data().toArray().map((row) => value(row, column)))].sort();
      select.append(...choices.map((choice) => make("option", { value: choice, textContent: choice })));
      select.onchange = () => {
        const wanted = select.value;
        if (wanted) table.column(column).search.fixed("own", (_, row) => value(row, column) === wanted);
        else table.column(column).search.fixed("own", null);
        table.draw();
      };
    }];
  }
  const isNumber = heading.classList.contains("number");
  const input = make("input", { type: "search", ariaLabel: label, placeholder: isNumber ? "≥ …" : "" });
  input.title = isNumber ? "a number, or a bound such as >=2 or <10" : "text";
  return [input, (table) => {
    input.oninput = () => {
      if (input.value.trim()) {
        const matches = matcher(input.value.replace("≥", ">=").replace("≤", "<="), isNumber);
        table.column(column).search.fixed("own", (shown, row) => matches(shown, value(row, column)));
      } else table.column(column).search.fixed("own", null);
      table.draw();
    };
  }];
}

// A cell that a spreadsheet would take for a formula is quoted.
function csvCell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) && !Number.isFinite(Number(text)) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function save(text, type, name) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const shownRows = (table) => table.rows({ search: "applied", order: "applied" }).data().toArray();

// Numbers are numbers, and what was not measured is null.
function exportJson(table, headings, name) {
  const rows = shownRows(table).map((row) => Object.fromEntries(headings.map((heading, column) => {
    const own = String(value(row, column));
    const isNumber = heading.classList.contains("number");
    return [heading.dataset.heading, own === "" ? null : isNumber ? Number(own) : own];
  })));
  save(JSON.stringify(rows, null, 1), "application/json", `edgebench-${name}.json`);
}

function exportCsv(table, headings, name) {
  const rows = shownRows(table);
  const lines = [headings.map((heading) => heading.dataset.heading)];
  lines.push(...rows.map((row) => headings.map((_, column) => String(value(row, column)))));
  const text = lines.map((line) => line.map(csvCell).join(",") + "\r\n").join("");
  save("\ufeff" + text, "text/csv;charset=utf-8", `edgebench-${name}.csv`);
}

function columnMenu(table, headings) {
  const boxes = headings.map((heading, column) => {
    const box = make("input", { type: "checkbox", checked: table.column(column).visible() });
    box.onchange = () => table.column(column).visible(box.checked);
    return make("label", {}, box, ` ${heading.dataset.heading}`);
  });
  const menu = make("details", { className: "menu" }, make("summary", { textContent: "Columns" }), make("div", {}, ...boxes));
  menu.addEventListener("keydown", (event) => { if (event.key === "Escape") menu.open = false; });
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  return menu;
}

// The tracks as tabs, where there is more than one.
function trackTabs(table, headings) {
  const column = headings.findIndex((heading) => heading.dataset.heading === "track");
  const tracks = [...new Set(table.rows().data().toArray().map((row) => value(row, column)))].sort();
  if (tracks.length < 2) return [];
  const tabs = ["all tracks", ...tracks].map((track, number) => {
    const tab = make("button", { type: "button", textContent: track, ariaPressed: String(number === 0) });
    tab.onclick = () => {
      for (const other of tabs) other.ariaPressed = String(other === tab);
      table.column(column).search.fixed("track", number ? (_, row) => value(row, column) === track : null);
      table.draw();
    };
    return tab;
  });
  return [make("div", { className: "tabs", role: "group", ariaLabel: "Track" }, ...tabs)];
}

function toolbar(table, headings, name) {
  const search = make("input", { type: "search", placeholder: "Search all columns", ariaLabel: `Search ${name}` });
  search.oninput = () => table.search(search.value).draw();
  const csv = make("button", { type: "button", textContent: "CSV", title: "Download the rows shown, all columns" });
  csv.onclick = () => exportCsv(table, headings, name);
  const json = make("button", { type: "button", textContent: "JSON", title: "Download the rows shown, all columns" });
  json.onclick = () => exportJson(table, headings, name);
  const count = make("span", { className: "count", role: "status" });
  const say = () => {
    const { recordsDisplay, recordsTotal } = table.page.info();
    count.textContent = recordsDisplay === recordsTotal ? `${recordsTotal} entries` : `${recordsDisplay} of ${recordsTotal} entries`;
  };
  table.on("draw", say);
  say();
  return make("div", { className: "tools" }, search, columnMenu(table, headings), csv, json, ...trackTabs(table, headings), count);
}

async function enliven(DataTable, section) {
  const element = section.querySelector("table");
  const headings = [...element.tHead.rows[0].cells];
  const filters = headings.map(filterCell);
  const packed = element.dataset.rows ? JSON.parse(await unpack(element.dataset.rows)) : null;
  if (packed) element.tBodies[0].replaceChildren();
  const row = element.tHead.insertRow();
  row.className = "filters";
  row.append(...filters.map(([control]) => make("th", {}, control)));
  const long = packed !== null || element.tBodies[0].rows.length > 100;
  const at = (wanted) => headings.flatMap((heading, column) => (wanted(heading) ? [column] : []));
  const table = new DataTable(element, {
    ...(packed ? packedOptions(packed, headings) : {}),
    order: [],
    titleRow: 0,
    orderCellsTop: true,
    autoWidth: false,
    paging: long,
    pageLength: 100,
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: long ? "paging" : null },
    language: { zeroRecords: "No entry matches the filters." },
    columnDefs: [
      { targets: at((heading) => heading.classList.contains("number")), type: "measured" },
      { targets: at((heading) => !heading.classList.contains("number")), type: "string" },
      { targets: at((heading) => heading.dataset.hidden), visible: false },
    ],
  });
  for (const [, connect] of filters) connect(table);
  section.querySelector(".scroll").before(toolbar(table, headings, section.dataset.scenario));
  if (long) {
    addEventListener("beforeprint", () => table.page.len(-1).draw());
    addEventListener("afterprint", () => table.page.len(100).draw());
  }
}

// What was not measured is last, whichever way a column is sorted.
function defineOrder(DataTable) {
  const order = (sign) => (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (Number(a) - Number(b));
  };
  Object.assign(DataTable.ext.type.order, { "measured-asc": order(1), "measured-desc": order(-1) });
}

async function tables() {
  const { default: DataTable } = await load("table-library");
  defineOrder(DataTable);
  DataTable.ext.errMode = "throw";
  await Promise.all([...document.querySelectorAll(".board")].map((section) => enliven(DataTable, section)));
}

// ---------------------------------------------------------------------------------------- charts

function theme() {
  const style = getComputedStyle(document.documentElement);
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  return {
    font: "system-ui, sans-serif",
    axis: { labelColor: soft, titleColor: soft, domainColor: line, tickColor: line, gridColor: line,
      titleFontWeight: 500, labelFontSize: 11, titleFontSize: 12 },
    title: { color: ink },
  };
}

async function charts() {
  const plots = [...document.querySelectorAll(".plot")];
  if (!plots.length) return;
  await load("chart-library");
  const specs = JSON.parse(document.getElementById("chart-specs").textContent);
  const views = new Map();
  const draw = async () => {
    for (const plot of plots) {
      views.get(plot)?.finalize();
      const options = {
        renderer: "svg",
        config: theme(),
        actions: { export: true, source: false, compiled: false, editor: false },
        tooltip: { theme: "custom" },
      };
      views.set(plot, await window.edgebenchEmbed(plot, specs[plot.dataset.spec], options));
    }
  };
  await draw();
  let drawing = Promise.resolve();
  dark.addEventListener("change", () => { drawing = drawing.then(draw); });
}

// ------------------------------------------------------------------------------------------ runs

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
}

function copyButtons() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.onclick = async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
    };
  }
}

addEventListener("hashchange", openTarget);
openTarget();
copyButtons();
Promise.all([tables(), charts()]).then(() => {
  document.documentElement.dataset.ready = "true";
  openTarget();
});
