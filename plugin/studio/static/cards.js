// The candidates: a card for each, in order, updated in place.

import { toBitmap } from "./api.js";
import { canvasOf, heatCanvas } from "./picture.js";
import { ranked, scoreOf, stateText, why } from "./run.js";

const SIDE = 220;

export function colourOf(value) {
  return value >= 70 ? "good" : value >= 45 ? "fair" : "bad";
}

export class Cards {
  constructor(list, on) {
    this.list = list;
    this.on = on;
    this.cards = new Map();
    this.scene = null;
    this.current = "";
  }

  // scene: {source: canvas of the crop, box: of the mask within the crop}
  reset(scene) {
    this.scene = scene;
    this.cards.clear();
    this.current = "";
    this.list.replaceChildren();
  }

  select(id) {
    this.current = id;
    for (const [name, card] of this.cards) card.item.setAttribute("aria-current", String(name === id));
  }

  update(run) {
    const order = ranked(run);
    for (const one of order) {
      const card = this.cards.get(one.id) || this.#made(one);
      this.#text(card, one);
      this.#picture(card, one);
    }
    const items = order.map((one) => this.cards.get(one.id).item);
    // Moving an element that has the focus would lose it, so order changes only where it is wrong.
    items.forEach((item, place) => { if (this.list.children[place] !== item) this.list.insertBefore(item, this.list.children[place] || null); });
  }

  #made(one) {
    const item = document.createElement("li");
    item.innerHTML = `<button type="button" class="thumb"><canvas width="${SIDE}" height="${SIDE}"></canvas><canvas class="heat" width="${SIDE}" height="${SIDE}"></canvas></button>
      <div class="line"><span class="badge"></span><span class="soft small state"></span></div><p class="why"></p>
      <div class="row"><button type="button" class="accept">Accept</button><button type="button" class="reject">Reject</button><button type="button" class="redo">Redo here</button></div>`;
    const part = (name) => item.querySelector(name);
    const card = { item, thumb: part(".thumb"), canvas: part("canvas"), heat: part(".heat"), badge: part(".badge"), state: part(".state"), why: part(".why"), buttons: part(".row"), reject: part(".reject"), shown: "" };
    card.thumb.addEventListener("click", () => this.on.view(one.id));
    for (const name of ["accept", "reject", "redo"]) part(`.${name}`).addEventListener("click", () => this.on[name](one.id));
    this.cards.set(one.id, card);
    this.#draw(card.canvas, this.scene.source);
    return card;
  }

  #text(card, one) {
    const score = scoreOf(one.critique), promised = scoreOf(one.promised), state = stateText(one);
    card.item.className = `candidate ${one.state}${one.isRejected ? " rejected" : ""}`;
    card.item.dataset.id = one.id;
    card.item.dataset.state = one.state;
    card.badge.textContent = score ? Math.round(score.value) : promised ? `~${Math.round(promised.value)}` : "–";
    card.badge.className = `badge ${score ? colourOf(score.value) : "soft"}`;
    card.badge.title = score ? `${score.value.toFixed(1)} ± ${score.stddev.toFixed(1)}` : promised ? "by its preview" : "no score yet";
    card.state.textContent = state;
    card.why.textContent = card.why.title = why(one);
    const what = one.action ? `Repaired candidate ${one.id}` : `Candidate ${one.id}`;
    card.thumb.setAttribute("aria-label", `${what}: ${state}${score ? `, score ${Math.round(score.value)}` : ""}. Show it.`);
    card.buttons.hidden = !one.image;
    card.reject.textContent = one.isRejected ? "Take back" : "Reject";
    for (const button of card.buttons.children) button.setAttribute("aria-label", `${button.textContent} ${what}`);
  }

  async #picture(card, one) {
    const seen = one.image ? "final" : one.preview ? `preview ${one.fraction}` : "";
    const critique = one.critique || one.promised;
    const map = critique?.heatMaps?.[0], key = `${seen} ${map ? critique.explanation : ""}`;
    if (!seen || card.shown === key) return;
    card.shown = key;
    const picture = one.image ? await toBitmap(one.image) : await this.#preview(one.preview);
    if (card.shown !== key) return;
    this.#draw(card.canvas, picture);
    if (!map) return;
    const heat = heatCanvas(await toBitmap(map.image), map.region, this.scene.source.width, this.scene.source.height);
    if (card.shown === key) this.#draw(card.heat, heat);
  }

  async #preview({ image, region }) {
    const { source } = this.scene, whole = canvasOf(source.width, source.height), own = whole.getContext("2d");
    own.drawImage(source, 0, 0);
    own.drawImage(await toBitmap(image), region?.x || 0, region?.y || 0, region?.width || source.width, region?.height || source.height);
    return whole;
  }

  // The part about the mask, square, so that what changed is large enough to be judged.
  #draw(canvas, picture) {
    const { box, source } = this.scene, own = canvas.getContext("2d");
    const side = Math.min(Math.max(box.width, box.height) * 1.6, Math.max(source.width, source.height));
    const within = (centre, length) => Math.max(Math.min(0, (length - side) / 2), Math.min(centre - side / 2, Math.max(length - side, (length - side) / 2)));
    const x = within(box.x + box.width / 2, source.width), y = within(box.y + box.height / 2, source.height);
    own.clearRect(0, 0, SIDE, SIDE);
    own.drawImage(picture, (-x * SIDE) / side, (-y * SIDE) / side, (source.width * SIDE) / side, (source.height * SIDE) / side);
  }
}
