"use strict";
// Plays all clips of a page in step. The data is in the element `player-data`; clip i belongs to the i-th canvas.
(() => {
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("player-data").textContent);
const canvases = [...document.querySelectorAll("#players canvas")];
const REST = 0.7; // seconds that the last frame stays before the clips start again
let frame = 0, playing = false, due = 0;

data.clips.forEach((clip, i) => {
  clip.scale = Math.max(1, Math.round(192 / Math.max(clip.width, clip.height)));
  canvases[i].width = clip.width * clip.scale;
  canvases[i].height = clip.height * clip.scale;
  clip.sheet = new Image();
  clip.sheet.onload = () => draw(clip, canvases[i]);
  clip.sheet.src = clip.image;
});

function draw(clip, canvas) {
  const t = Math.min(frame, clip.count - 1), context = canvas.getContext("2d");
  const x = (t % clip.columns) * clip.width, y = Math.floor(t / clip.columns) * clip.height;
  context.imageSmoothingEnabled = false;
  context.drawImage(clip.sheet, x, y, clip.width, clip.height, 0, 0, canvas.width, canvas.height);
  if (!element("points").checked || !clip.points) return;
  clip.points[t].forEach(([px, py], k) => {
    context.beginPath();
    context.fillStyle = `rgb(${clip.colors[k].join(",")})`;
    context.strokeStyle = "#000";
    context.arc(((px + 1) / 2 * (clip.width - 1) + 0.5) * clip.scale,
                ((py + 1) / 2 * (clip.height - 1) + 0.5) * clip.scale, 4, 0, 2 * Math.PI);
    context.fill();
    context.stroke();
  });
}

function show(to) {
  frame = (to + data.frames) % data.frames;
  element("slider").value = frame;
  element("slider").setAttribute("aria-valuetext", `frame ${frame + 1} of ${data.frames}`);
  element("where").textContent = `frame ${frame + 1} of ${data.frames}`;
  data.clips.forEach((clip, i) => { if (clip.sheet.complete) draw(clip, canvases[i]); });
}

function play(on) {
  playing = on;
  due = 0;
  element("play").textContent = on ? "Pause" : "Play";
  element("where").setAttribute("aria-live", on ? "off" : "polite"); // a screen reader does not read every frame
}

function tick(now) {
  if (playing && now >= due) {
    if (due) show(frame + 1);
    const rest = frame === data.frames - 1 ? REST * 1000 : 0;
    due = now + 1000 / (data.fps * Number(element("speed").value)) + rest;
  }
  requestAnimationFrame(tick);
}

function step(by) {
  play(false);
  show(frame + by);
}

element("play").onclick = () => play(!playing);
element("back").onclick = () => step(-1);
element("forward").onclick = () => step(1);
element("slider").oninput = (event) => { play(false); show(Number(event.target.value)); };
element("points").onchange = () => show(frame);
document.addEventListener("keydown", (event) => {
  const on = event.target.tagName; // elements that use these keys themselves keep them
  if (event.ctrlKey || event.altKey || event.metaKey || ["SELECT", "INPUT", "TEXTAREA"].includes(on)) return;
  if (event.key === " " && !["BUTTON", "SUMMARY", "A"].includes(on)) { event.preventDefault(); play(!playing); }
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
show(0);
play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
requestAnimationFrame(tick);
})();
