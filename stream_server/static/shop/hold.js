// The hold of this browser's checkout, shared by all tabs of the shop.

import * as storage from './storage.js';

/**
 * @typedef {object} Hold
 * @property {string} token of the reservation
 * @property {string} cart what was held: see `cartKey` of the checkout
 * @property {number} until ms since 1970, by this browser's clock
 * @property {{productId: string, variantId: string | null, quantity: number}[]} lines
 */

const KEY = 'shop-hold';

/** The hold that was stored last. It may have ended: only the server knows. @returns {Hold | undefined} */
export function read() {
  try {
    const hold = JSON.parse(storage.read('localStorage', KEY) ?? '');
    return typeof hold?.token === 'string' && Array.isArray(hold.lines) ? hold : undefined;
  } catch {
    return undefined;
  }
}

/** Stores the hold for all tabs. @param {Hold} hold */
export function keep(hold) {
  storage.write('localStorage', KEY, JSON.stringify(hold));
}

/** Forgets the hold in all tabs. */
export function forget() {
  storage.remove('localStorage', KEY);
}

/** Calls the listener when another tab has stored or forgotten a hold. @param {() => void} listener */
export function watch(listener) {
  addEventListener('storage', ({ key }) => {
    if (key === KEY || key === null) listener();
  });
}
