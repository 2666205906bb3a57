import { AddToCart } from './add-to-cart.js';
import { ConnectionStatus } from './connection-status.js';
import { InventoryToasts } from './inventory-toasts.js';
import { LivePrice } from './live-price.js';
import { LowStockWarning } from './low-stock-warning.js';
import { NotifyMe } from './notify-me.js';
import { SoldOutBadge } from './sold-out-badge.js';
import { StockIndicator } from './stock-indicator.js';

/** Registers each element whose tag is not registered yet. */
export function register() {
  for (const [tag, element] of Object.entries({
    'add-to-cart': AddToCart,
    'connection-status': ConnectionStatus,
    'inventory-toasts': InventoryToasts,
    'live-price': LivePrice,
    'low-stock-warning': LowStockWarning,
    'notify-me': NotifyMe,
    'sold-out-badge': SoldOutBadge,
    'stock-indicator': StockIndicator,
  })) {
    customElements.get(tag) ?? customElements.define(tag, element);
  }
}
