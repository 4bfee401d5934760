// What a reload must not lose: this tab's photograph in IndexedDB, the rest in sessionStorage.

const NAME = "editcritic-studio", TABLE = "tabs", KEEP_MS = 7 * 24 * 3600 * 1000;

export const uuid = () => (crypto.randomUUID ? crypto.randomUUID() : [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join(""));

function tab() {
  if (!sessionStorage.getItem("tab")) sessionStorage.setItem("tab", uuid());
  return sessionStorage.getItem("tab");
}

const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function table(mode) {
  const opening = indexedDB.open(NAME, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE);
  return (await done(opening)).transaction(TABLE, mode).objectStore(TABLE);
}

export async function keep(picture) {
  await done((await table("readwrite")).put({ ...picture, at: Date.now() }, tab()));
}

export async function kept() {
  const found = await done((await table("readonly")).get(tab()));
  forgetOld().catch(() => {});
  return found || null;
}

async function forgetOld() {
  const own = await table("readwrite");
  const walk = own.openCursor();
  walk.onsuccess = () => {
    const cursor = walk.result;
    if (!cursor) return;
    if (Date.now() - cursor.value.at > KEEP_MS) cursor.delete();
    cursor.continue();
  };
}

export const remember = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));
export const recall = (name) => JSON.parse(sessionStorage.getItem(name) || "null");
export const forget = (name) => sessionStorage.removeItem(name);
