// The page: picture, mask and prompt in; a run of candidates; what is accepted goes back into the picture.

import { ApiError, call, stream, toBase64, toBitmap } from "./api.js";
import { Cards, colourOf } from "./cards.js";
import { Painter } from "./painting.js";
import { Picture, heatCanvas, toPng } from "./picture.js";
import { editRecord, sidecar, withText } from "./record.js";
import { newRun, scoreOf, take } from "./run.js";
import * as store from "./store.js";

const $ = (id) => document.getElementById(id);
const DISPLAY_SIDE = 1600;
const page = { picture: null, job: null, run: newRun(), stopper: null, shown: "", version: "" };
const painter = new Painter($("mask"), () => refresh());
const cards = new Cards($("candidates"), { view: show, accept, reject, redo });

// --- Telling ---

function say(text) { $("status").textContent = text; }

function complain(error) {
  const unreachable = error instanceof TypeError ? "The server cannot be reached. Is `editcritic studio` still running? Then press “Go on”." : "";
  $("notice").textContent = unreachable || error.message;
  $("notice").hidden = false;
}

const quiet = () => { $("notice").hidden = true; };

// Whatever fails is shown, never lost in the console.
const guarded = (work) => (...given) => Promise.resolve(work(...given)).catch((error) => { if (error.name !== "AbortError") complain(error); });

function refresh() {
  const isRunning = Boolean(page.stopper), hasMask = Boolean(page.picture?.strokes.length);
  $("run").disabled = isRunning || !hasMask;
  $("stop").hidden = !isRunning;
  $("go-on").hidden = isRunning || !page.run.editId || Boolean(page.run.result);
  $("undo").disabled = !hasMask;
  const edits = page.picture?.edits.length || 0;
  for (const id of ["undo-accept", "download", "sidecar"]) $(id).hidden = !edits;
  if (page.picture) $("picture-note").textContent = `${page.picture.width} × ${page.picture.height}${edits ? `, ${edits} edit${edits > 1 ? "s" : ""} accepted` : ""}`;
  if (!isRunning && page.picture && !page.run.editId) say(hasMask ? "Say what should be there, then press Edit." : "Paint over what should change.");
}

// --- The picture ---

async function load(blob, name) {
  quiet();
  let bitmap;
  try { bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" }); }
  catch { throw new Error(`${name} is no picture that this browser can read; JPEG, PNG and WebP are.`); }
  if (page.stopper) page.stopper.abort();
  page.picture = new Picture(bitmap, name);
  page.run = newRun();
  page.job = null;
  store.forget("job");
  $("strip").hidden = true;
  $("drop").hidden = true;
  $("desk").hidden = false;
  leave();
  await keep();
}

const keep = guarded(async () => store.keep({ blob: await page.picture.blob(), name: page.picture.name, edits: page.picture.edits }));

function fit() {
  const { width, height } = page.picture, scale = Math.min(1, DISPLAY_SIDE / Math.max(width, height));
  for (const id of ["picture", "before", "heat", "mask"]) Object.assign($(id), { width: Math.round(width * scale), height: Math.round(height * scale) });
  return scale;
}

// Draws the picture, or with a candidate the picture as it would be.
function draw(bitmap = null) {
  const scale = fit(), own = $("picture").getContext("2d");
  own.imageSmoothingQuality = "high";
  own.drawImage(page.picture.canvas, 0, 0, $("picture").width, $("picture").height);
  if (bitmap) {
    const { x, y, width, height } = page.job.place;
    $("before").getContext("2d").drawImage($("picture"), 0, 0);
    own.drawImage(bitmap, x * scale, y * scale, width * scale, height * scale);
  }
  painter.show(page.picture);
}

function leave() {
  page.shown = "";
  painter.isOn = true;
  cards.select("");
  for (const id of ["compare", "before", "heat", "reasons"]) $(id).hidden = true;
  $("tools").hidden = false;
  $("mask").style.pointerEvents = "";
  if (page.picture) draw();
  refresh();
}

// --- A run ---

async function begin(event) {
  event.preventDefault();
  quiet();
  const crop = page.picture.crop();
  if (!crop) { complain(new Error("Paint over what should change first.")); return; }
  leave();
  page.run = newRun();
  await remember(crop);
  const seed = $("seed").value, budget = $("budget").value;
  await follow({
    edit: { editId: store.uuid(), prompt: $("prompt").value.trim(), source: await encoded(crop.source), denoiseMask: await encoded(crop.mask) },
    sampling: { engine: $("engine").value, candidateCount: Number($("count").value) || 4, ...(seed ? { seed } : {}) },
    budget: { repairRoundCount: Number($("rounds").value), ...(budget ? { evaluationCount: budget } : {}) },
    critique: { critic: $("critic").value, heatMap: true },
    events: { previewImages: true, heatMaps: true },
  });
}

async function remember(crop) {
  const scaled = Object.fromEntries(Object.entries(crop.box).map(([name, value]) => [name, value * crop.scale]));
  scaled.x -= crop.place.x * crop.scale;
  scaled.y -= crop.place.y * crop.scale;
  page.job = { place: crop.place, scale: crop.scale, prompt: $("prompt").value.trim() };
  openStrip({ source: crop.source, box: scaled });
}

function openStrip(scene) {
  cards.reset(scene);
  page.job.box = scene.box;
  $("decisions").replaceChildren();
  $("strip").hidden = false;
}

const encoded = async (canvas) => ({ encoded: { format: "IMAGE_FORMAT_PNG", data: await toBase64(await toPng(canvas)) } });

const follow = guarded(async (request) => {
  page.stopper = new AbortController();
  $("progress").hidden = false;
  refresh();
  say("Waiting for the engine.");
  try {
    for await (const event of stream("RefineService/Refine", request, page.stopper.signal)) took(event);
    say(summary());
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped. What was produced is kept; “Go on” takes it up again." : "The run broke off; what was produced is kept.");
    throw error;
  } finally {
    page.stopper = null;
    $("progress").hidden = true;
    refresh();
  }
});

function took(event) {
  take(page.run, event);
  if (event.started) store.remember("job", { ...page.job, editId: page.run.editId });
  if (event.decision) {
    const line = document.createElement("li"), { kind, candidate, reason } = page.run.decisions.at(-1);
    line.textContent = [kind, candidate, reason].filter(Boolean).join(": ");
    $("decisions").append(line);
  }
  cards.update(page.run);
  if (page.stopper) say(progress());
}

function progress() {
  const all = [...page.run.candidates.values()], wanted = page.run.sampling.candidateCount || Number($("count").value);
  const first = all.filter((one) => !one.action), done = first.filter((one) => one.state !== "running").length;
  $("progress").value = Math.min(1, first.reduce((sum, one) => sum + (one.state === "running" ? one.fraction : 1), 0) / wanted);
  const best = Math.max(...all.map((one) => scoreOf(one.critique)?.value ?? -1));
  const repairs = all.length - first.length;
  return `${done} of ${wanted} candidates done${repairs ? `, ${repairs} repair${repairs > 1 ? "s" : ""}` : ""}${best >= 0 ? `; best so far ${Math.round(best)}` : ""}.`;
}

function summary() {
  const { result } = page.run;
  if (!result) return "The server ended the run; “Go on” takes it up again.";
  if (result.stopReason === "STOP_REASON_FAILED") return `It failed: ${result.error?.message || "no candidate could be produced"}`;
  const score = scoreOf(result.critique), plain = result.plainScore;
  const gain = score && plain !== undefined ? ` (the first plain sample: ${Math.round(plain)})` : "";
  const saved = page.run.saved ? ` ${page.run.saved} denoising steps were saved by stopping early.` : "";
  return `${result.candidateId ? `Best: ${result.candidateId}` : "Nothing was better than the picture itself"}${score ? `, ${Math.round(score.value)}${gain}` : ""}.${saved}`;
}

async function goOn() {
  quiet();
  const { editId } = page.run;
  page.run = Object.assign(newRun(), { editId });
  openStrip({ source: cards.scene.source, box: page.job.box });
  await follow({ resumeEditId: editId });
}

// --- A candidate ---

const candidate = (id) => page.run.candidates.get(id);

async function show(id) {
  const one = candidate(id);
  if (!one) return;
  page.shown = id;
  cards.select(id);
  reasons(one);
  if (!one.image) return;
  painter.isOn = false;
  draw(await toBitmap(one.image));
  $("tools").hidden = true;
  $("compare").hidden = $("before").hidden = false;
  $("mask").style.pointerEvents = "none";
  await heat();
  split();
}

function split() {
  $("before").style.setProperty("--split", `${$("split").value}%`);
}

const heat = guarded(async () => {
  const map = candidate(page.shown)?.critique?.heatMaps?.[0], isWanted = $("show-heat").checked && map;
  $("heat").hidden = !isWanted;
  if (!isWanted) return;
  const { place, scale } = page.job, width = Math.round(place.width * scale), height = Math.round(place.height * scale);
  const whole = heatCanvas(await toBitmap(map.image), map.region, width, height);
  const k = $("heat").width / page.picture.width, own = $("heat").getContext("2d");
  own.clearRect(0, 0, $("heat").width, $("heat").height);
  own.drawImage(whole, place.x * k, place.y * k, place.width * k, place.height * k);
});

const NAMES = { overall: "Overall", visualQuality: "Visual quality", promptAlignment: "Prompt alignment", naturalness: "Naturalness", harmony: "Harmony", preservation: "Preservation" };

function reasons(one) {
  const seen = one.critique || one.promised;
  $("reasons").hidden = !seen;
  if (!seen) return;
  $("reasons-title").textContent = `Why ${one.id} ${one.critique ? "" : "(a preview) "}is judged so`;
  $("explanation").textContent = one.reason || seen.explanation || "";
  $("scores").replaceChildren(...Object.entries(NAMES).map(([name, title]) => scoreRow(title, seen.scores?.[name])));
  $("defects").replaceChildren(...(seen.defects || []).map((defect) => Object.assign(document.createElement("li"), { textContent: defect.explanation || defect.kind })));
}

function scoreRow(title, score) {
  const row = document.createElement("tr"), head = Object.assign(document.createElement("th"), { scope: "row", textContent: title }), cell = document.createElement("td");
  const isScored = score?.status === "SCORE_STATUS_SCORED", value = score?.value || 0;
  cell.textContent = isScored ? `${value.toFixed(0)} ± ${(score.stddev || 0).toFixed(0)}` : "not scored";
  cell.className = isScored ? colourOf(value) : "soft";
  if (!isScored && score?.abstentionDetail) cell.title = score.abstentionDetail;
  row.append(head, cell);
  return row;
}

async function verdict(one, kind, { others = [], run = page.run } = {}) {
  const critique = one.critique ? { ...one.critique, heatMaps: [] } : undefined;
  try {
    await call("CriticService/RecordVerdict", { verdictId: store.uuid(), editId: run.editId, candidateId: one.id, kind, critique, otherCandidateIds: others });
  } catch (error) {
    // What the person decided holds, whether or not the server keeps it.
    if (!(error instanceof ApiError)) throw error;
    say(`Done; the server did not keep the verdict: ${error.message}`);
  }
}

async function accept(id) {
  const one = candidate(id);
  const bitmap = await toBitmap(one.image);
  const before = page.picture.paste(bitmap, page.job.place);
  page.picture.edits.push(editRecord({ run: page.run, candidate: one, prompt: page.job.prompt, place: page.job.place, scale: page.job.scale }));
  page.picture.undone = [{ before, place: page.job.place, one, run: page.run }, ...page.picture.undone].slice(0, 8);
  page.picture.clearMask();
  say(`${id} is in the picture. Paint the next place, or download it.`);
  leave();
  await Promise.all([keep(), verdict(one, "VERDICT_KIND_ACCEPTED", { others: [...page.run.candidates.keys()].filter((name) => name !== id) })]);
}

async function undoAccept() {
  const [last, ...rest] = page.picture.undone;
  if (!last) { complain(new Error("There is nothing left to undo: only what this page accepted can be taken back.")); return; }
  page.picture.paste(last.before, last.place);
  page.picture.edits.pop();
  page.picture.undone = rest;
  leave();
  say("Taken back.");
  await Promise.all([keep(), verdict(last.one, "VERDICT_KIND_REVERTED", { run: last.run })]);
}

async function reject(id) {
  const one = candidate(id);
  one.isRejected = !one.isRejected;
  cards.update(page.run);
  if (one.isRejected) await verdict(one, "VERDICT_KIND_REJECTED");
}

// The candidate becomes the picture for the moment, so that a part of it can be painted over and done again.
async function redo(id) {
  const one = candidate(id), { place } = page.job;
  const before = page.picture.paste(await toBitmap(one.image), place);
  page.picture.edits.push(editRecord({ run: page.run, candidate: one, prompt: page.job.prompt, place, scale: page.job.scale }));
  page.picture.undone = [{ before, place, one, run: page.run }, ...page.picture.undone].slice(0, 8);
  page.picture.clearMask();
  leave();
  await keep();
  say(`Paint over the part of ${id} that should be done again, then press Edit.`);
  $("mask").focus();
}

// --- Handing out ---

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const stem = () => page.picture.name.replace(/\.[^.]*$/, "");

async function withRecord() {
  return withText(await page.picture.blob(), "editcritic", JSON.stringify({ version: page.version, edits: page.picture.edits }));
}

async function download() { save(await withRecord(), `${stem()}-edited.png`); }

async function downloadRecord() {
  save(await sidecar(`${stem()}-edited.png`, page.picture.edits, await withRecord(), page.version), `${stem()}-edited.json`);
}

// --- History ---

async function openHistory() {
  const { edits = [] } = await call("RefineService/ListEdits", { pageSize: 50 });
  $("edits").replaceChildren(...(edits.length ? edits.map(editLine) : [Object.assign(document.createElement("li"), { textContent: "No edit yet." })]));
  $("history").showModal();
}

function editLine(edit) {
  const line = document.createElement("li"), button = Object.assign(document.createElement("button"), { type: "button" });
  const when = new Date(Number(edit.startedUnixMs)).toLocaleString(), score = edit.overall === undefined ? "–" : Math.round(edit.overall);
  const told = [edit.prompt || "(removal)", `${when}, ${edit.candidateCount || 0} candidates, ${score}`];
  button.append(...told.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
  button.addEventListener("click", guarded(async () => { $("history").close(); await revisit(edit.editId); }));
  line.append(button);
  return line;
}

// An edit of the journal, on the picture that it was of.
async function revisit(editId) {
  const { edit, events = [] } = await call("RefineService/GetEdit", { editId });
  const source = await toBitmap(edit.source);
  if (page.job?.editId !== editId) await load(await (await asBlob(source)), `edit-${editId.slice(0, 8)}.png`);
  await replay(editId, edit, events);
}

const asBlob = async (bitmap) => {
  const picture = new Picture(bitmap, "");
  return picture.blob();
};

async function replay(editId, edit, events) {
  const source = await toBitmap(edit.source), mask = await toBitmap(edit.denoiseMask);
  page.job ??= { place: { x: 0, y: 0, width: source.width, height: source.height }, scale: 1, prompt: edit.prompt || "" };
  page.job.editId = editId;
  $("prompt").value = edit.prompt || "";
  page.run = Object.assign(newRun(), { editId });
  openStrip({ source, box: page.job.box || boxOf(mask) });
  for (const event of events) took(event);
  say(page.run.result ? summary() : "This edit is not finished; “Go on” takes it up again.");
  refresh();
}

function boxOf(mask) {
  const picture = new Picture(mask, "");
  const own = picture.mask.getContext("2d");
  own.drawImage(mask, 0, 0, picture.mask.width, picture.mask.height);
  const pixels = own.getImageData(0, 0, picture.mask.width, picture.mask.height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i];
  own.putImageData(pixels, 0, 0);
  return picture.maskBox() || { x: 0, y: 0, width: mask.width, height: mask.height };
}

// --- Beginning ---

async function restore() {
  const found = await store.kept(), job = store.recall("job");
  // The person may have been faster.
  if (!found || page.picture) return;
  await load(found.blob, found.name);
  page.picture.edits = found.edits || [];
  refresh();
  if (!job) return;
  page.job = job;
  store.remember("job", job);
  const { edit, events = [] } = await call("RefineService/GetEdit", { editId: job.editId });
  await replay(job.editId, edit, events);
  if (!page.run.result) await goOn();
}

async function choices() {
  const [{ critics = [] }, engines, config] = await Promise.all([
    call("CriticService/ListCritics"), call("RefineService/ListEngines"), fetch("config.json").then((answer) => answer.json())]);
  page.version = config.version;
  fill($("critic"), critics.map((critic) => critic.identity.name));
  fill($("engine"), (engines.engines || []).map((engine) => engine.name));
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
}

async function example() {
  const config = await (await fetch("config.json")).json();
  await load(await (await fetch("example.png")).blob(), "example.png");
  const { x, y, radius } = config.example;
  page.picture.paint({ points: [[x, y]], radius, isErasing: false });
  $("prompt").value = config.example.prompt;
  painter.draw();
  refresh();
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").setAttribute("aria-pressed", String(name === "dark"));
}

function press(id, handler) { $(id).addEventListener("click", guarded(handler)); }

function tool(isErasing) {
  painter.isErasing = isErasing;
  $("brush").setAttribute("aria-pressed", String(!isErasing));
  $("erase").setAttribute("aria-pressed", String(isErasing));
}

function size(value) {
  $("size").value = value;
  painter.size = Number($("size").value);
  painter.draw();
}

function undoStroke() {
  if (!page.picture?.strokes.length) return;
  page.picture.undoStroke();
  painter.draw();
  refresh();
}

function keys(event) {
  const isTyping = event.target.matches("textarea, input:not([type=range], [type=checkbox]), select");
  if (event.key === "Enter" && event.ctrlKey && !$("run").disabled) $("ask").requestSubmit();
  else if (event.key === "Escape" && !document.querySelector("dialog[open]")) { if (page.stopper) page.stopper.abort(); else leave(); }
  else if (isTyping || !page.picture) return;
  else if (event.key === "z" && event.ctrlKey) { event.preventDefault(); undoStroke(); }
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (event.key === "e") tool(!painter.isErasing);
  else if (event.key === "[") size(painter.size - 5);
  else if (event.key === "]") size(painter.size + 5);
  else if (event.key === "h" && page.shown) { $("show-heat").checked = !$("show-heat").checked; heat(); }
}

function wire() {
  theme(localStorage.getItem("theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  press("theme", () => { theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); localStorage.setItem("theme", document.documentElement.dataset.theme); });
  press("open-help", () => $("help").showModal());
  press("open-history", openHistory);
  press("example", example);
  press("brush", () => tool(false));
  press("erase", () => tool(true));
  press("undo", undoStroke);
  press("clear", () => { page.picture.clearMask(); painter.draw(); refresh(); });
  press("stop", () => page.stopper?.abort());
  press("go-on", goOn);
  press("leave", leave);
  press("undo-accept", undoAccept);
  press("download", download);
  press("sidecar", downloadRecord);
  $("size").addEventListener("input", () => size($("size").value));
  $("split").addEventListener("input", split);
  $("show-heat").addEventListener("change", heat);
  $("ask").addEventListener("submit", guarded(begin));
  for (const id of ["file", "other"]) $(id).addEventListener("change", guarded(async (event) => { const [file] = event.target.files; event.target.value = ""; if (file) await load(file, file.name); }));
  for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, guarded(dropped));
  document.addEventListener("keydown", keys);
  painter.size = Number($("size").value);
}

async function dropped(event) {
  event.preventDefault();
  $("drop").classList.toggle("over-drop", event.type === "dragover");
  const [file] = event.type === "drop" ? event.dataTransfer.files : [];
  if (file) await load(file, file.name);
}

wire();
guarded(restore)();
guarded(choices)();
