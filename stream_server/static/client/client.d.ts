// Types of the client. With an import map that leads `stream-server/` to a server's `/client/`,
// or with the folder copied into a project, reference this file from your own:
//   /// <reference path="./client.d.ts" />

declare module 'stream-server/money.js' {
  /** An amount in a currency's smallest unit, in the language and the currency of the nearest
   * attributes `lang` and `currency`. */
  export function money(amount: number, element: Element): string;
}

declare module 'stream-server/stock-stream.js' {
  /** Quantities are units of stock, null is unlimited; prices are cents. */
  export interface Stock {
    maxQuantity: number | null;
    soldQuantity: number;
    availableQuantity: number | null;
    isAvailable: boolean;
    isLowStock: boolean;
    price: number;
    status: string;
    /** `Sold Out`, `In Stock`, `Only N remaining!`, `N available` */
    stockMessage: string;
  }

  export interface Variant extends Stock {
    variantId: string;
    variantValue: string;
  }

  export interface Inventory extends Stock {
    productId: string;
    name?: string;
    /** Counts every change of the product and its variants. */
    version: number;
    /** ISO 8601 */
    updatedAt: string;
    variants?: Variant[];
  }

  /** What `inventory_updated` says of a product (variantId null) or of one of its variants. */
  export interface WireUpdate extends Stock {
    productId: string;
    variantId: string | null;
    timestamp: string;
    version: number;
  }

  /** The data of a `snapshot` event, or of a poll's answer. */
  export interface Wire {
    products?: unknown[];
    unknown?: string[];
    live?: boolean;
    position?: string;
    isPoll?: boolean;
  }

  /**
   * `connecting` not yet, or not any more; `live` by the stream; `polling` by asking; `stale` no
   * word for 30 s; `offline` as the browser says.
   */
  export type ConnectionState = 'connecting' | 'live' | 'polling' | 'stale' | 'offline';

  export interface StockStreamOptions {
    /** Of the stream; default /api/inventory/stream. */
    path?: string;
    /** What the page came with, where this server made it. */
    page?: PageStock;
  }

  /** Products by their ids, and the position from which a stream of them goes on. */
  export interface PageStock {
    position: string;
    known: Record<string, Inventory>;
  }

  /**
   * Events: `statechange` (detail: the state), `update` (detail: {before?, after}), `statuschange`
   * and `alert` (detail: as on the wire).
   */
  export class StockStream extends EventTarget {
    constructor(base: string, options?: StockStreamOptions);
    readonly base: string;
    readonly state: ConnectionState;
    readonly error: Error | null;
    /** When it last was certain that what is shown is right, in ms since 1970; 0: never. */
    readonly heardAt: number;
    /** Whether there was no event for 30 s. */
    readonly isStale: boolean;
    /** How many events broke the schema and were ignored. */
    readonly invalid: number;
    /** ms between polls, where there is no stream; 10,000. */
    pollInterval: number;
    /** The product; null: there is none, or not any more; undefined: not known yet. */
    get(id: string): Inventory | null | undefined;
    /**
     * Calls the listener, in an animation frame, after the product (null: any of the catalogue) or
     * the state has changed. Returns what ends that.
     */
    watch(id: string | null, listener: () => void): () => void;
    /** Asks the server now. Rejects if it does not answer. */
    refresh(): Promise<void>;
  }

  /** The page's store of a server; by default of the one that the module came from. */
  export function stockStream(base?: string | null): StockStream;
}

declare module 'stream-server/define.js' {
  import type { Inventory, Stock, StockStream } from 'stream-server/stock-stream.js';

  /** Attributes: product-id (here or around it), variant-id, selected-variant, base. */
  export class StockElement extends HTMLElement {
    store?: StockStream;
    product?: Inventory;
    readonly productId: string;
    readonly variantId: string | null;
    update(): void;
    render(stock: Stock & { variantValue?: string }, product: Inventory): string;
  }
  export class StockIndicator extends StockElement {}
  export class LowStockWarning extends StockElement {}
  export class SoldOutBadge extends StockElement {}
  export class LivePrice extends StockElement {}
  export class AddToCart extends StockElement {}
  export class NotifyMe extends StockElement {}
  export class InventoryToasts extends HTMLElement {
    /** @param key of the toast that this one replaces */
    show(text: string, kind?: string, key?: string): void;
  }
  export class ConnectionStatus extends HTMLElement {}

  /** The detail of the event `add-to-cart`. */
  export interface AddToCartDetail {
    productId: string;
    variantId: string | null;
    quantity: number;
    name: string;
    /** Adding lasts until the promise is settled, and has failed if it is rejected. */
    waitUntil(promise: Promise<unknown>): void;
  }
}

declare module 'stream-server/hooks.js' {
  import type {
    ConnectionState,
    Inventory,
    StockStream,
    StockStreamOptions,
    WireUpdate,
  } from 'stream-server/stock-stream.js';

  export interface UseInventoryOptions {
    /** ms between polls, where there is no stream; default 10,000. */
    pollInterval?: number;
    /** Default true. */
    enabled?: boolean;
    /** ms without word after which it is stale; default 30,000. */
    staleThreshold?: number;
  }

  export interface UseInventoryResult {
    inventory: Inventory | null;
    isLoading: boolean;
    isStale: boolean;
    error: Error | null;
    refresh: () => Promise<void>;
    lastUpdated: Date | null;
  }

  export interface InventoryUpdate
    extends Pick<WireUpdate, 'productId' | 'variantId' | 'price' | 'status' | 'timestamp'> {
    /** Units; null: unlimited. */
    stock: number | null;
  }

  export interface StockAlert {
    productId: string;
    variantId: string | null;
    stockLevel: string;
    message: string;
    timestamp: string;
  }

  export interface ProductStatusChange {
    productId: string;
    status: string;
    timestamp: string;
  }

  export interface InventoryFeed {
    /** The newest first, 50 at most. */
    inventoryUpdates: InventoryUpdate[];
    /** Only on the admin's stream. */
    stockAlerts: StockAlert[];
    productStatusChanges: ProductStatusChange[];
    clearInventoryUpdates: () => void;
    clearStockAlerts: () => void;
    clearProductStatusChanges: () => void;
    connectionState: ConnectionState;
    isConnected: boolean;
  }

  export interface ProductUpdates {
    /** Units; null: unlimited; undefined: not known yet. */
    stock: number | null | undefined;
    /** Cents. */
    price: number | undefined;
    status: string | undefined;
    /** Whether something came since the component was mounted. */
    hasUpdates: boolean;
    lastUpdate: Date | null;
  }

  export interface InventoryProviderProps extends StockStreamOptions {
    /** Such as https://stock.example; default: where the module came from. */
    base?: string;
    /** Whom the feed is about; default: the whole catalogue. */
    productIds?: string[];
    children?: import('react').ReactNode;
  }

  export interface Hooks {
    InventoryProvider: (props: InventoryProviderProps) => import('react').ReactElement;
    useInventory: (productId: string, options?: UseInventoryOptions) => UseInventoryResult;
    useProductUpdates: (productId: string, variantId?: string | null) => ProductUpdates;
    useInventoryFeed: () => InventoryFeed;
    useStockStream: () => StockStream;
  }

  /** The hooks, for the React that is given. */
  export function createHooks(react: typeof import('react')): Hooks;
}

declare module 'stream-server/react.js' {
  import type { Hooks } from 'stream-server/hooks.js';
  export const InventoryProvider: Hooks['InventoryProvider'];
  export const useInventory: Hooks['useInventory'];
  export const useProductUpdates: Hooks['useProductUpdates'];
  export const useInventoryFeed: Hooks['useInventoryFeed'];
  export const useStockStream: Hooks['useStockStream'];
}

interface HTMLElementTagNameMap {
  'stock-indicator': import('stream-server/define.js').StockIndicator;
  'low-stock-warning': import('stream-server/define.js').LowStockWarning;
  'sold-out-badge': import('stream-server/define.js').SoldOutBadge;
  'live-price': import('stream-server/define.js').LivePrice;
  'add-to-cart': import('stream-server/define.js').AddToCart;
  'notify-me': import('stream-server/define.js').NotifyMe;
  'inventory-toasts': import('stream-server/define.js').InventoryToasts;
  'connection-status': import('stream-server/define.js').ConnectionStatus;
}
