// The photograph at full size, its mask, and the crop that goes to the server.

const MASK_SIDE = 2048;
const LEAST_CROP = 320;
const CROP_PIXELS = 3e6;
const WORK_PIXELS = 4e6;
const CONTEXTS = [4, 3, 2, 1.5];

export function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

const context = (canvas) => canvas.getContext("2d", { willReadFrequently: false });

export class Picture {
  constructor(bitmap, name) {
    this.name = name;
    this.width = bitmap.width;
    this.height = bitmap.height;
    this.canvas = canvasOf(bitmap.width, bitmap.height);
    context(this.canvas).drawImage(bitmap, 0, 0);
    // A mask does not need the photograph's own resolution, and phones have no memory for it.
    this.maskScale = Math.min(1, MASK_SIDE / Math.max(bitmap.width, bitmap.height));
    this.mask = canvasOf(Math.max(1, Math.round(bitmap.width * this.maskScale)), Math.max(1, Math.round(bitmap.height * this.maskScale)));
    this.strokes = [];
    this.edits = [];
    this.undone = [];
  }

  // A stroke: points [x, y] and a radius in the picture's pixels.
  paint(stroke) {
    this.strokes.push(stroke);
    drawStroke(this.mask, stroke, this.maskScale);
  }

  extend(stroke, point) {
    const last = stroke.points.at(-1);
    stroke.points.push(point);
    drawStroke(this.mask, { ...stroke, points: [last, point] }, this.maskScale);
  }

  undoStroke() {
    this.strokes.pop();
    context(this.mask).clearRect(0, 0, this.mask.width, this.mask.height);
    for (const stroke of this.strokes) drawStroke(this.mask, stroke, this.maskScale);
  }

  clearMask() {
    this.strokes = [];
    context(this.mask).clearRect(0, 0, this.mask.width, this.mask.height);
  }

  // Where the mask is, in the picture's pixels; null when nothing is painted.
  maskBox() {
    const { width, height } = this.mask, alpha = context(this.mask).getImageData(0, 0, width, height).data;
    let left = width, top = height, right = -1, bottom = -1;
    for (let y = 0, i = 3; y < height; y++) {
      for (let x = 0; x < width; x++, i += 4) {
        if (alpha[i] < 128) continue;
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        bottom = y;
      }
    }
    if (right < 0) return null;
    const scale = 1 / this.maskScale;
    const x = Math.floor(left * scale), y = Math.floor(top * scale);
    return { x, y, width: Math.min(this.width, Math.ceil((right + 1) * scale)) - x, height: Math.min(this.height, Math.ceil((bottom + 1) * scale)) - y };
  }

  // What goes to the server: the picture and the mask around the mask's box, at `scale` of their size.
  crop() {
    const box = this.maskBox();
    if (!box) return null;
    const place = around(box, this.width, this.height);
    const scale = Math.min(1, Math.sqrt(WORK_PIXELS / (place.width * place.height)));
    const width = Math.round(place.width * scale), height = Math.round(place.height * scale);
    const source = canvasOf(width, height), mask = canvasOf(width, height);
    context(source).drawImage(this.canvas, place.x, place.y, place.width, place.height, 0, 0, width, height);
    const own = context(mask), k = this.maskScale;
    own.fillStyle = "#000";
    own.fillRect(0, 0, width, height);
    own.drawImage(this.mask, place.x * k, place.y * k, place.width * k, place.height * k, 0, 0, width, height);
    return { place, scale, source, mask, box };
  }

  // Puts an edited crop in its place; returns what was there.
  paste(bitmap, place) {
    const before = canvasOf(place.width, place.height), own = context(this.canvas);
    context(before).drawImage(this.canvas, place.x, place.y, place.width, place.height, 0, 0, place.width, place.height);
    own.drawImage(bitmap, place.x, place.y, place.width, place.height);
    return before;
  }

  blob() {
    return new Promise((resolve, reject) => this.canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large for this browser"))), "image/png"));
  }
}

function drawStroke(canvas, { points, radius, isErasing }, scale) {
  const own = context(canvas);
  own.globalCompositeOperation = isErasing ? "destination-out" : "source-over";
  own.strokeStyle = own.fillStyle = "#fff";
  own.lineWidth = Math.max(1, 2 * radius * scale);
  own.lineCap = own.lineJoin = "round";
  own.beginPath();
  // A line of no length is not drawn, so every stroke begins with a dot.
  own.arc(points[0][0] * scale, points[0][1] * scale, own.lineWidth / 2, 0, 2 * Math.PI);
  own.fill();
  own.beginPath();
  own.moveTo(points[0][0] * scale, points[0][1] * scale);
  for (const [x, y] of points) own.lineTo(x * scale, y * scale);
  own.stroke();
  own.globalCompositeOperation = "source-over";
}

// The largest surroundings of a box that are worth sending.
export function around(box, width, height) {
  for (const factor of CONTEXTS) {
    const side = Math.max(LEAST_CROP, factor * Math.max(box.width, box.height));
    const place = centred(box, Math.max(side, box.width), Math.max(side, box.height), width, height);
    if (place.width * place.height <= CROP_PIXELS || factor === CONTEXTS.at(-1)) return place;
  }
}

function centred(box, wide, high, width, height) {
  const w = Math.min(width, Math.round(wide)), h = Math.min(height, Math.round(high));
  const x = Math.round(Math.min(Math.max(0, box.x + box.width / 2 - w / 2), width - w));
  const y = Math.round(Math.min(Math.max(0, box.y + box.height / 2 - h / 2), height - h));
  return { x, y, width: w, height: h };
}

export function toPng(canvas) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

// Severities (grey) as colours from clear over yellow to red, at the crop's size.
export function heatCanvas(bitmap, region, width, height) {
  const small = canvasOf(bitmap.width, bitmap.height), own = context(small);
  own.drawImage(bitmap, 0, 0);
  const pixels = own.getImageData(0, 0, small.width, small.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const severity = pixels.data[i] / 255;
    pixels.data[i] = 255 - 65 * severity;
    pixels.data[i + 1] = 230 - 220 * severity;
    pixels.data[i + 2] = 60 - 20 * severity;
    pixels.data[i + 3] = severity < 0.02 ? 0 : Math.min(1, 0.25 + severity) * 255;
  }
  own.putImageData(pixels, 0, 0);
  const whole = canvasOf(width, height);
  context(whole).drawImage(small, region?.x || 0, region?.y || 0, region?.width || width, region?.height || height);
  return whole;
}
