// One tab of a shop leads: it holds the connection and tells the others what it hears. Where the
// browser has no locks or channels, every page leads itself.

export class Tabs {
  #name;
  #onLead;
  #onMessage;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  #left = new AbortController();

  /**
   * @param {string} name of what the tabs share
   * @param {(isLeader: boolean) => void} onLead
   * @param {(message: any) => void} onMessage from another tab
   */
  constructor(name, onLead, onMessage) {
    this.#name = name;
    this.#onLead = onLead;
    this.#onMessage = onMessage;
  }

  join() {
    this.#left = new AbortController();
    if (!navigator.locks || !globalThis.BroadcastChannel) return this.#onLead(true);
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#onMessage(data);
    this.#queue({ signal: this.#left.signal });
  }

  /** Leads at once: the tab that did is frozen. */
  steal() {
    this.#queue({ steal: true });
  }

  leave() {
    this.#left.abort();
    this.#channel?.close();
  }

  /** @param {object} message */
  post(message) {
    this.#channel?.postMessage(message);
  }

  /** @param {LockOptions} options */
  #queue(options) {
    const { signal } = this.#left;
    let hasLed = false;
    navigator.locks
      .request(this.#name, options, () => {
        hasLed = true;
        if (signal.aborted) return;
        this.#onLead(true);
        return new Promise((resolve) => signal.addEventListener('abort', resolve));
      })
      .catch(() => {
        if (signal.aborted) return;
        this.#onLead(!hasLed); // stolen from us, who slept; or a page that may not use locks
        if (hasLed) this.#queue({ signal });
      });
  }
}
