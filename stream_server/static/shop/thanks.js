// After payment: waits until the shop has the payment, then empties the cart.

import * as cart from './cart.js';
import { link } from './links.js';
import * as storage from './storage.js';

const WAIT = 2_000; // ms between two requests
const section = /** @type {HTMLElement} */ (document.querySelector('[data-reservation]'));

async function ask() {
  const token = encodeURIComponent(section.dataset.reservation ?? '');
  try {
    const answer = await fetch(link(`/api/reservations/${token}`));
    const { data } = await answer.json();
    if (data?.status === 'converted') return location.reload();
  } catch {
    // the next request follows below
  }
  setTimeout(ask, WAIT);
}

if (section.hasAttribute('data-paid')) {
  const kept = storage.read('sessionStorage', 'shop-hold') ?? '';
  if (kept.includes(JSON.stringify(section.dataset.reservation ?? ''))) {
    storage.remove('sessionStorage', 'shop-hold');
    cart.clear();
  }
} else {
  setTimeout(ask, WAIT);
}
