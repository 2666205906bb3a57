// Importing this module registers the elements.

import { register } from './register.js';

register();
