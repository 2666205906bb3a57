// The checkout: holds the cart's items on the server, counts down the time, and says clearly when
// the hold has ended.
//
// The server's clock decides: the page shows the server's end in the server's time, and at zero it
// asks the server before it says anything.

import * as cart from './cart.js';
import { follow, make, money, shown } from './lines.js';
import { link, pageOf, pictureOf } from './links.js';
import * as storage from './storage.js';

/** @import {Wanted} from './lines.js' */

/**
 * @typedef {Wanted & {requested?: number, unitPrice: number}} HeldLine
 *
 * @typedef {object} Reservation
 * @property {string} token
 * @property {string} status
 * @property {string} expiresAt
 * @property {boolean} isExtendable
 * @property {HeldLine[]} lines
 * @property {number} total
 *
 * @typedef {object} Answer
 * @property {boolean} ok
 * @property {number} status 0: the server did not answer
 * @property {any} data
 * @property {{code: string, message: string, details?: any}} error
 */

const HOLD = 'shop-hold';
const SPOKEN = [300, 120, 60, 30, 10]; // seconds left at which screen readers announce the time
const URGENT = 120; // seconds
const TIME_IS_UP = 'Your time is up';
const BACK_ON_THE_SHELF =
  'We held your items for you until now. They are back on the shelf, and still in your cart.';

/** @param {string} selector @returns {any} */
const find = (selector) => document.querySelector(selector);

const panels = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll('[data-panel]'));
const said = find('[data-said]');
const held = find('[data-panel=held]');

/** The server's time minus ours, in ms. */
let skew = 0;
/** @type {Reservation | undefined} */
let reservation;
/** @type {ReturnType<typeof setInterval> | undefined} */
let ticking;
let spoken = Infinity;

/** @param {string} path @param {string} [method] @param {unknown} [body] @returns {Promise<Answer>} */
async function ask(path, method = 'GET', body) {
  const headers = { 'Content-Type': 'application/json' };
  const sent = Date.now();
  try {
    const answer = await fetch(link(`/api/reservations${path}`), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store',
    });
    const date = Date.parse(answer.headers.get('Date') ?? '');
    // The header has whole seconds and is updated once a second. So the countdown may end a moment
    // too early, but not too late.
    if (!Number.isNaN(date)) skew = date + 2_000 - (sent + Date.now()) / 2;
    const { data, error } = await answer.json();
    return { ok: answer.ok, status: answer.status, data, error };
  } catch {
    const error = { code: 'unreachable', message: 'The shop does not answer. Are you online?' };
    return { ok: false, status: 0, data: undefined, error };
  }
}

/** @param {string} name */
function show(name) {
  if (name !== 'held') clearInterval(ticking);
  for (const panel of panels) {
    const isChosen = panel.dataset.panel === name;
    if (isChosen && panel.hidden) {
      panel.hidden = false;
      /** @type {HTMLElement | null} */ (panel.querySelector('[tabindex]'))?.focus();
    } else panel.hidden = !isChosen;
  }
}

const say = (/** @type {string} */ text) => (said.textContent = text);

/** The lines of the cart in the format of the API. */
const wanted = () =>
  cart.lines().map(({ productId, variantId, quantity }) => ({ productId, variantId, quantity }));

/** Equal for equal carts only. */
const cartKey = () => JSON.stringify(wanted());

/** The token of the reservation that this tab holds for the current cart. @returns {string | undefined} */
function kept() {
  try {
    const { token, cart } = JSON.parse(storage.read('sessionStorage', HOLD) ?? '{}');
    return cart === cartKey() ? token : undefined;
  } catch {
    return undefined;
  }
}

/** Holds the items of the cart; with `allowPartial`, those that are in stock. */
async function reserve(allowPartial = false) {
  if (!cart.lines().length) return show('empty');
  show('asking');
  const token = kept();
  if (token && !allowPartial) {
    const answer = await ask(`/${encodeURIComponent(token)}`);
    if (answer.data?.status === 'active') return hold(answer.data);
  }
  const body = { checkoutToken: cart.checkoutToken(), lines: wanted(), allowPartial };
  const { ok, data, error } = await ask('', 'POST', body);
  if (ok) return hold(data);
  if (error.code === 'insufficient_stock') return showShortage(error.details.lines);
  fail(error);
}

/** @param {Answer['error']} error */
function fail({ code, message, details }) {
  const name = cart.lines().find(({ productId }) => productId === details?.productId)?.name;
  find('[data-panel=failed] [data-why]').textContent =
    code === 'max_per_order_exceeded'
      ? `One order may have at most ${details.maxPerOrder} of ${name ?? 'this'}, and your cart has ${details.requested}.`
      : /_not_found$/.test(code)
        ? `${name ?? 'Something in your cart'} is not in the shop any more.`
        : message;
  show('failed');
}

/** @param {Reservation} given */
function hold(given) {
  reservation = given;
  const isPartial = given.lines.some(({ quantity, requested }) => quantity < (requested ?? 0));
  for (const { productId, variantId, quantity, requested } of given.lines) {
    if (requested !== undefined && quantity < requested) {
      cart.setQuantity({ productId, variantId }, quantity);
    }
  }
  if (isPartial) find('[data-partial]').hidden = false;
  storage.write('sessionStorage', HOLD, JSON.stringify({ token: given.token, cart: cartKey() }));
  const lines = given.lines.filter(({ quantity }) => quantity > 0);
  const names = new Map(cart.lines().map(({ productId, name }) => [productId, name]));
  const rows = lines.map((line) => heldRow({ ...line, name: names.get(line.productId) }));
  held.querySelector('ul').replaceChildren(...rows.map(({ item }) => item));
  const refresh = () => {
    for (const row of rows) row.refresh();
    const text = money(given.total);
    held.querySelector('[data-total]').textContent = text;
    if (pay) pay.textContent = `Pay ${text}`;
  };
  const pay = held.querySelector('[data-pay]');
  if (pay) {
    const url = new URL(held.dataset.payment, location.href);
    url.searchParams.set('reservation', given.token);
    pay.href = url.href;
  }
  follow(lines, refresh);
  refresh();
  find('[data-extend]').hidden = !given.isExtendable;
  show('held');
  spoken = Infinity;
  clearInterval(ticking);
  ticking = setInterval(tick, 250);
  tick();
}

/** A row with the price of the hold, which may differ from the current price. @param {HeldLine} line */
function heldRow(line) {
  const { image, link: name, variant, refresh } = shown(line);
  const price = make('span', { class: 'dim' });
  const amount = make('strong', { class: 'amount' });
  const { quantity, requested, unitPrice } = line;
  const less = requested !== undefined && quantity < requested ? ` of ${requested}` : '';
  const item = make(
    'li',
    { class: 'line' },
    image,
    make('div', { class: 'what' }, make('strong', {}, name), ' ', variant, make('br'), price),
    amount,
  );
  return {
    item,
    refresh() {
      refresh();
      price.textContent = `${quantity}${less} × ${money(unitPrice)}`;
      amount.textContent = money(unitPrice * quantity);
    },
  };
}

function tick() {
  if (!reservation) return;
  const left = (Date.parse(reservation.expiresAt) - Date.now() - skew) / 1_000;
  const seconds = Math.max(0, Math.ceil(left));
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  const timer = find('[data-left]');
  if (timer.textContent !== text) timer.textContent = text;
  timer.parentElement.toggleAttribute('data-urgent', seconds <= URGENT);
  const passed = SPOKEN.filter((each) => seconds <= each && each < spoken).pop();
  if (passed !== undefined && seconds > 0) {
    if (spoken !== Infinity || seconds === passed) say(`${inWords(seconds)} left to pay`);
    spoken = passed;
  }
  if (left <= 0) watched(check());
}

/** @param {number} seconds */
const inWords = (seconds) =>
  seconds < 60 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`;

/** Asks the server whether the hold is active: at its end, and after this page has slept. */
async function check() {
  if (!reservation) return;
  const { token } = reservation;
  clearInterval(ticking);
  const { ok, status, data, error } = await ask(`/${encodeURIComponent(token)}`);
  if (reservation?.token !== token) return;
  if (ok && data.status === 'converted') {
    return goTo(link(`/thanks?${new URLSearchParams({ reservation: token })}`));
  }
  if (ok && data.status === 'active') {
    reservation = { ...reservation, expiresAt: data.expiresAt, isExtendable: data.isExtendable };
    find('[data-extend]').hidden = !data.isExtendable;
    ticking = setInterval(tick, 250);
  } else if (status === 404 || status === 410 || data?.status === 'expired') end();
  else {
    find('[data-panel=held] [data-problem]').textContent = error.message;
    ticking = setInterval(tick, 5_000);
  }
}

/** @param {string} [title] @param {string} [why] */
function end(title = TIME_IS_UP, why = BACK_ON_THE_SHELF) {
  reservation = undefined;
  storage.remove('sessionStorage', HOLD);
  find('[data-panel=ended] h2').textContent = title;
  find('[data-panel=ended] [data-why]').textContent = why;
  say(title);
  show('ended');
}

/** @param {string} url */
const goTo = (url) => location.assign(url);

async function extend() {
  if (!reservation) return;
  const button = find('[data-extend]');
  button.disabled = true;
  const { ok, status, data, error } = await ask(`/${encodeURIComponent(reservation.token)}/extend`, 'POST');
  button.disabled = false;
  if (ok) {
    reservation = { ...reservation, expiresAt: data.expiresAt, isExtendable: data.isExtendable };
    button.hidden = !data.isExtendable;
    spoken = Infinity;
    tick();
    const left = Math.round((Date.parse(data.expiresAt) - Date.now() - skew) / 60_000);
    const text = `You have ${left} minutes now. You cannot extend the time again.`;
    find('[data-panel=held] [data-problem]').textContent = text;
    find('[data-pay]')?.focus();
  } else if (status === 404 || status === 410) end();
  else {
    button.hidden = error.code === 'already_extended';
    find('[data-panel=held] [data-problem]').textContent = error.message;
  }
}

async function cancel() {
  const token = reservation?.token;
  reservation = undefined;
  storage.remove('sessionStorage', HOLD);
  if (token) await ask(`/${encodeURIComponent(token)}`, 'DELETE');
  goTo(link('/cart'));
}

/** @param {any[]} lines with `requested`, `available` and `alternatives` */
function showShortage(lines) {
  const names = new Map(cart.lines().map(({ productId, name }) => [productId, name]));
  const rows = lines.map((line) => shortRow({ ...line, name: names.get(line.productId) }));
  find('.shortages').replaceChildren(...rows.map(({ item }) => item));
  const refresh = () => rows.forEach((row) => row.refresh());
  follow(lines, refresh);
  find('[data-partly]').hidden = !lines.some(({ available }) => available === null || available > 0);
  show('short');
}

/** @param {any} line */
function shortRow(line) {
  const { image, link: name, variant, refresh } = shown(line);
  const { requested, available, alternatives = [] } = line;
  const isShort = available !== null && available < requested;
  const text = isShort
    ? `You want ${requested}, ${available === 0 ? 'none is left' : `${available} ${available === 1 ? 'is' : 'are'} left`}`
    : `${requested}, in stock`;
  const item = make(
    'li',
    { class: 'line' },
    image,
    make(
      'div',
      { class: 'what' },
      make('strong', {}, name),
      ' ',
      variant,
      make('p', { class: isShort ? 'trouble' : 'dim' }, text),
    ),
  );
  if (alternatives.length) {
    const offers = alternatives.map((/** @type {any} */ { productId, name, price, stockMessage }) =>
      make(
        'li',
        {},
        make('img', { src: pictureOf(productId), alt: '', width: 56, height: 56 }),
        make(
          'span',
          {},
          make('a', { href: pageOf(productId) }, name ?? productId),
          make('br'),
          make('span', { class: 'dim' }, `${money(price)} · ${stockMessage}`),
        ),
      ),
    );
    item.append(
      make('div', { class: 'instead' }, make('h3', {}, 'In stock instead'), make('ul', {}, ...offers)),
    );
  }
  return { item, refresh };
}

/** Shows an error of this page itself, so that no shopper waits for ever. @param {unknown} error */
function breakOff(error) {
  reportError(error);
  fail({ code: 'broken', message: 'Something went wrong on this page. Nothing was paid.' });
}

/** @param {Promise<unknown>} work */
const watched = (work) => work.catch(breakOff);

find('[data-extend]').addEventListener('click', () => watched(extend()));
find('[data-cancel]').addEventListener('click', () => watched(cancel()));
find('[data-partly]').addEventListener('click', () => watched(reserve(true)));
for (const again of document.querySelectorAll('[data-again]')) {
  again.addEventListener('click', () => watched(reserve()));
}
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) watched(check());
});
addEventListener('pageshow', (event) => {
  if (event.persisted) watched(check());
});

if (new URLSearchParams(location.search).has('declined')) {
  end(
    'The payment did not go through',
    'Nothing was paid, so your items went back on the shelf. They are still in your cart.',
  );
} else watched(reserve());
