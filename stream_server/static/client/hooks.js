// The store for React 18 and newer. The caller passes React, so there is no build step and no second
// React.
//
// A page has one connection, however many components use these hooks; after the last one is unmounted
// it has no connection and no timer.

import { StockStream, stockStream } from './stock-stream.js';

/**
 * @import {Inventory, Stock} from 'stream-server/stock-stream.js'
 * @import {Hooks, InventoryFeed, InventoryUpdate} from 'stream-server/hooks.js'
 * @typedef {Pick<InventoryFeed, 'inventoryUpdates' | 'stockAlerts' | 'productStatusChanges'>} Lists
 */

const MAX_ITEMS = 50; // of each list of the feed
const POLL = 10_000; // ms
const STALE = 30_000; // ms

/** @type {WeakMap<StockStream, number[]>} */
const intervals = new WeakMap();

/**
 * @param {typeof import('react')} react
 * @returns {Hooks}
 */
export function createHooks(react) {
  const { createContext, createElement, useCallback, useContext, useEffect, useMemo } = react;
  const { useSyncExternalStore } = react;
  const Context = createContext(/** @type {{store: StockStream, feed: Feed} | null} */ (null));

  /** @type {Hooks['InventoryProvider']} */
  function InventoryProvider({ base, path, productIds, children }) {
    const store = useMemo(() => storeOf(base, path), [base, path]);
    const key = JSON.stringify(productIds ?? null);
    const value = useMemo(() => ({ store, feed: new Feed(store, JSON.parse(key)) }), [store, key]);
    return createElement(Context.Provider, { value }, children);
  }

  const useStockStream = () => useContext(Context)?.store ?? stockStream();

  /** @type {Hooks['useInventory']} */
  function useInventory(productId, options = {}) {
    const { pollInterval = POLL, enabled = true, staleThreshold = STALE } = options;
    const store = useStockStream();
    const view = useMemo(
      () => new View(store, enabled ? productId : '', staleThreshold),
      [store, productId, enabled, staleThreshold],
    );
    useEffect(() => (enabled ? pollEvery(store, pollInterval) : undefined), [
      store,
      enabled,
      pollInterval,
    ]);
    const shown = useSyncExternalStore(view.subscribe, view.read, nothing);
    const refresh = useCallback(() => store.refresh(), [store]);
    return { ...shown, isLoading: shown.isLoading && enabled, refresh };
  }

  /** @type {Hooks['useProductUpdates']} */
  function useProductUpdates(productId, variantId = null) {
    const store = useStockStream();
    const view = useMemo(() => new View(store, productId, STALE), [store, productId]);
    const { inventory, lastUpdated } = useSyncExternalStore(view.subscribe, view.read, nothing);
    /** @type {Stock | null | undefined} */
    const stock =
      variantId === null
        ? inventory
        : inventory?.variants?.find((each) => each.variantId === variantId);
    const first = useMemo(() => ({ text: '', hasUpdates: false }), [view, variantId]);
    const text = stock ? String([stock.availableQuantity, stock.price, stock.status]) : '';
    first.text ||= text;
    return {
      stock: stock?.availableQuantity,
      price: stock?.price,
      status: stock?.status,
      hasUpdates: (first.hasUpdates ||= text !== first.text),
      lastUpdate: lastUpdated,
    };
  }

  /** @type {Hooks['useInventoryFeed']} */
  function useInventoryFeed() {
    const context = useContext(Context);
    if (!context) throw new Error('useInventoryFeed needs an InventoryProvider around it');
    const { feed } = context;
    const lists = useSyncExternalStore(feed.subscribe, feed.read, feed.read);
    return { ...lists, ...feed.clears };
  }

  return { InventoryProvider, useInventory, useProductUpdates, useInventoryFeed, useStockStream };
}

/** @param {string} [base] @param {string} [path] */
const storeOf = (base, path) =>
  path ? new StockStream(base ?? stockStream().base, { path }) : stockStream(base);

const NOTHING = {
  inventory: /** @type {Inventory | null} */ (null),
  isLoading: true,
  isStale: false,
  error: /** @type {Error | null} */ (null),
  lastUpdated: /** @type {Date | null} */ (null),
};

const nothing = () => NOTHING;

/** A product as a component shows it. It is a new object only when something differs. */
class View {
  #store;
  #id;
  #threshold;
  #shown = NOTHING;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {StockStream} store @param {string} id empty: none @param {number} threshold ms */
  constructor(store, id, threshold) {
    this.#store = store;
    this.#id = id;
    this.#threshold = threshold;
  }

  read = () => this.#shown;

  subscribe = (/** @type {() => void} */ listener) => {
    if (!this.#id) return () => {};
    const update = () => {
      if (this.#update()) listener();
    };
    const check = () => {
      clearTimeout(this.#timer);
      const left = this.#store.heardAt + this.#threshold - Date.now();
      this.#timer = setTimeout(check, left > 0 ? left : this.#threshold);
      update();
    };
    const hear = () => {
      if (this.#shown.isStale) check();
    };
    const unwatch = this.#store.watch(this.#id, update);
    this.#store.addEventListener('heard', hear);
    this.#timer = setTimeout(check, this.#threshold);
    update();
    return () => {
      clearTimeout(this.#timer);
      this.#store.removeEventListener('heard', hear);
      unwatch();
    };
  };

  #update() {
    const store = this.#store;
    const inventory = store.get(this.#id);
    const before = this.#shown;
    const isStale = store.heardAt > 0 && Date.now() - store.heardAt >= this.#threshold;
    const unknown = inventory === null ? `There is no product ${this.#id}` : '';
    const message = unknown || store.error?.message;
    const next = {
      inventory: inventory ?? null,
      isLoading: inventory === undefined && !message,
      isStale,
      error: message === before.error?.message ? before.error : message ? new Error(message) : null,
      lastUpdated: inventory && inventory !== before.inventory ? new Date() : before.lastUpdated,
    };
    const keys = /** @type {(keyof typeof next)[]} */ (Object.keys(next));
    if (keys.every((key) => next[key] === before[key])) return false;
    this.#shown = next;
    return true;
  }
}

/** The latest events, collected while somebody reads them. */
class Feed {
  #store;
  #ids;
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {(() => void)[]} */
  #ends = [];
  #isTelling = false;
  /** @type {Lists & {connectionState: StockStream['state'], isConnected: boolean}} */
  #shown;

  /** @param {StockStream} store @param {string[] | null} ids */
  constructor(store, ids) {
    this.#store = store;
    this.#ids = ids;
    this.#shown = {
      inventoryUpdates: [],
      stockAlerts: [],
      productStatusChanges: [],
      connectionState: store.state,
      isConnected: store.state === 'live',
    };
    this.clears = {
      clearInventoryUpdates: () => this.#show({ inventoryUpdates: [] }),
      clearStockAlerts: () => this.#show({ stockAlerts: [] }),
      clearProductStatusChanges: () => this.#show({ productStatusChanges: [] }),
    };
  }

  read = () => this.#shown;

  subscribe = (/** @type {() => void} */ listener) => {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#start();
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) for (const end of this.#ends.splice(0)) end();
    };
  };

  #start() {
    const store = this.#store;
    this.#on('update', ({ before, after }) => {
      if (!this.#isMine(after.productId)) return;
      const updates = before ? differences(before, after) : [updateOf(after, after)];
      if (updates.length) this.#add('inventoryUpdates', updates);
    });
    this.#on('statuschange', (change) => {
      if (this.#isMine(change.productId)) this.#add('productStatusChanges', [change]);
    });
    this.#on('alert', (alert) => this.#add('stockAlerts', [alert]));
    const update = () => {
      const { state } = store;
      this.#show({ connectionState: state, isConnected: state === 'live' });
    };
    this.#on('statechange', update);
    for (const id of this.#ids ?? [null]) this.#ends.push(store.watch(id, () => {}));
    update();
  }

  /** @param {string} type @param {(detail: any) => void} listener */
  #on(type, listener) {
    const handler = (/** @type {any} */ event) => listener(event.detail);
    this.#store.addEventListener(type, handler);
    this.#ends.push(() => this.#store.removeEventListener(type, handler));
  }

  /** @param {string} id */
  #isMine(id) {
    return !this.#ids || this.#ids.includes(id);
  }

  /** @param {keyof Lists} name @param {any[]} items */
  #add(name, items) {
    this.#show({ [name]: [...items.reverse(), ...this.#shown[name]].slice(0, MAX_ITEMS) });
  }

  /** @param {Partial<Feed['read'] extends () => infer T ? T : never>} part */
  #show(part) {
    this.#shown = { ...this.#shown, ...part };
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      for (const listener of this.#listeners) listener();
    });
  }
}

/**
 * The differences that a shopper sees, of the product and of each variant.
 * @param {Inventory} before
 * @param {Inventory} after
 */
function differences(before, after) {
  const pairs = [[before, after]];
  for (const variant of after.variants ?? []) {
    const known = before.variants?.find((each) => each.variantId === variant.variantId);
    if (known) pairs.push(/** @type {any} */ ([known, variant]));
  }
  return pairs
    .filter(([was, is]) =>
      /** @type {const} */ (['availableQuantity', 'price', 'status']).some(
        (key) => was[key] !== is[key],
      ),
    )
    .map(([, is]) => updateOf(is, after));
}

/** @param {any} stock @param {any} product @returns {InventoryUpdate} */
const updateOf = (stock, { productId, updatedAt, timestamp }) => ({
  productId,
  variantId: stock.variantId ?? null,
  stock: stock.availableQuantity,
  price: stock.price,
  status: stock.status,
  timestamp: timestamp ?? updatedAt,
});

/**
 * Polls as often as the component with the shortest interval wants.
 * @param {StockStream} store
 * @param {number} interval ms
 */
function pollEvery(store, interval) {
  const all = intervals.get(store) ?? [];
  intervals.set(store, all);
  all.push(interval);
  store.pollInterval = Math.min(...all);
  return () => {
    all.splice(all.indexOf(interval), 1);
    store.pollInterval = Math.min(POLL, ...all);
  };
}
