// The checkout: holds the cart's items on the server, counts down the time, and says clearly when
// the hold has ended.
//
// The server's clock decides: the page shows the server's end in the server's time, and at zero it
// asks the server before it says anything.

import * as cart from './cart.js';
import * as stored from './hold.js';
import { follow, make, money, shown, stockOf } from './lines.js';
import { link, pageOf, pictureOf } from './links.js';

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

const SPOKEN = [300, 120, 60, 30, 10]; // seconds left at which screen readers announce the time
const URGENT = 120; // seconds
const TIME_IS_UP = 'Your time is up';
const BACK_ON_THE_SHELF =
  'We held your items for you until now. They are back on the shelf, and still in your cart.';
const NOT_PAID = 'The payment did not go through';
const RELEASED =
  'Nothing was paid, so your items went back on the shelf. They are still in your cart.';
const ENDED_ELSEWHERE = 'Your items are not held any more';

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

/** Shows the hold of this browser, if it is of this cart, or holds the items of the cart. The server
 * decides what is said of an earlier hold. `isDeclined`: a payment page says that nothing was paid. */
async function start(isDeclined = false) {
  const earlier = stored.read();
  if (earlier) {
    show('asking');
    const answer = await ask(`/${encodeURIComponent(earlier.token)}`);
    if (answer.data?.status === 'converted') return goToThanks(earlier.token);
    if (answer.data?.status === 'active' && earlier.cart === cartKey()) {
      hold(answer.data);
      if (isDeclined) tell(NOT_PAID);
      return;
    }
    if (isDeclined && answer.error?.code === 'reservation_released') return end(NOT_PAID, RELEASED);
  }
  await reserve();
}

/** Holds the items of the cart; with `allowPartial`, those that are in stock. */
async function reserve(allowPartial = false) {
  if (!cart.lines().length) return show('empty');
  show('asking');
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
  const { token } = given;
  stored.keep({ token, cart: cartKey(), until: endOf(given), lines: given.lines });
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

/** When a hold ends, in ms since 1970 by this browser's clock. @param {Reservation} hold */
const endOf = ({ expiresAt }) => Date.parse(expiresAt) - skew;

function tick() {
  if (!reservation) return;
  const until = endOf(reservation);
  const seconds = stored.secondsLeft({ until });
  const text = stored.timeLeft({ until });
  const timer = find('[data-left]');
  if (timer.textContent !== text) timer.textContent = text;
  timer.parentElement.toggleAttribute('data-urgent', seconds <= URGENT);
  const passed = SPOKEN.filter((each) => seconds <= each && each < spoken).pop();
  if (passed !== undefined && seconds > 0) {
    if (spoken !== Infinity || seconds === passed) say(`${inWords(seconds)} left to pay`);
    spoken = passed;
  }
  if (!seconds) watched(check());
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
  if (ok && data.status === 'converted') return goToThanks(token);
  if (ok && data.status === 'active') {
    renew(data);
    ticking = setInterval(tick, 250);
  } else if (status === 404 || status === 410 || data?.status === 'expired') end();
  else {
    tell(error.message);
    ticking = setInterval(tick, 5_000);
  }
}

/** Takes the end that the server says, here and for the shop's other pages. @param {Reservation} given */
function renew({ expiresAt, isExtendable }) {
  if (!reservation) return;
  reservation = { ...reservation, expiresAt, isExtendable };
  find('[data-extend]').hidden = !isExtendable;
  const known = stored.read();
  if (known?.token === reservation.token) stored.keep({ ...known, until: endOf(reservation) });
}

/** @param {string} [title] @param {string} [why] */
function end(title = TIME_IS_UP, why = BACK_ON_THE_SHELF) {
  reservation = undefined;
  stored.forget();
  find('[data-panel=ended] h2').textContent = title;
  find('[data-panel=ended] [data-why]').textContent = why;
  say(title);
  show('ended');
}

/** @param {string} url */
const goTo = (url) => location.assign(url);

/** @param {string} token */
const goToThanks = (token) => goTo(link(`/thanks?${new URLSearchParams({ reservation: token })}`));

/** Says something beside the time. @param {string} text */
const tell = (text) => (find('[data-panel=held] [data-problem]').textContent = text);

async function extend() {
  if (!reservation) return;
  const button = find('[data-extend]');
  button.disabled = true;
  const { ok, status, data, error } = await ask(`/${encodeURIComponent(reservation.token)}/extend`, 'POST');
  button.disabled = false;
  if (ok) {
    renew(data);
    spoken = Infinity;
    tick();
    const minutes = Math.round((endOf(data) - Date.now()) / 60_000);
    tell(`You have ${minutes} minutes now. You cannot extend the time again.`);
    find('[data-pay]')?.focus();
  } else if (status === 404 || status === 410) end();
  else {
    button.hidden = error.code === 'already_extended';
    tell(error.message);
  }
}

async function cancel() {
  const token = reservation?.token;
  reservation = undefined;
  stored.forget();
  if (token) await ask(`/${encodeURIComponent(token)}`, 'DELETE');
  goTo(link('/cart'));
}

/** Shows what is missing, live: what comes back can be held at once.
 * @param {any[]} lines with `requested`, `available` and `alternatives` */
function showShortage(lines) {
  const names = new Map(cart.lines().map(({ productId, name }) => [productId, name]));
  let rows = lines.map((line) => shortRow({ ...line, name: names.get(line.productId) }));
  const panel = find('[data-panel=short]');
  const refresh = () => {
    for (const row of rows) row.refresh();
    const isEnough = rows.every((row) => !row.isShort());
    panel.querySelector('h2').textContent = isEnough ? 'In stock again' : 'Not enough in stock';
    panel.querySelector('[data-why]').hidden = isEnough;
    panel.querySelector('[data-again]').hidden = !isEnough;
    find('[data-partly]').hidden = isEnough || rows.every((row) => row.available() === 0);
  };
  for (const row of rows) {
    row.remove.addEventListener('click', () => {
      cart.setQuantity(row.line, 0);
      rows = rows.filter((each) => each !== row);
      row.item.remove();
      if (!rows.length) return show('empty');
      refresh();
      panel.querySelector('h2').focus();
    });
  }
  find('.shortages').replaceChildren(...rows.map(({ item }) => item));
  follow(lines, refresh);
  refresh();
  show('short');
}

/** @param {any} line */
function shortRow(line) {
  const { image, link: name, variant, refresh: refreshName } = shown(line);
  const { requested, alternatives = [] } = line;
  /** Units that can be had now; until the page knows more, what the refusal said. */
  const available = () => {
    const stock = stockOf(line);
    if (stock === undefined) return line.available ?? Infinity;
    // Units that this browser holds already are its own.
    return (stock?.isAvailable ? (stock.availableQuantity ?? Infinity) : 0) + stored.unitsOf(line);
  };
  const isShort = () => available() < requested;
  const words = make('p');
  const remove = make('button', { class: 'link', type: 'button' }, 'Remove');
  const refresh = () => {
    refreshName();
    const left = available();
    const text = isShort()
      ? `You want ${requested}, ${left === 0 ? 'none is left' : `${left} ${left === 1 ? 'is' : 'are'} left`}`
      : `${requested}, in stock`;
    if (words.textContent !== text) words.textContent = text;
    words.className = isShort() ? 'trouble' : 'dim';
    remove.setAttribute('aria-label', `Remove ${name.textContent} ${variant.textContent}`.trim());
  };
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
      words,
      remove,
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
          make(
            'span',
            { class: 'dim', 'product-id': productId },
            make('live-price', {}, money(price)),
            ' · ',
            make('stock-indicator', {}, stockMessage),
          ),
        ),
      ),
    );
    item.append(
      make('div', { class: 'instead' }, make('h3', {}, 'In stock instead'), make('ul', {}, ...offers)),
    );
  }
  return { item, line, remove, available, isShort, refresh };
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
// The browser's back button may show this page as it was: ask the server again.
addEventListener('pageshow', (event) => {
  if (event.persisted) watched(reservation ? check() : start());
});
stored.watch(() => {
  if (stored.read()?.token !== reservation?.token) watched(followOtherTab());
});

/** Another tab has ended the hold, paid, or made a new one. */
async function followOtherTab() {
  if (stored.read()) return start();
  if (!reservation) return;
  const { token } = reservation;
  const { data } = await ask(`/${encodeURIComponent(token)}`);
  if (data?.status === 'converted') return goToThanks(token);
  end(ENDED_ELSEWHERE, 'Another tab ended the checkout. Your items are still in your cart.');
}

const query = new URLSearchParams(location.search);
const isDeclined = query.has('declined');
query.delete('declined'); // said once: later only the server knows what became of the payment
if (isDeclined) history.replaceState(history.state, '', `${location.pathname}${query.size ? `?${query}` : ''}`);
watched(start(isDeclined));
