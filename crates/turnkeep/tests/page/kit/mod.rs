//! What the tests of the page share: the real server, a real browser, and people in its windows.
//!
//! | module | |
//! | --- | --- |
//! | [`server`] | the real binary, which may be killed and started again |
//! | [`api`] | what the server itself says about a conversation |
//! | [`browser`] | Chromium and its driver |
//! | [`person`] | one window, and who writes in it |
//!
//! `look.js` is what a test can ask of the page.

pub(crate) mod api;
pub(crate) mod browser;
pub(crate) mod person;
pub(crate) mod server;
