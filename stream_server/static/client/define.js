// Registers the elements: import it, and the tags live.

import { register } from './register.js';

register();
