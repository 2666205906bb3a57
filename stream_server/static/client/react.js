// The hooks for pages where the bare specifier `react` leads somewhere: by an import map, or by the
// bundler of a project that this folder was copied into. Elsewhere: createHooks of hooks.js.

import * as React from 'react';
import { createHooks } from './hooks.js';

export const { InventoryProvider, useInventory, useProductUpdates, useInventoryFeed, useStockStream } =
  createHooks(React);
