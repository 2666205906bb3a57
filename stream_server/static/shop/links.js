// Where the shop's pages and its server are: everything that a script asks for or leads to.

const { root = '', pictures = '' } = document.documentElement.dataset;

/** One of the server's paths, such as /cart, under the prefix that browsers reach it at.
 * @param {string} path
 */
export const link = (path) => root + path;

/** @param {string} productId */
export const pageOf = (productId) => link(`/products/${encodeURIComponent(productId)}`);

/** @param {string} productId @param {string} [finish] */
export const pictureOf = (productId, finish) =>
  pictures +
  encodeURIComponent(productId) +
  (finish ? `?${new URLSearchParams({ finish })}` : '');
