import { StoreElement } from './element.js';

/** @type {Record<import('stream-server/stock-stream.js').ConnectionState, string>} */
const TEXTS = {
  connecting: 'Connecting',
  live: 'Live',
  polling: 'Updated every 10 seconds',
  stale: 'Stock info may be outdated',
  offline: 'Offline',
};

/** The state of the connection, as text and as the attribute `state`. */
export class ConnectionStatus extends StoreElement {
  static html = '<span part="dot"></span><span part="text"></span>';

  /** @param {AbortSignal} signal */
  connect(signal) {
    const { store } = this;
    const update = () => {
      this.setAttribute('state', store.state);
      this.piece('text', TEXTS[store.state]);
    };
    store.addEventListener('statechange', update, { signal });
    update();
  }
}
