// The cart, kept in localStorage and shared by all tabs of the shop.

/**
 * @typedef {object} Line units of a product, or of one of its variants
 * @property {string} productId
 * @property {string | null} variantId
 * @property {number} quantity
 * @property {string} name of the product when it was added, shown until the current name is known
 * @property {number | null} [max] units of the product that one order may have
 */

import * as storage from './storage.js';

const KEY = 'shop-cart';
const CHECKOUT = 'shop-checkout';
/** Limits of an order without a token: lines, units of a line, units in all. */
const { maxLines, maxUnits, maxCartUnits } = document.documentElement.dataset;
const LIMITS = {
  lines: Number(maxLines) || 100,
  units: Number(maxUnits) || 1000,
  cartUnits: Number(maxCartUnits) || 2000,
};

const changes = new EventTarget();

addEventListener('storage', ({ key }) => {
  if (key === KEY || key === null) changes.dispatchEvent(new Event('change'));
});

/** @param {any} line @returns {line is Line} */
const isLine = (line) =>
  typeof line?.productId === 'string' &&
  (line.variantId === null || typeof line.variantId === 'string') &&
  Number.isSafeInteger(line.quantity) &&
  line.quantity > 0 &&
  typeof line.name === 'string';

/** The lines of the cart, without entries that other scripts may have left in the storage. @returns {Line[]} */
export function lines() {
  try {
    const kept = JSON.parse(storage.read('localStorage', KEY) ?? '[]');
    return Array.isArray(kept) ? kept.filter(isLine) : [];
  } catch {
    return [];
  }
}

/** Stores the cart. Returns whether the next page will have it, too. @param {Line[]} next */
function keep(next) {
  const isKept = storage.write('localStorage', KEY, JSON.stringify(next));
  changes.dispatchEvent(new Event('change'));
  return isKept;
}

/** Calls the listener whenever the cart has changed, here or in another tab. */
export function watch(/** @type {() => void} */ listener) {
  changes.addEventListener('change', listener);
}

/** @param {Pick<Line, 'productId' | 'variantId'>} one */
const same = (one) => (/** @type {Line} */ other) =>
  one.productId === other.productId && one.variantId === other.variantId;

/** The maximum quantity of a line beside the other lines, and the reason. @param {Line} line @param {Line[]} all
 * @returns {[number, string]} */
function limitOf(line, all) {
  const count = (/** @type {Line[]} */ some) => some.reduce((sum, { quantity }) => sum + quantity, 0);
  const others = all.filter((each) => !same(line)(each));
  const ofProduct = count(others.filter(({ productId }) => productId === line.productId));
  const ofLine = Math.min(LIMITS.units, (line.max ?? Infinity) - ofProduct);
  const ofCart = LIMITS.cartUnits - count(others);
  return ofCart < ofLine
    ? [ofCart, `One order may have at most ${LIMITS.cartUnits} units in all`]
    : [ofLine, `One order may have at most ${Math.min(line.max ?? LIMITS.units, LIMITS.units)} of this`];
}

/** The maximum quantity of a line of the cart. @param {Line} line */
export const maxOf = (line) => Math.max(1, limitOf(line, lines())[0]);

/** Adds units to the cart. Throws a RangeError, with a message for the shopper, if one order may not
 * have so many, and an Error if the browser cannot store the cart. @param {Line} line */
export function add(line) {
  const all = lines();
  const there = all.find(same(line));
  if (!isLine(line)) throw new TypeError('This is not a line of a cart');
  const [max, why] = limitOf(line, all);
  if ((there?.quantity ?? 0) + line.quantity > max) throw new RangeError(why);
  if (!there && all.length >= LIMITS.lines) {
    throw new RangeError(`One order may have at most ${LIMITS.lines} different products`);
  }
  const before = lines();
  if (there) there.quantity += line.quantity;
  if (keep(there ? all : [...all, line])) return;
  keep(before);
  throw new Error('This browser cannot store a cart');
}

/** Sets the quantity of a line; 0 removes the line. A larger quantity than allowed becomes the maximum;
 * then this returns the reason.
 * @param {Pick<Line, 'productId' | 'variantId'>} line @param {number} quantity */
export function setQuantity(line, quantity) {
  const all = lines();
  const there = all.find(same(line));
  let why = '';
  if (there) {
    const [max, reason] = limitOf(there, all);
    if (quantity > max) why = reason;
    there.quantity = Math.min(quantity, Math.max(1, max));
  }
  keep(all.filter((each) => each.quantity > 0));
  return why;
}

/** Empties the cart. */
export function clear() {
  keep([]);
  storage.remove('localStorage', CHECKOUT);
}

/** The name of this browser's checkout: a new reservation replaces the one with the same name. */
export function checkoutToken() {
  const token = storage.read('localStorage', CHECKOUT) ?? storage.uniqueName();
  storage.write('localStorage', CHECKOUT, token);
  return token;
}
