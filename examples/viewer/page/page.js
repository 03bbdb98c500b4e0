"use strict";
// The connection: what is sent, and the pictures and figures that come. Runs last.

let socket = null, scheduled = false, retry = 500, last = null, status = null, drawn = null;
const paint = canvas.getContext("2d", { alpha: false }), over = $("tiles").getContext("2d");

// What the server is told: the whole view each time, so that only the newest matters.
function send() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (!about) return;
    const scale = Math.min(window.devicePixelRatio || 1, 2), box = canvas.getBoundingClientRect();
    const fit = Math.min(1, 2048 / Math.max(box.width * scale, box.height * scale, 1));
    view.width = clamp(Math.round(box.width * scale * fit), 16, 2048);
    view.height = clamp(Math.round(box.height * scale * fit), 16, 2048);
    tell({ view });
  });
}
function tell(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = event => typeof event.data === "string" ? greet(JSON.parse(event.data)) : enqueue(socket, event.data);
  socket.onclose = event => {
    state("failed", "disconnected");
    complain("error", event.reason ? `The viewer closed the connection: ${event.reason}` : "The viewer is not running; waiting for it …");
    if (event.code === 1008) about = null; // A view that was refused is not sent again.
    setTimeout(connect, retry = Math.min(retry * 1.5, 5000));
  };
}

function greet(hello) {
  const again = about && about.name === hello.name && "" + about.extent === "" + hello.extent;
  about = hello; retry = 500; complain("error", "");
  document.title = `${about.name} – vastgrid`;
  $("name").textContent = about.name;
  const spacing = about.spacing.every(s => s === 1) ? "" : ` · spacing ${about.spacing.map(short).join(" × ")}`;
  const levels = about.levels.length > 1 ? ` · ${about.levels.length} levels` : "";
  $("about").textContent = `${about.extent.join(" × ")} × ${about.type} · ${size(about.volume_bytes)}${levels}${spacing}`;
  $("preset").replaceChildren(...about.presets.map(p => new Option(p.name, p.name)));
  const [low, high] = about.range;
  for (const id of ["iso", "level"]) { $(id).min = low; $(id).max = high > low ? high : low + 1; }
  [$("budget").min, $("budget").max] = about.budget_bytes.map(Math.log2);
  // A new connection is a new eye: it is neither frozen nor does it show tiles.
  $("freeze").setAttribute("aria-pressed", false);
  if (pressed("overlay")) tell({ overlay: true });
  if (!again) reset(); else { controls(); send(); }
}

// One after the other: a small picture must not overtake a large one that came before it.
let queue = Promise.resolve();
function enqueue(from, data) {
  queue = queue.then(() => show(from, data)).catch(error => { state("failed", "failed"); complain("error", `A picture cannot be shown: ${error.message}`); });
}

async function show(from, data) {
  const length = new DataView(data).getUint32(0, true);
  const told = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  try {
    if (told.kind) {
      last = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: told.kind }));
      drawn = told.overlay; draw();
    }
  } finally {
    if (from.readyState === WebSocket.OPEN) from.send(JSON.stringify({ shown: told.number }));
  }
  if (told.picked) picked(told.picked.at);
  status = told;
  complain("error", told.error); complain("trouble", told.trouble);
  const words = { moving: `moving, ${told.shrink} × coarser`, loading: told.shrink > 1 ? `loading, ${told.shrink} × coarser` : "loading", failed: "failed",
    finishing: `finishing, ${told.rays_left.toLocaleString()} rays`, frozen: "frozen", converged: told.quality.exact ? "exact" : "converged" }[told.state];
  state(told.state, words);
  figures(told);
}

// How true the picture is: level shown against wanted, what is missing, why, and for how long.
function figures(told) {
  const q = told.quality, parts = [];
  if (told.state !== "failed") {
    const same = Math.abs(q.shown_level - q.wanted_level) < 0.005;
    if (q.finished) parts.push("every voxel, tile by tile through the budget");
    else if (about.levels.length > 1) parts.push(same ? `level ${q.shown_level.toFixed(2)} as wanted` : `level ${q.shown_level.toFixed(2)} shown, ${q.wanted_level.toFixed(2)} wanted`);
    if (q.share < 0.9995) parts.push(`${(q.share * 100).toFixed(1)} % as wanted`);
    if (q.missing_tiles) parts.push(`${q.missing_tiles.toLocaleString()} missing${q.failed_tiles ? `, ${q.failed_tiles.toLocaleString()} of them failed` : ""}`);
    if (q.bias > 0) parts.push(`${q.bias.toFixed(2)} levels coarser`);
    if (q.limit !== "nothing" && q.limit !== "loading") parts.push([`limit: ${q.limit}`, q.limit === "budget" || q.limit === "tiles failed"]);
    if (q.in_flight_bytes) parts.push(`${size(q.in_flight_bytes)} in flight`);
    // What comes of a rate that has fallen to almost nothing says nothing.
    if (q.seconds_left !== null && q.seconds_left < 3600 && told.state !== "converged") parts.push(`${seconds(q.seconds_left * 1e3)} to go`);
    if (told.state === "converged") parts.push(q.exact ? "what unlimited memory gives" : "waiting changes nothing");
  }
  $("fidelity").replaceChildren(...parts.map(part => {
    const span = document.createElement("span");
    if (Array.isArray(part) && part[1]) span.className = "warn";
    span.textContent = Array.isArray(part) ? part[0] : part;
    return span;
  }));
  $("fidelity").title = q.text;
  if (told.frame_ms) $("ms").textContent = seconds(told.frame_ms);
  $("first").textContent = told.first_ms === null ? "–" : seconds(told.first_ms);
  $("full").textContent = told.full_ms === null ? "…" : seconds(told.full_ms);
  for (const id of ["loads", "evictions"]) $(id).textContent = told[id].toLocaleString();
  $("resident").textContent = told.resident_tiles.toLocaleString();
  $("used").textContent = size(told.used_bytes);
  const part = bytes => `${Math.min(100, 100 * bytes / Math.max(1, told.budget_bytes))}%`;
  $("meter").querySelector("i").style.width = part(told.used_bytes);
  $("meter").querySelector("b").style.width = part(told.pinned_bytes);
  if (!budgeting) showBudget(told.budget_bytes);
  $("freeze").setAttribute("aria-pressed", told.frozen);
  if (drawn && about) legend(drawn, about, q);
}

function draw() {
  const scale = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * scale)), height = Math.max(1, Math.round(box.height * scale));
  for (const c of [canvas, $("tiles")]) if (c.width !== width || c.height !== height) { c.width = width; c.height = height; }
  paint.fillStyle = "#0b0d11"; paint.fillRect(0, 0, width, height);
  over.clearRect(0, 0, width, height);
  $("legend").hidden = !drawn;
  if (!last) return;
  paint.imageSmoothingQuality = "high";
  const fit = Math.min(width / last.width, height / last.height);
  // Sides that were divided are off by less than a pixel of the small picture.
  const exact = Math.abs(fit * last.width - width) < 2 * fit + 2 && Math.abs(fit * last.height - height) < 2 * fit + 2;
  const [w, h] = exact ? [width, height] : [fit * last.width, fit * last.height];
  const place = { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h };
  paint.drawImage(last, place.x, place.y, w, h);
  if (drawn && about) drawTiles(over, drawn, about, place, scale);
}

function state(name, text) { $("state").className = name; $("state").textContent = text; }
function complain(id, text) { $(id).hidden = !text; ($(id).querySelector("span") || $(id)).textContent = text || ""; }
function short(v) { return Number(v.toPrecision(4)).toLocaleString(undefined, { maximumSignificantDigits: 4 }); }
function seconds(ms) { return ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 999.5 ? `${ms.toFixed(0)} ms` : `${(ms / 1e3).toFixed(ms < 9950 ? 1 : 0)} s`; }
function size(bytes) {
  if (bytes == null) return "?";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (bytes >= 1024 && i < 5) { bytes /= 1024; i++; }
  return `${Number(bytes.toFixed(bytes < 10 ? 1 : 0))} ${units[i]}`;
}

new ResizeObserver(() => { draw(); send(); document.documentElement.style.setProperty("--status", $("status").offsetHeight + "px"); }).observe(canvas);
connect();
