// The connection to the server for all products of all tabs: a stream, and polls while it is not live.

/** @import {PageStock, Wire} from 'stream-server/stock-stream.js' */

const SILENCE = 40_000; // ms: a stream pings every 15 s
const DOUBT = 20_000; // ms of silence after which a page that wakes up opens a new stream
const MAX_BACKOFF = 30_000; // ms, and up to half as much again
const MAX_SILENCES = 3; // streams that send nothing; after these, they are tried less and less often
const MAX_REST = 1_800_000; // ms between two of these
const MAX_IDS = 500; // the server's limit
const MAX_QUERY = 6_000; // characters that every proxy accepts
const EVENTS = [
  'snapshot',
  'inventory_updated',
  'product_status_changed',
  'stock_alert',
  'ping',
  'source',
  'reset',
];

const jitter = () => 0.5 + Math.random();

/** @param {string} position */
const epochOf = (position) => position.split('.')[0];

/**
 * Requests products, in as many requests as needed, and passes each answer to `take`.
 * @param {string} base
 * @param {string[]} ids
 * @param {(data: Wire, start: number) => void} take
 * @param {AbortSignal} [signal]
 * @param {Map<string, string>} [etags]
 */
export async function ask(base, ids, take, signal, etags) {
  for (let start = 0; !start || start < ids.length; start += MAX_IDS) {
    const productIds = ids.slice(start, start + MAX_IDS);
    const key = JSON.stringify(productIds);
    const etag = etags?.get(key) || undefined;
    const answer = await fetch(base + '/api/inventory/batch', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ productIds, etag }),
      signal,
    });
    if (!answer.ok) throw new Error(`Server answered ${answer.status}`);
    const { data, unknown, stale, position, unchanged } = await answer.json();
    etags?.set(key, answer.headers.get('ETag') ?? '');
    take({ live: !stale, ...(!unchanged && { products: data, unknown, position }) }, start);
  }
}

/**
 * `emit` gets each event by its name, a poll's answer as a `snapshot` with `isPoll`, and the state of
 * the connection as `link`.
 */
export class Connection {
  /** The products that are covered. @type {Set<string>} */
  ids = new Set();
  isAll = false;
  /** ms between polls */
  interval = 0;

  #base;
  #path;
  #emit;
  /** The position from which a stream resumes without losing a change of `ids`; empty: none. */
  #position = '';
  /** @type {EventSource | undefined} */
  #source;
  #isOn = false;
  #isLive = false;
  #isCatalogue = false;
  #failures = 0;
  /** How many streams in a row were opened and sent nothing. */
  #silences = 0;
  #heard = 0;
  #retryAt = 0;
  #pollAt = Infinity;
  #polledAt = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #abort = new AbortController();
  /** @type {Map<string, string>} */
  #etags = new Map();

  /**
   * @param {string} base
   * @param {string} path of the stream
   * @param {(kind: string, data: any) => void} emit
   * @param {PageStock} page what the page came with
   */
  constructor(base, path, emit, page) {
    this.page = page;
    this.#base = base;
    this.#path = path;
    this.#emit = emit;
  }

  /**
   * Covers these products (with `isAll` also all others) from now on.
   * @param {Set<string>} ids
   * @param {boolean} isAll
   */
  cover(ids, isAll) {
    const isCovered = [...ids].every((id) => this.ids.has(id)) && (this.isAll || !isAll);
    this.ids = ids;
    this.isAll = isAll;
    if (!isCovered) {
      this.#forget();
      const { position, known } = this.page;
      if ([...ids].every((id) => known[id]?.version)) this.#position = position;
    }
    if (!this.#isOn || (!ids.size && !isAll) || (!isCovered && this.#source && !this.#isCatalogue)) this.reopen();
    else if (!isCovered) this.#pollBy(0);
  }

  /** Opens a new stream at once, or polls where there are no streams. */
  reopen() {
    this.close();
    if (!this.ids.size && !this.isAll) return; // there is nothing to request
    this.#isOn = true;
    this.#failures = 0;
    this.#retryAt = globalThis.EventSource ? 0 : Infinity;
    this.#report('connecting');
    this.#pollBy(this.#retryAt ? 0 : Date.now() + this.interval);
  }

  /** After the page woke up: replaces a stream that was silent meanwhile. */
  wake() {
    if (this.#silences >= MAX_SILENCES) this.#pollBy(0);
    else if (!this.#source || Date.now() - this.#heard > DOUBT) this.reopen();
  }

  /** Polls soon, because an event was wrong or incomplete. */
  recheck() {
    this.#pollBy(Math.max(Date.now() + 1000 * jitter(), this.#polledAt + this.interval));
  }

  /** Ends the stream, all timers and requests; `cover` resumes. */
  close() {
    this.#isOn = this.#isLive = false;
    this.#source?.close();
    this.#source = undefined;
    this.#drop();
    clearTimeout(this.#timer);
  }

  /** Aborts requests. */
  #drop() {
    this.#abort.abort();
    this.#abort = new AbortController();
  }

  #forget() {
    this.#position = '';
    this.#etags.clear();
  }

  /** @param {number} time */
  #pollBy(time) {
    this.#pollAt = Math.min(this.#pollAt, time);
    this.#tick();
  }

  #tick = () => {
    clearTimeout(this.#timer);
    if (!this.#isOn) return;
    const now = Date.now();
    this.#heard = Math.min(this.#heard, now); // the clock may be set back
    if (now >= this.#pollAt) this.#poll();
    if (this.#source && now - this.#heard >= SILENCE) {
      this.#silences += this.#isLive ? 0 : 1;
      return this.#fail(0);
    }
    if (!this.#source && now >= this.#retryAt) return this.#open();
    const next = Math.min(this.#source ? this.#heard + SILENCE : this.#retryAt, this.#pollAt);
    this.#timer = setTimeout(this.#tick, Math.min(next - now, SILENCE));
  };

  async #open() {
    this.#retryAt = Infinity;
    const ids = [...this.ids];
    const query = `productIds=${ids.map(encodeURIComponent)}`;
    this.#isCatalogue =
      this.isAll ||
      ids.length > MAX_IDS ||
      query.length > MAX_QUERY ||
      ids.some((id) => id.includes(','));
    if (this.#isCatalogue && !this.#position) {
      // A catalogue's stream begins with all products: poll those that are shown, and go on from there.
      const { signal } = this.#abort;
      await this.#poll();
      if (signal.aborted) return;
      if (!this.#position) return this.#fail(Infinity);
    }
    const source = new EventSource(
      `${this.#base}${this.#path}?${this.#isCatalogue ? '' : query}` +
        (this.#position && `&lastEventId=${encodeURIComponent(this.#position)}`),
    );
    for (const kind of EVENTS) source.addEventListener(kind, (event) => this.#take(event));
    source.onerror = () => this.#fail(this.interval);
    this.#source = source;
    this.#heard = Date.now();
    this.#tick();
  }

  /** @param {MessageEvent<string>} event */
  #take({ type, data, lastEventId }) {
    this.#heard = Date.now();
    let parsed;
    try {
      parsed = JSON.parse(data);
    } catch {
      // The store counts undefined data as invalid.
    }
    if (type === 'ping') this.#failures = 0;
    this.#silences = 0;
    if (type === 'reset') {
      this.#forget();
      this.#drop();
    }
    if (type === 'snapshot' && !this.#isLive) {
      this.#isLive = true;
      this.#pollAt = Infinity;
      this.#report('live');
    }
    this.#emit(type, parsed);
    this.#position = lastEventId || this.#position;
    if (type === 'reset' && this.#isCatalogue) this.#pollBy(0);
  }

  /** @param {number} patience ms until the next poll, if this is no series of failures */
  #fail(patience) {
    this.#source?.close();
    this.#source = undefined;
    const backoff = Math.min(MAX_BACKOFF, 1000 * 2 ** this.#failures++);
    // A proxy that buffers streams may also keep each one open: open only few.
    const rest = this.#silences < MAX_SILENCES ? 0 : 60_000 * 2 ** (this.#silences - MAX_SILENCES);
    this.#retryAt = Date.now() + Math.max(backoff, Math.min(MAX_REST, rest)) * jitter();
    if (this.#isLive) this.#report('connecting', 'Stream interrupted');
    this.#isLive = false;
    this.#pollBy(Date.now() + (this.#failures === 2 ? 0 : patience));
  }

  async #poll() {
    const { signal } = this.#abort;
    this.#polledAt = Date.now();
    const isLost = (this.#pollAt = this.#polledAt + 3 * this.interval);
    let hasFailed = false;
    try {
      let position = '';
      await ask(
        this.#base,
        [...this.ids],
        (data, start) => {
          if (!start) position = data.position ?? '';
          if (position && this.#position && epochOf(position) !== epochOf(this.#position)) {
            this.#position = '';
            this.#emit('reset', {});
          }
          this.#emit('snapshot', { ...data, isPoll: true });
        },
        signal,
        this.#etags,
      );
      this.#position = position || this.#position;
      if (!this.#isLive) this.#report('polling');
    } catch (error) {
      hasFailed = true;
      if (!signal.aborted && !this.#isLive) this.#report('connecting', String(error));
    }
    if (signal.aborted) return;
    if (this.#pollAt === isLost) this.#pollAt = Infinity;
    const isDone = this.#isLive && !hasFailed; // the poll also got what the stream does not send
    this.#pollBy(isDone ? Infinity : Date.now() + this.interval * (0.9 + Math.random() / 5));
  }

  /** @param {'connecting' | 'live' | 'polling'} link @param {string} [error] */
  #report(link, error) {
    this.#emit('link', { link, error });
  }
}
