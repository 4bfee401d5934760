// What was edited and how it was judged, inside the PNG and beside it.

const TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

// One accepted edit, as it is told to others.
export function editRecord({ run, candidate, prompt, place, scale }) {
  const critique = candidate.critique || {}, scores = {};
  for (const [name, score] of Object.entries(critique.scores || {})) {
    scores[name] = score.status === "SCORE_STATUS_SCORED" ? { value: score.value || 0, stddev: score.stddev || 0 } : { abstained: score.abstentionDetail || "" };
  }
  return {
    editId: run.editId, when: new Date().toISOString(), prompt, region: place, workedAtScale: scale,
    engine: run.engine?.name || "", revision: run.engine?.revision || "", candidate: candidate.id, seed: candidate.seed, action: candidate.action || "",
    critic: { name: critique.critic?.name || "", version: critique.critic?.version || "", calibration: critique.critic?.calibration || "" },
    scores, explanation: critique.explanation || "", plainScore: run.result?.plainScore ?? null,
  };
}

// In the shape of C2PA's actions and hash assertions (C2PA 2.1), unsigned: it tells, it does not prove.
export async function sidecar(name, edits, png, version) {
  const claim = {
    claim_generator: `editcritic studio ${version}`, title: name, format: "image/png", signed: false,
    assertions: [
      { label: "c2pa.actions.v2", data: { actions: edits.map((edit) => ({ action: "c2pa.edited", when: edit.when, softwareAgent: { name: "editcritic", version }, digitalSourceType: TRAINED, changes: [edit.region], parameters: { prompt: edit.prompt, engine: edit.engine, seed: edit.seed } })) } },
      { label: "org.editcritic.critiques", data: { edits } },
    ],
  };
  const hash = await sha256(png);
  if (hash) claim.assertions.push({ label: "c2pa.hash.data", data: { alg: "sha256", hash } });
  return new Blob([JSON.stringify(claim, null, 2)], { type: "application/json" });
}

async function sha256(blob) {
  // Only on https and loopback; elsewhere browsers keep it back.
  if (!globalThis.crypto?.subtle) return "";
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The PNG with a text chunk (iTXt, PNG specification 11.3.3.4) before its end.
export async function withText(png, keyword, text) {
  const bytes = new Uint8Array(await png.arrayBuffer()), end = bytes.length - 12;
  const encoder = new TextEncoder();
  const data = new Uint8Array([...encoder.encode("iTXt"), ...encoder.encode(keyword), 0, 0, 0, 0, 0, ...encoder.encode(text)]);
  const chunk = new Uint8Array(data.length + 8), view = new DataView(chunk.buffer);
  view.setUint32(0, data.length - 4);
  chunk.set(data, 4);
  view.setUint32(data.length + 4, crc32(data));
  return new Blob([bytes.subarray(0, end), chunk, bytes.subarray(end)], { type: "image/png" });
}

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ -1) >>> 0;
}
