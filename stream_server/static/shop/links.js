// The URLs of the shop's pages, pictures and API.

const { root = '', pictures = '' } = document.documentElement.dataset;

/** Adds the prefix under which browsers reach the server to a path, such as /cart.
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
