"use strict";
// The panel, the pointer and the keys: everything that changes what is asked for.

const $ = id => document.getElementById(id);
const canvas = $("canvas");
const start = { azimuth: 25, elevation: 10, zoom: 1, target: [0, 0, 0], ortho: false, mode: "shaded" };
let about = null, view = structuredClone(start);
const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
const pressed = id => $(id).getAttribute("aria-pressed") === "true";

// The window's slider is logarithmic: from a thousandth of the range to twice of it.
const span = () => Math.max(about.range[1] - about.range[0], 1e-6);
const toWindow = t => span() * 2 * Math.pow(1000, t - 1), fromWindow = w => 1 + Math.log(w / span() / 2) / Math.log(1000);
function preset(name) {
  const found = about.presets.find(p => p.name === name) || about.presets[0];
  Object.assign(view, { preset: found.name, window: found.window, level: found.level });
}
function mode(name) {
  if (name === "mip" && view.mode !== "mip") preset("mip");
  if (name !== "mip" && view.preset === "mip") preset(about.preset);
  view.mode = name; changed();
}
function reset() {
  view = structuredClone(start);
  view.clip = [[0, 0, 0], [1, 1, 1]];
  view.iso = about.surface; view.zoom = about.zoom;
  preset(about.preset); changed();
}
function changed() { controls(); send(); }
function controls() {
  for (const button of $("modes").children) button.setAttribute("aria-pressed", button.dataset.mode === view.mode);
  $("for-iso").hidden = view.mode !== "iso";
  for (const part of document.querySelectorAll(".for-transfer")) part.hidden = view.mode === "iso";
  $("preset").value = view.preset;
  $("iso").value = view.iso; $("iso-out").textContent = short(view.iso);
  $("window").value = fromWindow(view.window); $("window-out").textContent = short(view.window);
  $("level").value = view.level; $("level-out").textContent = short(view.level);
  $("ortho").setAttribute("aria-pressed", view.ortho);
  for (const input of $("clip").querySelectorAll("input")) input.value = view.clip[input.dataset.side][input.dataset.axis];
}
["x", "y", "z"].forEach((axis, i) => {
  $("clip").append(axis);
  for (const side of [0, 1]) {
    const input = document.createElement("input");
    Object.assign(input, { type: "range", min: 0, max: 1, step: 0.005, value: side, ariaLabel: `${axis} ${side ? "to" : "from"}` });
    Object.assign(input.dataset, { side, axis: i });
    input.oninput = () => {
      view.clip[side][i] = +input.value;
      const other = view.clip[1 - side];
      other[i] = side ? Math.min(other[i], view.clip[1][i]) : Math.max(other[i], view.clip[0][i]);
      changed();
    };
    $("clip").append(input);
  }
});
$("modes").onclick = event => event.target.dataset.mode && mode(event.target.dataset.mode);
$("preset").onchange = () => { preset($("preset").value); changed(); };
$("iso").oninput = () => { view.iso = +$("iso").value; changed(); };
$("window").oninput = () => { view.window = toWindow(+$("window").value); changed(); };
$("level").oninput = () => { view.level = +$("level").value; changed(); };
$("reset").onclick = () => reset();
$("ortho").onclick = () => { view.ortho = !view.ortho; changed(); };
$("menu").onclick = () => {
  const open = $("panel").classList.toggle("open");
  $("menu").textContent = open ? "Close" : "Controls";
  $("menu").setAttribute("aria-expanded", open);
};

// Memory. The budget's slider is logarithmic; while it is held, it shows what is asked for, and then what there is.
let budgeting = 0;
function showBudget(bytes) { $("budget").value = Math.log2(bytes); $("budget-out").textContent = size(bytes); }
$("budget").oninput = () => {
  const bytes = Math.round(2 ** +$("budget").value);
  $("budget-out").textContent = size(bytes);
  clearTimeout(budgeting);
  budgeting = setTimeout(() => { budgeting = 0; }, 600);
  tell({ budget: bytes });
};
$("freeze").onclick = () => tell({ freeze: !pressed("freeze") });
$("flush").onclick = () => tell({ flush: null });
$("retry").onclick = () => tell({ retry: null });
$("overlay").onclick = () => {
  const shown = !pressed("overlay");
  $("overlay").setAttribute("aria-pressed", shown);
  if (!shown) { drawn = null; draw(); }
  tell({ overlay: shown });
};

// The camera: what the server computes from a view, once more.
const world = () => about.extent.map((n, i) => n * about.spacing[i]);
const diagonal = () => Math.hypot(...about.extent.map((n, i) => (n - 1 || 1) * about.spacing[i]));
// The height of the picture at the target.
const reach = () => diagonal() / Math.cos(Math.PI / 12) / view.zoom / Math.min(1, 1.5 * canvas.clientWidth / (canvas.clientHeight || 1));
function axes() {
  const a = view.azimuth * Math.PI / 180, e = view.elevation * Math.PI / 180;
  return {
    right: [Math.cos(a), Math.sin(a), 0],
    up: [-Math.sin(a) * Math.sin(e), Math.cos(a) * Math.sin(e), Math.cos(e)],
    forward: [-Math.sin(a) * Math.cos(e), Math.cos(a) * Math.cos(e), -Math.sin(e)],
  };
}
function turn(dx, dy) {
  view.azimuth = (view.azimuth - dx) % 360;
  view.elevation = clamp(view.elevation + dy, -89.9, 89.9);
  send();
}
// The picture is a dozen voxels high at the nearest.
const nearest = () => Math.max(100, diagonal() / Math.min(...about.spacing) / 12);
function zoom(factor) { view.zoom = clamp(view.zoom * factor, 0.2, nearest()); send(); }
function aim(target) { const most = world(); view.target = target.map((t, i) => clamp(t, -most[i], most[i])); }
// By parts of the picture's height.
function move(dx, dy, on = 0) {
  const { right, up, forward } = axes(), height = reach();
  aim(view.target.map((t, i) => t - (right[i] * dx - up[i] * dy - forward[i] * on) * height));
  send();
}
// Nearer to a place of the world, which stays where it is in the picture.
function zoomTo(place, factor) {
  const before = view.zoom, centre = world().map(n => n / 2);
  view.zoom = clamp(view.zoom * factor, 0.2, nearest());
  const k = view.zoom / before;
  aim(view.target.map((t, i) => place[i] - centre[i] + (t - place[i] + centre[i]) / k));
  send();
}

// What is seen at a place of the picture is the server's to say; what is to be done with it waits for that.
let asked = null;
function ask(event, then) {
  const box = canvas.getBoundingClientRect();
  const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(part => clamp(part, 0, 1));
  clearTimeout(asked?.timer);
  asked = { then, timer: setTimeout(() => picked(null), 400) };
  tell({ pick: at });
}
function picked(place) {
  const was = asked;
  asked = null;
  clearTimeout(was?.timer);
  was?.then(place);
}
let wheel = null;
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  if (!about) return;
  const factor = Math.exp(-clamp(event.deltaY * (event.deltaMode ? 18 : 1), -300, 300) * (event.ctrlKey ? 0.008 : 0.0015));
  const moved = wheel && Math.hypot(event.clientX - wheel.x, event.clientY - wheel.y) > 6;
  if (!wheel || moved || event.timeStamp - wheel.at > 700) {
    wheel = { x: event.clientX, y: event.clientY, place: undefined, factor: 1 };
    const mine = wheel;
    ask(event, place => { mine.place = place; place ? zoomTo(place, mine.factor) : zoom(mine.factor); });
  }
  wheel.at = event.timeStamp;
  if (wheel.place === undefined) wheel.factor *= factor;
  else if (wheel.place) zoomTo(wheel.place, factor);
  else zoom(factor);
}, { passive: false });
function goTo(event) {
  ask(event, place => {
    if (!place) return;
    const from = [...view.target], to = place.map((p, i) => p - world()[i] / 2), zoom0 = view.zoom, begun = performance.now();
    const near = Math.min(2.5, nearest() / zoom0);
    const step = now => {
      const t = Math.min(1, (now - begun) / 450), s = t * t * (3 - 2 * t);
      view.zoom = zoom0 * near ** s;
      // As fast across the picture at its end as at its beginning.
      const part = near > 1.01 ? (1 - near ** -s) / (1 - 1 / near) : s;
      aim(from.map((f, i) => f + (to[i] - f) * part));
      send();
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
}
canvas.addEventListener("dblclick", event => about && goTo(event));

const fingers = new Map();
canvas.onpointerdown = event => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  canvas.classList.add("dragging"); canvas.focus({ preventScroll: true });
};
canvas.onpointermove = event => {
  const before = fingers.get(event.pointerId);
  if (!before || !about) return;
  const now = [event.clientX, event.clientY], height = canvas.clientHeight || 1;
  const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
  if (fingers.size === 1) {
    if (event.shiftKey || event.buttons & 6) move(dx / height, dy / height);
    else turn(dx * 0.4, dy * 0.4);
  } else if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
    const apart = p => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    move(dx / 2 / height, dy / 2 / height);
    zoom(apart(now) / apart(before));
  }
  fingers.set(event.pointerId, now);
};
canvas.onpointerup = canvas.onpointercancel = event => {
  fingers.delete(event.pointerId);
  if (!fingers.size) canvas.classList.remove("dragging");
};
canvas.oncontextmenu = event => event.preventDefault();

// Flying: as long as keys are held, a picture's height in a second and a half.
const held = new Set();
let flown = 0;
function fly(now) {
  const sign = (plus, minus) => held.has(plus) - held.has(minus), by = clamp((now - flown) / 1500, 0, 0.1);
  flown = now;
  if (!held.size) return;
  move(-sign("d", "a") * by, sign("e", "q") * by, sign("w", "s") * by);
  requestAnimationFrame(fly);
}
document.addEventListener("keyup", event => held.delete(event.key.toLowerCase()));
window.addEventListener("blur", () => held.clear());
document.addEventListener("keydown", event => {
  if (!about || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key, letter = key.toLowerCase(), inControl = event.target.matches?.("input, select");
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (arrows && !inControl) event.shiftKey ? move(arrows[0] * 0.04, arrows[1] * 0.04) : turn(arrows[0] * 5, arrows[1] * 5);
  else if (inControl && event.target.matches("select")) return;
  else if ("wasdqe".includes(letter)) {
    if (!held.size) { flown = performance.now(); requestAnimationFrame(fly); }
    held.add(letter);
  }
  else if (key === "+" || key === "=") zoom(1.15);
  else if (key === "-") zoom(1 / 1.15);
  else if ("1234".includes(key)) mode(["dvr", "shaded", "mip", "iso"][key - 1]);
  else if (letter === "r") reset();
  else if (letter === "o") $("ortho").click();
  else if (letter === "t") $("overlay").click();
  else if (letter === "f") $("freeze").click();
  else if (letter === "x") $("flush").click();
  else if (letter === "p") { const i = about.presets.findIndex(p => p.name === view.preset); preset(about.presets[(i + 1) % about.presets.length].name); changed(); }
  else if (key === "?") $("help").open = !$("help").open;
  else return;
  event.preventDefault();
});
