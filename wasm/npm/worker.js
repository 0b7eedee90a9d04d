// The worker that serves a log to a window.

import './inlined.js';
