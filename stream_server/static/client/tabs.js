// One tab of a shop leads: it has the connection and passes events on to the others. If the browser has
// no locks or channels, or they throw (site data may be blocked), every page leads itself.

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
    try {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#onMessage(data);
    } catch {
      return this.#alone();
    }
    this.#queue({ signal: this.#left.signal });
  }

  /** Leads itself, without contact to other tabs. */
  #alone() {
    this.#channel?.close();
    this.#channel = undefined;
    this.#onLead(true);
  }

  /** Leads at once, because the leading tab is frozen. */
  steal() {
    this.#queue({ steal: true });
  }

  leave() {
    this.#left.abort();
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** @param {object} message */
  post(message) {
    try {
      this.#channel?.postMessage(message);
    } catch {
      this.#channel = undefined;
    }
  }

  /** @param {LockOptions} options */
  #queue(options) {
    const { signal } = this.#left;
    let hasLed = false;
    const lead = () => {
      hasLed = true;
      if (signal.aborted) return;
      this.#onLead(true);
      return new Promise((resolve) => signal.addEventListener('abort', resolve));
    };
    // In a promise, so that an exception and a rejection are handled alike.
    new Promise((resolve) => resolve(navigator.locks.request(this.#name, options, lead))).catch(() => {
      if (signal.aborted) return;
      if (!hasLed) return this.#alone();
      this.#onLead(false); // another tab took the lock while this one was frozen
      this.#queue({ signal });
    });
  }
}
