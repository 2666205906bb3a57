// The shop's data in the browser: in its storage or, if that is full, blocked or missing, only in
// this page. Nothing here throws.

/** @typedef {'localStorage' | 'sessionStorage'} Kind */

/** @type {Map<string, string>} */
const here = new Map();

/** @param {Kind} kind @param {string} key @returns {string | null} */
export function read(kind, key) {
  try {
    return here.get(kind + key) ?? globalThis[kind].getItem(key);
  } catch {
    return null;
  }
}

/** Stores a value. Returns whether it outlives this page. @param {Kind} kind @param {string} key @param {string} value */
export function write(kind, key, value) {
  try {
    globalThis[kind].setItem(key, value);
    here.delete(kind + key);
    return true;
  } catch {
    here.set(kind + key, value);
    return false;
  }
}

/** @param {Kind} kind @param {string} key */
export function remove(kind, key) {
  here.delete(kind + key);
  try {
    globalThis[kind].removeItem(key);
  } catch {
    // Without a storage, there is nothing to remove.
  }
}

/** A unique name (RFC 9562, version 4). `randomUUID` works on secure pages only. */
export function uniqueName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
