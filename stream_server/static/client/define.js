// Registers the elements: import it, and the tags live.

import { AddToCart } from './add-to-cart.js';
import { ConnectionStatus } from './connection-status.js';
import { InventoryToasts } from './inventory-toasts.js';
import { LivePrice } from './live-price.js';
import { LowStockWarning } from './low-stock-warning.js';
import { NotifyMe } from './notify-me.js';
import { SoldOutBadge } from './sold-out-badge.js';
import { StockIndicator } from './stock-indicator.js';

for (const [name, element] of Object.entries({
  'stock-indicator': StockIndicator,
  'low-stock-warning': LowStockWarning,
  'sold-out-badge': SoldOutBadge,
  'live-price': LivePrice,
  'add-to-cart': AddToCart,
  'notify-me': NotifyMe,
  'inventory-toasts': InventoryToasts,
  'connection-status': ConnectionStatus,
})) {
  if (!customElements.get(name)) customElements.define(name, element);
}

export {
  AddToCart,
  ConnectionStatus,
  InventoryToasts,
  LivePrice,
  LowStockWarning,
  NotifyMe,
  SoldOutBadge,
  StockIndicator,
};
