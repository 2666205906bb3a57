import { styles } from './element.js';
import { stockStream } from './stock-stream.js';

/** @type {Record<import('stream-server/stock-stream.js').ConnectionState, string>} */
const TEXTS = {
  connecting: 'Connecting',
  live: 'Live',
  polling: 'Updated every 10 seconds',
  stale: 'Stock info may be outdated',
  offline: 'Offline',
};

/** How the page stands with the server; its attribute `state` says the same. */
export class ConnectionStatus extends HTMLElement {
  static styles = styles(`
    :host { display: inline-flex; align-items: center; gap: .4em }
    [part~=dot] {
      width: .6em; height: .6em; border-radius: 50%; background: var(--connection-color, #8a8f98);
    }
    :host([state=live]) { --connection-color: #1a9c4b }
    :host([state=polling]) { --connection-color: #c98a00 }
    :host([state=stale]), :host([state=offline]) { --connection-color: #c92a2a }
  `);

  #store = stockStream();

  connectedCallback() {
    if (!this.shadowRoot) {
      const root = this.attachShadow({ mode: 'open' });
      root.innerHTML = '<span part="dot"></span><span part="text"></span>';
      root.adoptedStyleSheets = ConnectionStatus.styles;
    }
    this.#store = stockStream(this.closest('[base]')?.getAttribute('base'));
    this.#store.addEventListener('statechange', this.#update);
    this.#update();
  }

  disconnectedCallback() {
    this.#store.removeEventListener('statechange', this.#update);
  }

  #update = () => {
    const { state } = this.#store;
    const text = this.shadowRoot?.querySelector('[part=text]');
    this.setAttribute('state', state);
    if (text) text.textContent = TEXTS[state];
  };
}
