// The hooks for pages in which the specifier `react` is known: by an import map, or by the bundler of a
// project that contains this folder. For other pages: createHooks of hooks.js.

import * as React from 'react';
import { createHooks } from './hooks.js';

export const { InventoryProvider, useInventory, useProductUpdates, useInventoryFeed, useStockStream } =
  createHooks(React);
