import { useCallback, useSyncExternalStore } from 'react';
// The bundler leaves this import to the browser (--external in package.json). So the client always
// has the version of its server, and gets its data from that server.
import { stockStream } from 'http://127.0.0.1:8000/client/stock-stream.js';

// All components share this store and its connection. The shop's other tabs share the connection.
const stock = stockStream();

/**
 * Returns the current state of a product; null: no such product; undefined: no answer yet.
 * @param {string} productId
 */
export function useStock(productId) {
  // React subscribes again when this function changes, which is only for another product.
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

/** Returns the state of the connection: `connecting`, `live`, `polling`, `stale` or `offline`. */
export const useConnection = () => useSyncExternalStore(watchState, () => stock.state);
