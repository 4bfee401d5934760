// Painting a mask with pointer, touch or keys. Coordinates are the picture's own pixels.

const STEP = 0.02;

export class Painter {
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.picture = null;
    this.isErasing = false;
    this.size = 24;
    this.isOn = true;
    this.cursor = null;
    this.stroke = null;
    this.isPenDown = false;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.#end());
    canvas.addEventListener("pointerleave", () => { if (!this.stroke) { this.cursor = null; this.draw(); } });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", (event) => { if (event.key === " ") { this.isPenDown = false; this.#end(); } });
    canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) this.#home(); });
    canvas.addEventListener("blur", () => { this.isPenDown = false; this.#end(); this.cursor = null; this.draw(); });
  }

  show(picture) {
    this.picture = picture;
    this.draw();
  }

  // Brush radius in the picture's pixels: the slider is per cent of a quarter of the shorter side.
  get radius() {
    return Math.max(1, (this.size / 100) * 0.25 * Math.min(this.picture.width, this.picture.height));
  }

  draw() {
    const own = this.canvas.getContext("2d"), { width, height } = this.canvas;
    own.clearRect(0, 0, width, height);
    if (!this.picture || !this.isOn) return;
    own.globalAlpha = 0.5;
    own.drawImage(this.picture.mask, 0, 0, width, height);
    own.globalCompositeOperation = "source-in";
    own.globalAlpha = 0.55;
    own.fillStyle = "#e0218a";
    own.fillRect(0, 0, width, height);
    own.globalCompositeOperation = "source-over";
    own.globalAlpha = 1;
    if (this.cursor) this.#ring(own, width / this.picture.width);
  }

  #ring(own, scale) {
    for (const [colour, line] of [["#000", 3], ["#fff", 1.5]]) {
      own.strokeStyle = colour;
      own.lineWidth = line;
      own.beginPath();
      own.arc(this.cursor[0] * scale, this.cursor[1] * scale, Math.max(2, this.radius * scale), 0, 7);
      own.stroke();
    }
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.picture.width, ((event.clientY - box.top) / box.height) * this.picture.height];
  }

  #begin(event) {
    if (!this.picture || !this.isOn || event.button > 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#open(this.#at(event));
  }

  #open(point) {
    this.stroke = { points: [point], radius: this.radius, isErasing: this.isErasing };
    this.cursor = point;
    this.picture.paint(this.stroke);
    this.draw();
  }

  #move(event) {
    if (!this.picture || !this.isOn) return;
    this.cursor = this.#at(event);
    if (this.stroke) this.picture.extend(this.stroke, this.cursor);
    this.draw();
  }

  #end() {
    if (!this.stroke) return;
    this.stroke = null;
    this.onChange();
  }

  #home() {
    if (!this.picture) return;
    this.cursor ??= [this.picture.width / 2, this.picture.height / 2];
    this.draw();
  }

  #key(event) {
    if (!this.picture || !this.isOn || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEP * (event.shiftKey ? 4 : 1) * Math.min(this.picture.width, this.picture.height);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === " ") {
      event.preventDefault();
      this.#home();
      if (!this.isPenDown) this.#open(this.cursor);
      this.isPenDown = true;
    } else if (moves[event.key]) {
      event.preventDefault();
      this.#home();
      const [dx, dy] = moves[event.key];
      this.cursor = [clamp(this.cursor[0] + dx, this.picture.width), clamp(this.cursor[1] + dy, this.picture.height)];
      if (this.stroke) this.picture.extend(this.stroke, this.cursor);
      this.draw();
    }
  }
}

const clamp = (value, limit) => Math.min(limit, Math.max(0, value));
