// The cart's page: its lines, with current prices and stock.

import * as cart from './cart.js';
import * as hold from './hold.js';
import { follow, make, money, shown, stockOf, totalOf } from './lines.js';

/** @import {Line} from './cart.js' */

const list = /** @type {HTMLElement} */ (document.querySelector('ul.lines'));
const total = /** @type {HTMLElement} */ (document.querySelector('[data-total]'));
const problem = /** @type {HTMLElement} */ (document.querySelector('[data-problem]'));

/** Rows by product and variant. @type {Map<string, {item: HTMLElement, update: (line: Line) => void}>} */
const rows = new Map();

/** @param {Line} line */
const keyOf = ({ productId, variantId }) => JSON.stringify([productId, variantId]);

/** @param {Line} line */
function makeRow(line) {
  const { productId, variantId } = line;
  const { image, link, variant, refresh } = shown(line);
  const input = /** @type {HTMLInputElement} */ (
    make('input', { type: 'number', min: 1, inputmode: 'numeric', autocomplete: 'off' })
  );
  const remove = make('button', { class: 'link', type: 'button' }, 'Remove');
  const amount = make('strong', { class: 'amount' });
  const trouble = make('span', { class: 'trouble' });
  const indicator = make('stock-indicator', { 'variant-id': variantId });
  const note = make('span', { class: 'small', role: 'status' });
  const ours = make('span', { class: 'mark' });
  const item = make(
    'li',
    { class: 'line', 'product-id': productId },
    image,
    make(
      'div',
      { class: 'what' },
      make('strong', {}, link),
      ' ',
      variant,
      make(
        'p',
        { class: 'small' },
        make('live-price', { 'variant-id': variantId }),
        ' ',
        indicator,
        ' ',
        ours,
      ),
      trouble,
      note,
    ),
    make('div', { class: 'how-many' }, make('label', { class: 'field' }, make('span', { class: 'unseen' }, 'Quantity'), input), remove),
    amount,
  );
  input.addEventListener('change', () => {
    const quantity = Math.round(Number(input.value));
    note.textContent = cart.setQuantity(line, quantity >= 1 ? quantity : 1);
    const { quantity: kept } = cart.lines().find((each) => keyOf(each) === keyOf(line)) ?? line;
    input.value = String(kept);
  });
  remove.addEventListener('click', () => {
    const after = item.nextElementSibling ?? item.previousElementSibling;
    const next = after?.querySelector('button') ?? document.querySelector('[data-panel=empty] a');
    cart.setQuantity(line, 0);
    /** @type {HTMLElement | null | undefined} */ (next)?.focus();
  });
  const update = (/** @type {Line} */ now) => {
    const { quantity, name } = now;
    refresh();
    const stock = stockOf(line);
    const max = cart.maxOf(now);
    input.max = String(Math.min(stock?.availableQuantity ?? max, max) || 1);
    input.setAttribute('aria-label', `Quantity of ${link.textContent} ${variant.textContent}`.trim());
    remove.setAttribute('aria-label', `Remove ${link.textContent ?? name}`);
    if (document.activeElement !== input) input.value = String(quantity); // not while it is typed
    amount.textContent = stock ? money(stock.price * quantity) : '';
    // Units that this browser holds are in no number of the shop's, but they are the shopper's own.
    const own = hold.unitsOf(line);
    const left = stock?.isAvailable ? (stock.availableQuantity ?? Infinity) : 0;
    indicator.hidden = own >= quantity;
    ours.textContent = own ? `${own} held for you` : '';
    trouble.textContent =
      stock === undefined || left + own >= quantity
        ? ''
        : left + own
          ? `Only ${left + own} left`
          : 'Sold out in the meantime';
  };
  return { item, update };
}

function show() {
  const lines = cart.lines();
  for (const panel of /** @type {NodeListOf<HTMLElement>} */ (
    document.querySelectorAll('[data-panel]')
  )) {
    panel.hidden = (panel.dataset.panel === 'empty') !== !lines.length;
  }
  const keys = new Set(lines.map(keyOf));
  for (const [key, { item }] of rows) {
    if (keys.has(key)) continue;
    item.remove();
    rows.delete(key);
  }
  for (const line of lines) {
    const row = rows.get(keyOf(line)) ?? makeRow(line);
    if (!row.item.isConnected) list.append(row.item);
    rows.set(keyOf(line), row);
    row.update(line);
  }
  const sum = totalOf(lines);
  total.textContent = sum === undefined ? '…' : money(sum);
  const troubles = [...list.querySelectorAll('.trouble')].some(({ textContent }) => textContent);
  const text = troubles ? 'Some items are not available. The checkout offers what is in stock.' : '';
  if (problem.textContent !== text) problem.textContent = text;
}

const heldNow = /** @type {HTMLElement} */ (document.querySelector('[data-held-now]'));
const notHeld = /** @type {HTMLElement} */ (document.querySelector('[data-not-held]'));
let wasHeld = '';

/** Says until when items of the cart are held; updates the rows when a hold begins or ends. */
function showHeld() {
  const active = hold.active();
  heldNow.hidden = !active;
  notHeld.hidden = !!active;
  if (active) heldNow.textContent = `We hold items for you for another ${hold.timeLeft(active)}.`;
  if (wasHeld === (active?.token ?? '')) return;
  wasHeld = active?.token ?? '';
  show();
}

function start() {
  show();
  follow(cart.lines(), show);
}

cart.watch(start);
hold.watch(show);
setInterval(showHeld, 1_000);
start();
showHeld();
