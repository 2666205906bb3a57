// What client.d.ts says, held against what the modules are. Checked by tsc in scripts/lint, not run.

import * as hooks from '../../stream_server/static/client/hooks.js';
import { AddToCart } from '../../stream_server/static/client/add-to-cart.js';
import { StockIndicator } from '../../stream_server/static/client/stock-indicator.js';
import { InventoryToasts } from '../../stream_server/static/client/inventory-toasts.js';
import * as store from '../../stream_server/static/client/stock-stream.js';

export const saidStore: typeof import('stream-server/stock-stream.js').stockStream =
  store.stockStream;
export const saidHooks: typeof import('stream-server/hooks.js') = hooks;
export const elements: [
  import('stream-server/define.js').AddToCart,
  import('stream-server/define.js').StockIndicator,
  import('stream-server/define.js').InventoryToasts,
] = [new AddToCart(), new StockIndicator(), new InventoryToasts()];
