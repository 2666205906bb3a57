// For every page of the shop: the count of the cart, adding to the cart, the picture of a variant.

import { stockStream } from '/client/stock-stream.js';
import * as cart from './cart.js';

const count = /** @type {HTMLElement} */ (document.querySelector('[data-cart-count]'));
const words = /** @type {HTMLElement} */ (document.querySelector('[data-cart-words]'));

function show() {
  const units = cart.lines().reduce((total, { quantity }) => total + quantity, 0);
  count.textContent = units > 99 ? '99+' : String(units);
  count.toggleAttribute('data-some', units > 0);
  words.textContent = units === 1 ? '1 item' : `${units} items`;
}

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
