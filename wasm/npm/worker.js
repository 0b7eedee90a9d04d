// The worker that serves a log to a window.

import './index.js';
