// For every page of the shop: the count of the cart, adding to the cart, the picture of a variant.

import { stockStream } from '/client/stock-stream.js';
import * as cart from './cart.js';
import * as hold from './hold.js';

const count = /** @type {HTMLElement} */ (document.querySelector('[data-cart-count]'));
const words = /** @type {HTMLElement} */ (document.querySelector('[data-cart-words]'));

function show() {
  const units = cart.lines().reduce((total, { quantity }) => total + quantity, 0);
  count.textContent = units > 99 ? '99+' : String(units);
  count.toggleAttribute('data-some', units > 0);
  words.textContent = units === 1 ? '1 item' : `${units} items`;
}

const toHold = /** @type {HTMLElement} */ (document.querySelector('[data-hold]'));
const left = /** @type {HTMLElement} */ (document.querySelector('[data-hold-left]'));
const ownHold = /** @type {HTMLElement | null} */ (document.querySelector('[data-own-hold]'));

/** Shows the shopper's own hold on every page: in the header, and beside a product. */
function showHold() {
  const active = hold.active();
  toHold.hidden = !active;
  if (active) left.textContent = hold.timeLeft(active);
  if (!ownHold) return;
  const units = hold.unitsOf({ productId: ownHold.dataset.ownHold ?? '' });
  ownHold.hidden = !units;
  const text = `${units} ${units === 1 ? 'is' : 'are'} held for you in your checkout. `;
  const words = ownHold.querySelector('span');
  if (words && words.textContent !== text) words.textContent = text;
}

hold.watch(showHold);
setInterval(showHold, 1_000);
addEventListener('pageshow', showHold);
showHold();
hold.verify().then((isPaid) => {
  if (isPaid) cart.clear();
  showHold();
});

cart.watch(show);
addEventListener('pageshow', show);
show();

document.addEventListener('add-to-cart', (event) => {
  const { detail, target } = /** @type {CustomEvent} */ (event);
  const { productId, variantId, quantity, name, waitUntil } = detail;
  const max = Number(/** @type {HTMLElement} */ (target).getAttribute('max-quantity')) || null;
  waitUntil(
    (async () => cart.add({ productId, variantId: variantId ?? null, quantity, name, max }))(),
  );
});

// Until a page was live, its status is hidden: see shop.css.
stockStream().addEventListener('statechange', () => {
  if (stockStream().state === 'live') document.documentElement.dataset.wasLive = '';
});

const picture = /** @type {HTMLImageElement | null} */ (
  document.querySelector('[data-product-picture]')
);

document.addEventListener('variant-change', (event) => {
  const { variantId } = /** @type {CustomEvent} */ (event).detail;
  const option = [...document.querySelectorAll('option')].find(({ value }) => value === variantId);
  if (picture && option?.dataset.picture) picture.src = option.dataset.picture;
});
