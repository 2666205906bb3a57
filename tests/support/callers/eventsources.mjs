// node eventsources.mjs PACKAGE URL…: an EventSource for each URL, of `eventsource` or `undici`. Tells
// what happens to the n-th one, as a line of JSON each.
import buffer from "node:buffer";

// Debian 12 has Node 18, which lacks two things that undici 7 takes for granted.
globalThis.File ??= buffer.File;
String.prototype.toWellFormed ??= String.prototype.toString;

const [name, ...urls] = process.argv.slice(2);
const { EventSource } = await import(name);
const tell = (n, what, data) => process.stdout.write(`${JSON.stringify({ n, what, data })}\n`);

setInterval(() => {}, 2 ** 30); // what waits to reconnect does not keep Node running, with undici

urls.forEach((url, n) => {
    const source = new EventSource(url);
    source.addEventListener("open", () => tell(n, "open"));
    source.addEventListener("error", () => {
        if (source.readyState === 2) tell(n, "closed");
    });
    for (const what of ["reset", "snapshot", "inventory_updated"]) {
        source.addEventListener(what, (event) => tell(n, what, JSON.parse(event.data)));
    }
});
