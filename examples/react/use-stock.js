import { useCallback, useSyncExternalStore } from 'react';
// The bundler leaves this import to the browser (--external in package.json): the client then always
// fits the server that it comes from, and reads from that server.
import { stockStream } from 'http://127.0.0.1:8000/client/stock-stream.js';

// One store, and so one connection, for all components; the shop's other tabs share it, too.
const stock = stockStream();

/**
 * A product as it is now; null: there is no such product; undefined: the server has not answered yet.
 * @param {string} productId
 */
export function useStock(productId) {
  // React subscribes anew when it gets another function: only for another product.
  const subscribe = useCallback(
    (/** @type {() => void} */ changed) => stock.watch(productId, changed),
    [productId],
  );
  return useSyncExternalStore(subscribe, () => stock.get(productId));
}

/** @param {() => void} changed */
const watchState = (changed) => {
  stock.addEventListener('statechange', changed);
  return () => stock.removeEventListener('statechange', changed);
};

/** How the connection is: `connecting`, `live`, `polling`, `stale` or `offline`. */
export const useConnection = () => useSyncExternalStore(watchState, () => stock.state);
