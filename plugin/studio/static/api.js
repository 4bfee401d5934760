// The server's HTTP face (docs/http.md): JSON in, JSON or lines of JSON out.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.message || `the server answered ${status}`);
    this.status = status;
    this.code = body?.code || "";
  }
}

const token = () => sessionStorage.getItem("token") || "";

function request(method, message, signal) {
  const headers = { "Content-Type": "application/json" };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  return fetch(`/v1/${method}`, { method: "POST", headers, body: JSON.stringify(message), signal });
}

async function refused(response) {
  let body = null;
  try { body = await response.json(); } catch { /* an answer of something between us and the server */ }
  return new ApiError(response.status, body);
}

export async function call(method, message = {}, signal = undefined) {
  const response = await request(method, message, signal);
  if (!response.ok) throw await refused(response);
  return response.json();
}

// Every message of a server stream, as it comes. Leaving the loop, or the signal, closes the connection.
export async function* stream(method, message, signal) {
  const response = await request(method, message, signal);
  if (!response.ok) throw await refused(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  // Parts are joined once per line: a line with a picture comes in hundreds of them.
  let parts = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = value.split("\n");
      parts.push(lines[0]);
      for (const next of lines.slice(1)) {
        yield unwrapped(parts.join(""));
        parts = [next];
      }
    }
    if (parts.join("").trim()) yield unwrapped(parts.join(""));
  } finally {
    reader.cancel().catch(() => {});
  }
}

function unwrapped(line) {
  const message = JSON.parse(line);
  if (message.error) throw new ApiError(message.error.status, message.error);
  return message.result;
}

export async function toBase64(blob) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

// A picture of the contract as an ImageBitmap.
export async function toBitmap(image) {
  if (image.encoded) {
    const bytes = fromBase64(image.encoded.data);
    return createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  }
  const { width, height, data, pixelFormat } = image.raw;
  const bytes = fromBase64(data), channels = pixelFormat === "PIXEL_FORMAT_L8" ? 1 : 3;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = bytes[channels * i + (channels === 3 ? c : 0)];
    pixels.data[4 * i + 3] = 255;
  }
  return createImageBitmap(pixels);
}

function fromBase64(text) {
  const binary = atob(text), bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
