"use strict";
// Draws the tiles of a picture over it: filled in the colour of their level, outlined by their state, the farthest first.

const levelColour = (level, alpha = 1) => `hsl(${(48 + 37 * level) % 360} 88% 62% / ${alpha})`;
// In the order that the server numbers them in.
const stateLooks = {
  resident: { fill: 0.06, width: 1, dash: [] },
  uniform: { fill: 0, width: 1, dash: [1, 3], colour: "#8b97a8" },
  loading: { fill: 0.12, width: 1.6, dash: [5, 3], colour: "#ff9f43" },
  missing: { fill: 0, width: 1, dash: [2, 4], colour: "#e8eef6" },
  failed: { fill: 0, width: 2, dash: [], colour: "#ff5a50" },
};
const sub = (a, b) => a.map((v, i) => v - b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = a => { const length = Math.hypot(...a) || 1; return a.map(v => v / length); };

// From the world to pixels of a picture that lies at `place` of the canvas; null where that is behind the eye.
function projection(overlay, place) {
  const forward = unit(sub(overlay.target, overlay.eye));
  const right = unit(cross(forward, [0, 0, 1])), up = cross(right, forward);
  const half = Math.tan(overlay.fov * Math.PI / 360);
  return point => {
    const from = sub(point, overlay.eye), depth = dot(from, forward);
    const reach = overlay.fov ? depth * half : overlay.height / 2;
    if (overlay.fov && depth <= 1e-9) return null;
    const scale = place.height / 2 / reach;
    return [place.x + place.width / 2 + dot(from, right) * scale, place.y + place.height / 2 - dot(from, up) * scale];
  };
}

// The faces of a box, as corners numbered x + 2 y + 4 z: along each axis the lower one and the upper.
const faces = [[[0, 4, 6, 2], [1, 3, 7, 5]], [[0, 1, 5, 4], [2, 6, 7, 3]], [[0, 2, 3, 1], [4, 5, 7, 6]]];

function drawTiles(paint, overlay, about, place, scale) {
  const project = projection(overlay, place), names = about.states;
  const looks = unit(sub(overlay.eye, overlay.target));
  const boxes = [];
  for (let i = 0; i < overlay.tiles.length; i += 5) {
    const level = overlay.tiles[i], state = names[overlay.tiles[i + 1]], at = overlay.tiles.slice(i + 2, i + 5);
    const size = about.levels[level].factor.map((f, a) => f * about.tile * about.spacing[a]);
    const low = at.map((n, a) => n * size[a]);
    const high = low.map((v, a) => Math.min(v + size[a], about.extent[a] * about.spacing[a]));
    const middle = low.map((v, a) => (v + high[a]) / 2);
    boxes.push({ level, state, low, high, far: Math.hypot(...sub(middle, overlay.eye)) });
  }
  boxes.sort((a, b) => b.far - a.far);
  paint.lineJoin = "round";
  // The more there are, the fainter: the picture stays in sight.
  const strength = Math.min(1, 8 / Math.sqrt(boxes.length || 1));
  for (const { level, state, low, high } of boxes) {
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map(c => project([c & 1, c >> 1 & 1, c >> 2].map((side, a) => side ? high[a] : low[a])));
    // A box around the eye has no outside to see.
    if (corners.includes(null)) continue;
    const look = stateLooks[state];
    paint.beginPath();
    for (let axis = 0; axis < 3; axis++) {
      const eye = overlay.fov ? overlay.eye[axis] : looks[axis] * Infinity;
      const face = eye < low[axis] ? faces[axis][0] : eye > high[axis] ? faces[axis][1] : null;
      if (!face) continue;
      face.forEach((c, i) => i ? paint.lineTo(...corners[c]) : paint.moveTo(...corners[c]));
      paint.closePath();
    }
    if (look.fill) { paint.fillStyle = levelColour(level, look.fill * strength ** 2); paint.fill(); }
    paint.setLineDash(look.dash.map(d => d * scale));
    paint.lineWidth = look.width * scale;
    paint.strokeStyle = look.colour || levelColour(level, 0.6);
    paint.globalAlpha = (state === "missing" || state === "uniform" ? 0.45 : 1) * (state === "failed" ? 1 : strength);
    paint.stroke();
    paint.globalAlpha = 1;
  }
}

function legend(overlay, about, quality) {
  const all = quality.shown.reduce((a, b) => a + b, 0) || 1;
  const rows = overlay.counts.map((counts, level) => {
    const of = name => counts[about.states.indexOf(name)];
    return { level, there: of("resident"), come: of("loading") + of("missing"), failed: of("failed"), share: (quality.shown[level] || 0) / all };
  }).filter(row => row.there + row.come + row.failed > 0 || row.share > 0);
  $("legend").querySelector("tbody").replaceChildren(...rows.map(row => {
    const tr = document.createElement("tr"), mark = document.createElement("i");
    mark.style.background = levelColour(row.level);
    const cells = [mark, about.levels[row.level].extent.join(" × "), `${(row.share * 100).toFixed(0)} %`, row.there.toLocaleString(),
      row.come.toLocaleString() + (row.failed ? `, ${row.failed} failed` : "")];
    for (const cell of cells) { const td = document.createElement("td"); td.append(cell); tr.append(td); }
    return tr;
  }));
  if (!$("states").childElementCount) {
    $("states").append(...about.states.map(name => {
      const li = document.createElement("li"), mark = document.createElement("i"), look = stateLooks[name];
      mark.style.borderColor = look.colour || levelColour(0);
      if (!look.colour) mark.style.background = levelColour(0, 0.35);
      mark.style.borderStyle = look.dash.length ? (look.dash[0] > 3 ? "dashed" : "dotted") : "solid";
      li.append(mark, name);
      return li;
    }));
  }
}
