// The live stock of a page: one store for each server, however many products, elements or tabs.
//
// The store never replaces a newer version by an older one, and ignores data that break the schema. It
// calls listeners in animation frames. Without listeners it has no timer and no connection.

import { ask, Connection } from './connection.js';
import { isInventory, isStatus, isUpdate, updated } from './inventory.js';
import { Tabs } from './tabs.js';

/** @import {ConnectionState, Inventory, Wire} from 'stream-server/stock-stream.js' */
/** @import {StockStreamOptions} from 'stream-server/stock-stream.js' */

const STALE = 30_000; // ms without an event
const BEAT = 15_000; // ms between the leader's heartbeats
const MISSED_BEATS = 3; // after these, the leader counts as frozen
const GATHER = 20; // ms to collect what a page and its tabs show
const SLICE = 8; // ms of a frame
const MAX_ID_LENGTH = 200; // characters
const SLEEPS = ['pagehide', 'freeze'];
const WAKES = ['pageshow', 'resume', 'visibilitychange', 'online', 'offline'];

/** @type {Map<string, StockStream>} */
const stores = new Map();

/**
 * The page's store for a server; by default the one that served this module.
 * @param {string | null} [base] such as https://stock.example
 * @returns {StockStream}
 */
export function stockStream(base) {
  const own = import.meta.url.slice(0, import.meta.url.lastIndexOf('/client/'));
  base ??= own;
  const text = globalThis.document?.querySelector('[data-stock]')?.textContent;
  const page = base === own && text ? JSON.parse(text) : undefined;
  const store = stores.get(base) ?? new StockStream(base, { page });
  stores.set(base, store);
  return store;
}

export class StockStream extends EventTarget {
  /** @type {ConnectionState} */
  state = 'connecting';
  /** @type {Error | null} */
  error = null;
  /** When the store last knew that its state was right, in ms since 1970. */
  heardAt = 0;
  /** How many events broke the schema and were ignored. */
  invalid = 0;
  /** ms between polls, where there is no stream */
  pollInterval = 10_000;

  #path;
  #page;
  #tabs;
  #tab = Math.random();
  /** Ends the listeners for the page's sleep and waking. */
  #ears = new AbortController();
  #isJoined = false;
  #isLeader = false;
  /** @type {Connection | undefined} */
  #connection;
  /** @type {'connecting' | 'live' | 'polling'} */
  #link = 'connecting';
  #isSourceLive = true;
  #wasStale = false;
  /** By product; null: of the catalogue. @type {Map<string | null, Set<() => void>>} */
  #listeners = new Map();
  /** @type {Map<string, Inventory | null>} */
  #known = new Map();
  /** @type {Set<string | null>} */
  #dirty = new Set();
  /** The flush that is due: whether for a hidden page. @type {boolean | undefined} */
  #frame;
  /** What other tabs show. @type {Map<number, {ids: string[], isAll: boolean, interval: number}>} */
  #wants = new Map();
  /** The tabs that answered the last beat. @type {Set<number>} */
  #alive = new Set();
  #missedBeats = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #planTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #staleTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #beatTimer;

  /** @param {string} base @param {StockStreamOptions} [options] */
  constructor(base, { path = '/api/inventory/stream', page = { position: '', known: {} } } = {}) {
    super();
    this.base = base;
    this.#path = path;
    this.#page = page;
    this.#tabs = new Tabs(
      `stream-server 1 ${base}${path}`,
      (isLeader) => this.#lead(isLeader),
      (message) => this.#hearTab(message),
    );
  }

  /**
   * Calls the listener after the product (null: any product) or the state has changed. Returns a
   * function that ends this.
   * @param {string | null} id
   * @param {() => void} listener
   */
  watch(id, listener) {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners.add(listener));
    this.#plan();
    return () => {
      listeners.delete(listener);
      if (!listeners.size && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
      this.#plan();
    };
  }

  /**
   * The newest known state of the product; null: no such product, or no longer; undefined: not known
   * yet.
   * @param {string} id
   */
  get(id) {
    return this.#known.get(id);
  }

  /** Whether there was no event for 30 s. */
  get isStale() {
    return this.heardAt > 0 && Date.now() - this.heardAt >= STALE;
  }

  /** Polls the server now, whatever the connection does. Rejects if it does not answer. */
  refresh() {
    return ask(this.base, this.#ids, (data) => this.#apply('snapshot', { ...data, isPoll: true }));
  }

  /** The ids that have listeners and that the server accepts. */
  get #ids() {
    const ids = [...this.#listeners.keys()].filter((id) => id && [...id].length <= MAX_ID_LENGTH);
    return /** @type {string[]} */ (ids);
  }

  // The page and its tabs

  #plan() {
    clearTimeout(this.#planTimer);
    this.#planTimer = setTimeout(() => {
      if (!this.#listeners.size) this.#stop();
      else if (this.#isJoined) this.#tell(true);
      else this.#wake();
    }, GATHER);
  }

  /** @param {Event} [event] */
  #wake = (event) => {
    if (event?.type === 'visibilitychange' && document.hidden && !this.#isJoined) return; // it left
    if (!this.#isJoined) {
      this.#isJoined = true;
      this.heardAt ||= Date.now();
      this.#ears.abort();
      this.#ears = new AbortController();
      const options = { capture: true, signal: this.#ears.signal };
      for (const type of SLEEPS) addEventListener(type, this.#sleep, options);
      for (const type of WAKES) addEventListener(type, this.#wake, options);
      this.#beatTimer = setInterval(this.#beat, BEAT);
      this.#tabs.join();
    }
    if (event?.type === 'online') this.#connection?.reopen();
    if (event?.type === 'visibilitychange' && !document.hidden) this.#connection?.wake();
    this.#tell(true);
    this.#checkStale();
    this.#schedule();
  };

  /** Ends everything but keeps the state; it starts again when the page wakes up. */
  #sleep = () => {
    if (!this.#isJoined) return;
    clearTimeout(this.#planTimer);
    this.#tabs.post({ kind: 'bye', tab: this.#tab });
    this.#tabs.leave();
    this.#isJoined = this.#isLeader = false;
    this.#connection?.close();
    this.#link = 'connecting';
    clearInterval(this.#beatTimer);
    clearTimeout(this.#staleTimer);
  };

  #stop() {
    this.#sleep();
    this.#ears.abort();
    this.#connection = undefined;
    this.#known.clear();
    this.heardAt = 0;
    this.#report();
  }

  /** @param {boolean} isLeader */
  #lead(isLeader) {
    this.#isLeader = isLeader;
    this.#wants.clear();
    if (!isLeader) this.#connection?.close();
    const hear = (/** @type {string} */ kind, /** @type {any} */ data) => {
      this.#tabs.post({ kind, data });
      this.#apply(kind, data);
    };
    this.#connection ??= new Connection(this.base, this.#path, hear, this.#page);
    this.#missedBeats = 0;
    this.#beat();
    this.#plan();
  }

  /** The leader sends a heartbeat and asks which tabs are alive; the others notice if it stops. */
  #beat = () => {
    if (this.#isLeader) {
      for (const tab of this.#wants.keys()) if (!this.#alive.has(tab)) this.#wants.delete(tab);
      this.#alive.clear();
      this.#tabs.post({ kind: 'lead', data: { link: this.#link } });
    } else if (++this.#missedBeats > MISSED_BEATS && !document.hidden) {
      this.#missedBeats = 0;
      this.#tabs.steal();
    }
  };

  /** Tells the leader, or the connection, what to get. @param {boolean} isNew */
  #tell(isNew) {
    const { pollInterval: interval } = this;
    const want = { ids: this.#ids, isAll: this.#listeners.has(null), interval };
    for (const id of this.#known.keys()) if (!this.#isWanted(id)) this.#known.delete(id);
    const { known } = this.#page;
    for (const id in known) if (!this.#known.has(id)) this.#put(id, known[id]);
    if (!this.#isLeader) return this.#tabs.post({ kind: 'want', tab: this.#tab, isNew, ...want });
    const wants = [want, ...this.#wants.values()];
    const connection = /** @type {Connection} */ (this.#connection);
    connection.interval = Math.min(...wants.map((each) => each.interval));
    connection.cover(
      new Set(wants.flatMap((each) => each.ids)),
      wants.some((each) => each.isAll),
    );
  }

  /** @param {any} message */
  #hearTab({ kind, data, tab, isNew, ...want }) {
    if (this.#isLeader) {
      this.#wants.delete(tab);
      if (kind !== 'want') return;
      this.#wants.set(tab, want);
      this.#alive.add(tab);
      this.#plan();
      if (!isNew) return;
      const products = want.ids.map((/** @type {string} */ id) => this.get(id)).filter(Boolean);
      const { heardAt } = this;
      this.#tabs.post({ kind: 'lead', data: { link: this.#link } });
      this.#tabs.post({ kind: 'snapshot', data: { products, heardAt, live: this.#isSourceLive } });
    } else if (data) {
      this.#missedBeats = 0;
      if (kind !== 'lead') return this.#apply(kind, data);
      this.#apply('link', data);
      this.#tell(false);
    }
  }

  // Events of the server

  /** @param {string} kind @param {any} data */
  #apply(kind, data) {
    if (typeof data !== 'object' || !data) return this.#reject();
    if (kind === 'link') {
      this.#link = data.link;
      this.error = data.error ? new Error(data.error) : null;
      return this.#report();
    }
    if ('live' in data) this.#isSourceLive = data.live;
    if (kind === 'snapshot') this.#take(data);
    if (kind === 'inventory_updated') this.#update(data);
    if (kind === 'product_status_changed') this.#changeStatus(data);
    if (kind === 'stock_alert') this.#dispatch('alert', data);
    if (kind === 'reset') {
      this.#page.known = {};
      for (const [id, product] of this.#known) {
        if (product) this.#known.set(id, { ...product, version: -1 });
      }
    }
    if (!this.#isSourceLive) return;
    this.heardAt = data.heardAt ?? Date.now();
    this.#dispatch('heard');
    if (this.#wasStale) this.#checkStale();
  }

  /** @param {Wire} data */
  #take({ products = [], unknown = [], isPoll }) {
    if (!Array.isArray(products) || !Array.isArray(unknown)) return this.#reject();
    for (const product of products) {
      if (isInventory(product)) this.#put(product.productId, product);
      else this.#reject();
    }
    for (const id of unknown) {
      // While the stream is live, it would have sent the product, with a newer version.
      if (!isPoll || this.#link !== 'live' || !this.get(id)) this.#put(id, null);
    }
  }

  /** @param {unknown} update */
  #update(update) {
    if (!isUpdate(update)) return this.#reject();
    const known = this.get(update.productId);
    if (!known) this.#dispatch('update', { after: update });
    else if (update.version < known.version) return;
    const next = known && updated(known, update);
    if (next) this.#put(next.productId, next);
    else if (this.#isWanted(update.productId)) this.#connection?.recheck();
  }

  /** @param {unknown} change */
  #changeStatus(change) {
    if (!isStatus(change)) return this.#reject();
    const { productId, status, timestamp } = change;
    const known = this.get(productId);
    if (known && known.updatedAt > timestamp) return;
    this.#dispatch('statuschange', change);
    if (!known || status === 'active') return;
    const ended = { isAvailable: false, isLowStock: false, stockMessage: 'Sold Out' };
    this.#put(productId, { ...known, ...ended, status, version: known.version + 1 });
  }

  /** @param {string} id @param {Inventory | null} after */
  #put(id, after) {
    const before = this.get(id);
    if (!this.#isWanted(id) || (before && after && before.version > after.version)) return;
    this.#known.set(id, after);
    this.#dirty.add(id).add(null);
    this.#schedule();
    if (before && after) this.#dispatch('update', { before, after });
  }

  /** @param {string} id */
  #isWanted(id) {
    return this.#listeners.has(id) || (this.#isLeader && this.#connection?.ids.has(id));
  }

  #reject() {
    this.invalid++;
    this.#connection?.recheck();
  }

  // Events for the page

  #report() {
    const { isStale } = this;
    const state = navigator.onLine === false ? 'offline' : isStale ? 'stale' : this.#link;
    if (state === this.state && isStale === this.#wasStale) return;
    this.state = state;
    this.#wasStale = isStale;
    this.#dispatch('statechange', state);
    for (const id of this.#listeners.keys()) this.#dirty.add(id);
    this.#schedule();
  }

  #checkStale = () => {
    clearTimeout(this.#staleTimer);
    const left = this.heardAt + STALE - Date.now();
    this.#staleTimer = setTimeout(this.#checkStale, left > 0 ? left : STALE);
    this.#report();
  };

  /** @param {string} type @param {unknown} [detail] */
  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #schedule() {
    const { hidden } = document;
    if (this.#frame === hidden) return;
    this.#frame = hidden;
    const flush = () => {
      if (this.#frame === hidden) this.#flush();
    };
    if (hidden) setTimeout(flush, 100);
    else requestAnimationFrame(flush);
  }

  #flush() {
    this.#frame = undefined;
    const end = performance.now() + SLICE;
    for (const id of this.#dirty) {
      this.#dirty.delete(id);
      for (const listener of this.#listeners.get(id) ?? []) {
        try {
          listener();
        } catch (error) {
          reportError(error);
        }
      }
      if (performance.now() > end) return this.#schedule();
    }
  }
}
