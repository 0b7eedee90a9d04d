//! duralog in the browser.
